"""Drift of each feature between the training data and a month."""

from collections.abc import Callable
from dataclasses import replace
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
        null_share_rise: Change of the share of nulls; negative where nulls fell.
        null_p_value: p-value of that change, corrected likewise; None also in older reports.
        spread_p_value: p-value of the change of the spread, corrected likewise.
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
    null_p_value: Finite = None
    spread_change: Finite = None
    spread_p_value: Finite = None
    unseen_share: float
    unseen: tuple[str, ...]
    vanished_share: float = 0.0
    vanished: tuple[str, ...] = ()
    reasons: tuple[str, ...]
    drifted: bool


def compare_features(
    training: pd.DataFrame, month: pd.DataFrame, contract: Contract, limits: Limits
) -> tuple[FeatureDrift, ...]:
    """Compares every model input and every sensitive column once.

    A feature drifts when its distribution moved both significantly (corrected p-value) and far
    enough to matter (effect); when its share of nulls rose above the limit, or fell by as much
    beyond chance; when the spread of a number changed in either direction beyond chance and beyond
    the limit; when too many rows have a new category, or too many training rows one that vanished.
    Distributions exclude nulls, which are judged separately.

    Args:
        training: Typed rows with the contract's features and derived features.
        month: Typed rows likewise.
    """
    sensitive = tuple(column.name for column in contract.columns if column.sensitive)
    names = tuple(dict.fromkeys((*contract.model_inputs, *sensitive)))
    found = [
        measure_shift(training[name], month[name], _kind(name, contract), limits) for name in names
    ]
    corrected = _corrected([one.p_value for one in found])
    nulls = _corrected([one.null_p_value for one in found])
    spreads = _corrected([one.spread_p_value for one in found])
    judged = []
    for name, one, p, null_p, spread_p in zip(names, found, corrected, nulls, spreads, strict=True):
        shift = replace(one, null_p_value=null_p, spread_p_value=spread_p)
        kind = _kind(name, contract)
        judged.append(_judged(name, kind, name in sensitive, shift, p, limits))
    return tuple(judged)


def nulls_changed(one: FeatureDrift, limits: Limits) -> bool:
    """Whether the share of nulls rose above the limit, or fell below it beyond chance.

    A rise counts whatever its p-value: nulls that were not there before are a fault in few rows
    too. A small month lacks the nulls of training by chance, so a fall needs a p-value.
    """
    change, p, limit = one.null_share_rise or 0.0, one.null_p_value, limits.max_null_share_rise
    return change > limit or (change < -limit and p is not None and p <= limits.max_drift_p_value)


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
    one = FeatureDrift(
        name=name,
        kind=kind,
        sensitive=sensitive,
        test="kolmogorov_smirnov" if kind == "number" else "chi_squared",
        corrected_p_value=p,
        null_share_rise=None if before is None or after is None else after - before,
        reasons=(),
        drifted=False,
        **vars(found),
    )
    reasons = tuple(text for reason in REASONS if (text := reason(one, limits)))
    return one.model_copy(update={"reasons": reasons, "drifted": bool(reasons)})


def _distribution_moved(one: FeatureDrift, limits: Limits) -> str:
    p, effect = one.corrected_p_value, one.effect or 0.0
    if p is None or p > limits.max_drift_p_value or effect < limits.min_drift_effect:
        return ""
    distance = "Kolmogorov-Smirnov" if one.kind == "number" else "total variation"
    return (
        f"its distribution moved: {distance} distance {effect:.3f} (limit "
        f"{limits.min_drift_effect:g}), {_chance(p, limits)}"
    )


def _nulls_changed(one: FeatureDrift, limits: Limits) -> str:
    if not nulls_changed(one, limits):
        return ""
    verb = "rose" if (one.null_share_rise or 0.0) > 0 else "fell"
    return (
        f"nulls {verb} from {one.training.null_share:.1%} to {one.month.null_share:.1%} "
        f"(limit: a change of {limits.max_null_share_rise:.1%})"
    )


def _has_new_categories(one: FeatureDrift, limits: Limits) -> str:
    if one.unseen_share <= limits.max_unseen_share:
        return ""
    return (
        f"{one.unseen_share:.1%} of the rows have a category that is not, or hardly, in the "
        f"training data (limit {limits.max_unseen_share:.1%}): {', '.join(one.unseen)}"
    )


def _lost_categories(one: FeatureDrift, limits: Limits) -> str:
    if one.vanished_share <= limits.max_unseen_share:
        return ""
    return (
        f"{one.vanished_share:.1%} of the training rows have a category that no row, or hardly "
        f"any, has now (limit {limits.max_unseen_share:.1%}): {', '.join(one.vanished)}"
    )


def _spread_changed(one: FeatureDrift, limits: Limits) -> str:
    change, p = one.spread_change or 0.0, one.spread_p_value
    if p is None or p > limits.max_drift_p_value or abs(change) <= limits.max_spread_change:
        return ""
    verb = "rose" if change > 0 else "fell"
    return (
        f"its spread {verb}: standard deviation {one.training.spread:.4g} in training, "
        f"{one.month.spread:.4g} now (limit: a change of {limits.max_spread_change:.0%} of the "
        f"larger one), {_chance(p, limits)}"
    )


def _chance(p: float, limits: Limits) -> str:
    shown = "below 0.0001" if p < 1e-4 else f"{p:.4f}"
    return f"corrected p-value {shown} (limit {limits.max_drift_p_value:g})"


REASONS: tuple[Callable[[FeatureDrift, Limits], str], ...] = (
    _distribution_moved,
    _nulls_changed,
    _has_new_categories,
    _lost_categories,
    _spread_changed,
)
"""Reasons for which a feature drifts; each is an empty text where it does not apply."""
