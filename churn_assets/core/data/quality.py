"""Verdicts of the checks on tables, training rows and scorers."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pandera.pandas as pa

from churn_assets.contracts.contract import MONTH, Contract
from churn_assets.contracts.schemas import feature_schema, raw_schema
from churn_assets.core.data import leaks
from churn_assets.core.data.splitting import (
    CALIBRATION,
    SPLIT,
    TEST,
    TRAINING,
    ids_in_several_splits,
    rows_of_split,
)
from churn_assets.core.data.validation import Validation
from churn_assets.core.limits import Limits
from churn_assets.core.verdict import Verdict, not_judged

SAME_PROBABILITY = 1e-12
"""Largest allowed difference between two computations of the same probability."""


def columns_present(rows: pd.DataFrame, contract: Contract) -> Verdict:
    """The snapshot has every column of the contract, as text."""
    raw_schema(contract).validate(rows)
    names = ", ".join(column.name for column in contract.snapshot)
    return Verdict(True, f"Every column of the contract is present: {names}.")


def rows_present(rows: int, month: str) -> Verdict:
    """The month has rows; a month without customers is a fault of the source."""
    return Verdict(
        rows > 0, f"The source delivered {rows:,} rows for {month}; at least 1 is needed.",
        {"rows": rows, "limit": 1},
    )  # fmt: skip


def row_count_as_usual(rows: int, earlier: Mapping[str, int], limits: Limits) -> Verdict:
    """The row count is near the median of the earlier months; not judged without one."""
    if not earlier:
        why = "there is no earlier month to compare with; at least one is needed."
        return not_judged(why, {"rows": rows})
    usual = float(np.median(list(earlier.values())))
    low, high = limits.min_rows_to_usual * usual, limits.max_rows_to_usual * usual
    return Verdict(
        low <= rows <= high,
        f"{rows:,} rows against {usual:,.0f} in a usual month; "
        f"{low:,.0f} to {high:,.0f} are expected.",
        {"rows": rows, "usual_rows": usual, "min_rows": low, "max_rows": high},
    )


def label_rate_within_bounds(labels: pd.Series, limits: Limits) -> Verdict:
    """The churn rate among known labels is plausible."""
    known = labels.dropna()
    low, high = limits.min_label_rate, limits.max_label_rate
    numbers: dict[str, float | int | str] = {
        "known_labels": len(known), "min_rate": low, "max_rate": high,
    }  # fmt: skip
    if known.empty:
        return Verdict(False, "No label is known; at least one must be.", numbers)
    rate = float(known.mean())
    return Verdict(
        low <= rate <= high,
        f"{rate:.2%} of {len(known):,} customers left; {low:.2%} to {high:.2%} is plausible.",
        {"label_rate": rate, **numbers},
    )


def every_id_known(labelled: pd.Series, customers: pd.Series, limits: Limits) -> Verdict:
    """The labelled ids are in the month's snapshot; a share of unknown ids at the limit passes.

    A few ids may be unknown, because their rows were delivered without a readable id.
    """
    if labelled.empty:
        return not_judged("no label was delivered; at least one is needed.", {"unknown_ids": 0})
    # pandas would look up Arrow text value by value.
    unknown = labelled[~labelled.astype(object).isin(customers)]
    share = len(unknown) / len(labelled)
    limit = limits.max_unknown_id_share
    shown = f", such as {', '.join(unknown.head(3).astype(str))}" if len(unknown) else ""
    return Verdict(
        share <= limit,
        f"{len(unknown):,} labelled ids ({share:.2%}) are not in the month's snapshot{shown}; "
        f"at most {limit:.2%} may be unknown.",
        {"unknown_ids": len(unknown), "unknown_share": share, "limit": limit},
    )


def quarantined_share_within_limit(validation: Validation, limits: Limits) -> Verdict:
    """The delivery as a whole is not broken: few rows are quarantined; at the limit passes."""
    share, limit = validation.quarantined_share, limits.max_quarantined_share
    return Verdict(
        share <= limit and not validation.accepted.empty,
        f"{len(validation.quarantined):,} of {validation.rows:,} rows ({share:.2%}) broke the "
        f"contract; at most {limit:.2%} may, and at least one row must be accepted.",
        {
            "quarantined_rows": len(validation.quarantined),
            "quarantined_share": share,
            "limit": limit,
        },
    )


def features_honour_schema(features: pd.DataFrame, contract: Contract) -> Verdict:
    """The accepted rows satisfy the feature schema."""
    try:
        feature_schema(contract).validate(features, lazy=True)
    except pa.errors.SchemaErrors as errors:
        broken = errors.failure_cases[["column", "check"]].drop_duplicates().head(5)
        found = "; ".join(f"{column}: {rule}" for column, rule in broken.itertuples(index=False))
        return Verdict(False, f"The features break their schema: {found}", {"rows": len(features)})
    if features.empty:
        return not_judged("no row was accepted; at least one is needed.", {"rows": 0})
    return Verdict(
        True,
        f"{len(features):,} rows of {features.shape[1]} columns honour the feature schema.",
        {"rows": len(features), "columns": features.shape[1]},
    )


def months_honour_contract(features: pd.DataFrame, contract: Contract) -> Verdict:
    """Every month satisfies the current contract, not only an earlier version of it."""
    if features.empty:
        return not_judged("there are no rows; at least one month of them is needed.", {"months": 0})
    broken = [
        f"{month}: {verdict.description}"
        for month, rows in features.groupby(MONTH)
        if not (verdict := features_honour_schema(rows, contract)).passed
    ]
    months = int(features[MONTH].nunique())
    again = "; materialise validated_features of these months again" if broken else ""
    return Verdict(
        not broken,
        f"{len(broken)} of {months} months break the current contract"
        f"{': ' if broken else '.'}{'; '.join(broken)}{again}",
        {"months": months, "broken_months": len(broken), "limit": 0},
    )


def nulls_within_limit(features: pd.DataFrame, contract: Contract, limits: Limits) -> Verdict:
    """No nullable feature has too many nulls; a share at the limit passes."""
    names = [column.name for column in contract.features if column.nullable]
    limit = limits.max_null_share
    if not names or features.empty:
        missing = "no row was accepted" if names else "the contract has no nullable feature"
        why = f"{missing}; rows with at least one nullable feature are needed."
        return not_judged(why, {"limit": limit})
    shares = features[names].isna().mean()
    above = shares[shares > limit]
    found = ", ".join(f"{name} {share:.1%}" for name, share in above.items()) or "none"
    return Verdict(
        above.empty,
        f"Features with more than {limit:.0%} nulls: {found}.",
        {"highest_null_share": float(shares.max()), "limit": limit},
    )


def enough_rows_of_both_classes(rows: pd.DataFrame, contract: Contract, limits: Limits) -> Verdict:
    """There are enough rows of both classes, and in each split enough customers of both.

    Training draws its folds by customers who left in any month and customers who never did;
    calibration and the resamples of the test count customers alike.
    """
    label = contract.label.name
    churned, retained = int(rows[label].sum()), int((~rows[label]).sum())
    needed, each = limits.min_labelled_rows, limits.min_rows_of_each_class
    numbers: dict[str, float | int | str] = {
        "rows": len(rows), "min_rows": needed, "left": churned, "stayed": retained,
        "min_rows_of_each_class": each,
    }  # fmt: skip
    lacking = []
    for split, least in (
        (TRAINING, limits.min_training_customers_of_each_class),
        (CALIBRATION, limits.min_calibration_customers_of_each_class),
        (TEST, limits.min_test_customers_of_each_class),
    ):
        ever_left = rows_of_split(rows, split).groupby(contract.id.name)[label].any()
        left = int(ever_left.sum())
        for who, found in (("left", left), ("stayed", len(ever_left) - left)):
            numbers[f"{split}_customers_who_{who}"] = found
            if found < least:
                lacking.append(f"{split} has {found:,} customers who {who}, {least:,} are needed")
        numbers[f"min_{split}_customers_of_each_class"] = least
    return Verdict(
        len(rows) >= needed and min(churned, retained) >= each and not lacking,
        f"{len(rows):,} labelled rows: {churned:,} left, {retained:,} stayed. At least {needed:,} "
        f"rows and {each:,} of each class are needed, and enough customers of both classes in each "
        f"split{': ' if lacking else '.'}{'; '.join(lacking)}{'.' if lacking else ''}",
        numbers,
    )


def no_id_on_two_sides(rows: pd.DataFrame, contract: Contract) -> Verdict:
    """No customer is in more than one split."""
    if rows.empty:
        return not_judged("there are no rows; at least one is needed.", {"limit": 0})
    repeated = ids_in_several_splits(rows, contract)
    return Verdict(
        not repeated,
        f"{len(repeated):,} customers are in more than one split; none may be.",
        {"ids_on_two_sides": len(repeated), "limit": 0},
    )


def no_feature_knows_the_label(rows: pd.DataFrame, contract: Contract, limits: Limits) -> Verdict:
    """No feature and no pair gives the labels away by its values, as one recorded afterwards would.

    Nulls count as a value: a field that is filled in only after a customer has left reveals the
    label by its presence. A name such as `cancel_date` is a hint, and no failure.
    """
    found = leaks.associations(rows, contract, limits)
    named = ", ".join(leaks.named_like_the_label(contract))
    numbers: dict[str, float | int | str] = {
        "limit": limits.max_label_auc_of_one_feature,
        "identified_limit": limits.max_identified_share,
        "named_like_the_label": named,
    }
    hint = f" Named like the label, so find out when it is recorded: {named}." if named else ""
    if not found:
        each = limits.min_leak_rows
        why = f"at least {each:,} rows of customers who left, and of who stayed, are needed.{hint}"
        return not_judged(why, numbers)
    leaking = [one for one in found if one.leaks(limits)]
    strongest = next((one for one in found if len(one.features) == 1), found[0])
    first = leaking[0] if leaking else strongest
    if leaking:
        text = (
            f"Leaks of the label: {leaks.listed([one.described(limits) for one in leaking])}. "
            f"Values identify churned rows if at least {limits.min_identifying_rate:.0%} of the "
            "rows with them churned. Declare what is not known before a customer leaves as "
            "`ignored`."
        )
    else:
        text = f"No feature or pair is a leak. The strongest feature {first.described(limits)}."
    return Verdict(
        not leaking,
        text + hint,
        {
            "feature": first.name,
            "auc": first.auc,
            "identified_share": first.identified,
            "leaks": ", ".join(one.name for one in leaking),
            **numbers,
        },
    )


def scorer_equals_pipeline(scorer: np.ndarray, pipeline: np.ndarray) -> Verdict:
    """The compiled scorer returns the pipeline's probabilities."""
    return _same_probabilities("Scorer and pipeline", scorer, pipeline)


