"""Whether a month's customers still look like those the model was trained on."""

from typing import Literal

import pandas as pd

from churn_assets.contracts.contract import Contract, Frozen, Kind
from churn_assets.core.limits import Limits
from churn_assets.core.shift import Shift, Side, measure_shift
from churn_assets.core.verdict import Finite, Verdict

Test = Literal["kolmogorov_smirnov", "chi_squared"]


class FeatureDrift(Frozen):
    """How far one feature has moved; null where a side has no known values.

    See `churn_assets.core.shift.Shift` for the distances.

    Attributes:
        corrected_p_value: after Benjamini and Hochberg (1995) over all features of the report.
        reasons: why it drifted, in words; empty where it did not.
    """

    name: str
    kind: Kind
    sensitive: bool
    test: Test
    statistic: Finite
    p_value: Finite
    corrected_p_value: Finite
    effect: Finite
    psi: Finite
    training: Side
    month: Side
    null_share_rise: Finite
    unseen_share: float
    unseen: tuple[str, ...]
    reasons: tuple[str, ...]
    drifted: bool


class DriftReport(Frozen):
    """Every feature of one month against training; JSON by `model_dump_json`."""

    name: str
    contract_name: str
    contract_version: str
    training_rows: int
    month_rows: int
    features: tuple[FeatureDrift, ...]
    limits: Limits

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted."""
        return tuple(feature.name for feature in self.features if feature.drifted)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Every check on the report by its name."""
        checks = (no_feature_drift, no_new_categories, nulls_as_in_training)
        return {check.__name__: check(self) for check in checks}


def compare_month(
    training: pd.DataFrame,
    month: pd.DataFrame,
    contract: Contract,
    limits: Limits,
    *,
    name: str,
) -> DriftReport:
    """Compares every model input and every sensitive column once.

    A feature drifts when the shift is both beyond chance (corrected p-value) and large enough to
    matter (effect), when its nulls rose, or when too many of its categories are new. Nulls are
    left out of the distributions; they are judged by themselves.

    Args:
        training: typed rows with the contract's features and derived features.
        month: typed rows likewise.
        name: of the month, for the report.
    """
    sensitive = tuple(column.name for column in contract.columns if column.sensitive)
    names = tuple(dict.fromkeys((*contract.model_inputs, *sensitive)))
    found = [measure_shift(training[name], month[name], _kind(name, contract)) for name in names]
    corrected = _corrected([one.p_value for one in found])
    return DriftReport(
        name=name,
        contract_name=contract.name,
        contract_version=contract.version,
        training_rows=len(training),
        month_rows=len(month),
        features=tuple(
            _judged(column, _kind(column, contract), column in sensitive, one, p, limits)
            for column, one, p in zip(names, found, corrected, strict=True)
        ),
        limits=limits,
    )


def _kind(name: str, contract: Contract) -> Kind:
    own = {column.name: column.kind for column in contract.columns}
    return own.get(name, "number")


def _corrected(p_values: list[float | None]) -> list[float | None]:
    """Benjamini and Hochberg's correction of those that could be tested."""
    from scipy.stats import false_discovery_control  # a second to import

    tested = [p for p in p_values if p is not None]
    corrected = iter(false_discovery_control(tested).tolist() if tested else ())
    return [None if p is None else next(corrected) for p in p_values]


def _judged(
    name: str, kind: Kind, sensitive: bool, found: Shift, p: float | None, limits: Limits
) -> FeatureDrift:
    before, now = found.training.null_share, found.month.null_share
    rise = None if before is None or now is None else now - before
    reasons = _reasons(kind, found, p, rise, limits)
    return FeatureDrift(
        name=name,
        kind=kind,
        sensitive=sensitive,
        test="kolmogorov_smirnov" if kind == "number" else "chi_squared",
        corrected_p_value=p,
        null_share_rise=rise,
        reasons=reasons,
        drifted=bool(reasons),
        **vars(found),
    )


