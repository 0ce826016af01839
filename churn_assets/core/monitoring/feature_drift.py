"""Drift of each feature between the training data and a month."""

from typing import Literal

import pandas as pd

from churn_assets.contracts.contract import Contract, Frozen, Kind
from churn_assets.core.limits import Limits
from churn_assets.core.monitoring.shift import SampleSummary, Shift, measure_shift
from churn_assets.core.verdict import Finite

Test = Literal["kolmogorov_smirnov", "chi_squared"]


class FeatureDrift(Frozen):
    """Drift of one feature; numbers are null where a sample has no known values.

    See `churn_assets.core.monitoring.shift.Shift` for the distances.

    Attributes:
        corrected_p_value: p-value corrected over all features of the report by Benjamini and
            Hochberg (1995).
        reasons: Texts that say why the feature drifted; empty where it did not.
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
    training: SampleSummary
    month: SampleSummary
    null_share_rise: Finite
    unseen_share: float
    unseen: tuple[str, ...]
    reasons: tuple[str, ...]
    drifted: bool


def compare_features(
    training: pd.DataFrame, month: pd.DataFrame, contract: Contract, limits: Limits
) -> tuple[FeatureDrift, ...]:
    """Compares every model input and every sensitive column once.

    A feature drifts when its shift is both significant (corrected p-value) and large enough to
    matter (effect), when its share of nulls rose, or when too many rows have a new category.
    Distributions exclude nulls, which are judged separately.

    Args:
        training: Typed rows with the contract's features and derived features.
        month: Typed rows likewise.
    """
    sensitive = tuple(column.name for column in contract.columns if column.sensitive)
    names = tuple(dict.fromkeys((*contract.model_inputs, *sensitive)))
    found = [measure_shift(training[name], month[name], _kind(name, contract)) for name in names]
    corrected = _corrected([one.p_value for one in found])
    return tuple(
        _judged(column, _kind(column, contract), column in sensitive, one, p, limits)
        for column, one, p in zip(names, found, corrected, strict=True)
    )


def _kind(name: str, contract: Contract) -> Kind:
    own = {column.name: column.kind for column in contract.columns}
    return own.get(name, "number")


def _corrected(p_values: list[float | None]) -> list[float | None]:
    """P-values corrected by Benjamini and Hochberg; None stays None."""
    from scipy.stats import false_discovery_control  # a second to import

    tested = [p for p in p_values if p is not None]
    corrected = iter(false_discovery_control(tested).tolist() if tested else ())
    return [None if p is None else next(corrected) for p in p_values]


def _judged(
    name: str, kind: Kind, sensitive: bool, found: Shift, p: float | None, limits: Limits
) -> FeatureDrift:
    before, after = found.training.null_share, found.month.null_share
    rise = None if before is None or after is None else after - before
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
            f"{found.unseen_share:.1%} of the rows have a category that is not in the training "
            f"data (limit {limits.max_unseen_share:.1%}): {', '.join(found.unseen)}"
        )
    return tuple(reasons)