def answers_as_the_model(answers: np.ndarray, scorer: np.ndarray) -> Verdict:
    """The served bento returns the scorer's probabilities."""
    return _same_probabilities("Bento and scorer", answers, scorer)


def _same_probabilities(pair: str, given: np.ndarray, expected: np.ndarray) -> Verdict:
    if not len(expected):
        return not_judged("no row was scored; at least one is needed.", {"rows": 0})
    gap = float(np.abs(given - expected).max())
    return Verdict(
        gap <= SAME_PROBABILITY,
        f"{pair} differ by at most {gap:.2g} over {len(expected):,} rows; "
        f"{SAME_PROBABILITY:g} is allowed.",
        {"largest_difference": gap, "limit": SAME_PROBABILITY, "rows": len(expected)},
    )


def reproducible(first: np.ndarray, second: np.ndarray) -> Verdict:
    """A model fitted again on the same rows gives the same probabilities, bit for bit."""
    if not len(first):
        return not_judged("no row was scored; at least one is needed.", {"limit": 0})
    differing = int((first != second).sum())
    return Verdict(
        differing == 0,
        f"After a second fit {differing:,} of {len(first):,} probabilities differ; none may.",
        {"differing_rows": differing, "limit": 0},
    )


def rows_by_month(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Returns the number of rows and the churn rate by month and split."""
    label = rows[contract.label.name].astype("float64")
    return (
        rows.assign(left=label)
        .groupby([MONTH, SPLIT])
        .agg(rows=("left", "size"), left=("left", "sum"), rate=("left", "mean"))
        .round({"rate": 4})
        .reset_index()
    )