def _reasons(
    kind: Kind, found: Shift, p: float | None, rise: float | None, limits: Limits
) -> tuple[str, ...]:
    reasons = []
    effect = found.effect or 0.0
    if p is not None and p <= limits.max_drift_p_value and effect >= limits.min_drift_effect:
        distance = "Kolmogorov-Smirnov" if kind == "number" else "total variation"
        reasons.append(
            f"its distribution moved: {distance} distance {effect:.3f} (limit "
            f"{limits.min_drift_effect:g}), corrected p-value "
            f"{'below 0.0001' if p < 1e-4 else f'{p:.4f}'} (limit "
            f"{limits.max_drift_p_value:g})"
        )
    if rise is not None and rise > limits.max_null_share_rise:
        reasons.append(
            f"nulls rose from {found.training.null_share:.1%} to {found.month.null_share:.1%} "
            f"(limit: a rise of {limits.max_null_share_rise:.1%})"
        )
    if found.unseen_share > limits.max_unseen_share:
        reasons.append(
            f"{found.unseen_share:.1%} of the rows have a category that training never saw "
            f"(limit {limits.max_unseen_share:.1%}): {', '.join(found.unseen)}"
        )
    return tuple(reasons)


def no_feature_drift(report: DriftReport) -> Verdict:
    """No feature drifted for any reason."""
    drifted = report.drifted
    effects = [(one.effect, one.name) for one in report.features if one.effect is not None]
    largest, name = max(effects, default=(0.0, ""))
    moved = (one for one in report.features if one.drifted)
    why = "; ".join(f"{one.name}: {', '.join(one.reasons)}" for one in moved)
    return _unless_empty(
        report,
        Verdict(
            not drifted,
            f"{len(drifted)} of {len(report.features)} features drifted"
            + (f": {why}." if why else f"; the largest effect is {largest:.3f}."),
            {
                "value": len(drifted),
                "limit": 0,
                "drifted": ", ".join(drifted),
                "largest_effect": largest,
                "largest_effect_of": name,
                "effect_limit": report.limits.min_drift_effect,
                "p_value_limit": report.limits.max_drift_p_value,
            },
        ),
    )


def no_new_categories(report: DriftReport) -> Verdict:
    """Hardly any row has a category that training never saw; at the limit passes."""
    worst = max(report.features, key=lambda one: one.unseen_share)
    limit = report.limits.max_unseen_share
    names = f" ({', '.join(worst.unseen)})" if worst.unseen else ""
    where = f", in {worst.name}{names}" if worst.unseen else ""
    return _unless_empty(
        report,
        Verdict(
            worst.unseen_share <= limit,
            f"Up to {worst.unseen_share:.1%} of the rows have a category that training never "
            f"saw{where}; the limit is {limit:.1%}.",
            {
                "value": worst.unseen_share,
                "limit": limit,
                "feature": worst.name if worst.unseen else "",
                "unseen": ", ".join(worst.unseen),
            },
        ),
    )


def nulls_as_in_training(report: DriftReport) -> Verdict:
    """No feature has many more nulls than in training; at the limit passes."""
    worst = max(report.features, key=lambda one: one.null_share_rise or 0.0)
    rise, limit = worst.null_share_rise or 0.0, report.limits.max_null_share_rise
    where = f", in {worst.name}" if rise > 0 else ""
    return _unless_empty(
        report,
        Verdict(
            rise <= limit,
            f"The largest rise of a feature's nulls is {rise:.1%} of the rows{where}; "
            f"the limit is {limit:.1%}.",
            {"value": rise, "limit": limit, "feature": worst.name if rise > 0 else ""},
        ),
    )


def _unless_empty(report: DriftReport, verdict: Verdict) -> Verdict:
    """`verdict`, but nothing passes that could not be looked at."""
    if report.training_rows and report.month_rows:
        return verdict
    side = "the month" if report.training_rows else "training"
    return Verdict(False, f"There is nothing to compare: {side} has no rows.", verdict.numbers)
