"""Each check on data, below, at and above its limit."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from churn_assets.contracts.loading import load_contract
from churn_assets.core.data import quality
from churn_assets.core.data.splitting import CALIBRATION, TEST, TRAINING
from churn_assets.core.data.validation import validate
from churn_assets.core.limits import Limits
from churn_assets.core.modelling.training import FOLDS
from churn_assets_tests.core.raw_rows import raw
from churn_assets_tests.core.typed_rows import typed_rows

TELECOM = load_contract("telecom")
LIMITS = Limits()
TEXT = pd.StringDtype("pyarrow")


@pytest.mark.parametrize(("rows", "passes"), [(0, False), (1, True)])
def test_rows_present(rows: int, passes: bool) -> None:
    verdict = quality.rows_present(rows, "2026-01")
    assert verdict.passed == passes
    assert "2026-01" in verdict.description


@pytest.mark.parametrize(
    ("rows", "passes"), [(49, False), (50, True), (100, True), (200, True), (201, False)]
)
def test_row_count_as_usual(rows: int, passes: bool) -> None:
    verdict = quality.row_count_as_usual(rows, {"a": 100, "b": 90, "c": 4_000}, LIMITS)
    assert verdict.passed == passes
    assert verdict.numbers == {
        "rows": rows, "usual_rows": 100.0, "min_rows": 50.0, "max_rows": 200.0,
    }  # fmt: skip


def test_row_count_of_the_first_month_passes() -> None:
    assert quality.row_count_as_usual(1, {}, LIMITS).passed


@pytest.mark.parametrize(
    ("left", "passes"), [(0, False), (1, True), (600, True), (601, False), (1_000, False)]
)
def test_label_rate_within_bounds(left: int, passes: bool) -> None:
    labels = pd.Series([True] * left + [False] * (1_000 - left) + [pd.NA] * 5, dtype="boolean")
    verdict = quality.label_rate_within_bounds(labels, LIMITS)
    assert verdict.passed == passes
    assert verdict.numbers["known_labels"] == 1_000
    assert verdict.numbers["label_rate"] == left / 1_000


def test_no_known_label_is_a_failure() -> None:
    unknown = pd.Series([pd.NA], dtype="boolean")
    assert not quality.label_rate_within_bounds(unknown, LIMITS).passed


@pytest.mark.parametrize(("unknown", "passes"), [(0, True), (1, True), (2, False)])
def test_every_id_known(unknown: int, passes: bool) -> None:
    customers = pd.Series([f"c{i}" for i in range(100)], dtype=TEXT)
    labelled = customers.where(customers.index >= unknown, "x")
    verdict = quality.every_id_known(labelled, customers, LIMITS)
    assert verdict.passed == passes
    assert verdict.numbers["unknown_ids"] == unknown


def test_empty_labels_have_no_unknown_ids() -> None:
    none = pd.Series([], dtype=TEXT)
    assert quality.every_id_known(none, none, LIMITS).passed


@pytest.mark.parametrize(("broken", "passes"), [(1, True), (2, True), (3, False)])
def test_quarantined_share_within_limit(broken: int, passes: bool) -> None:
    validation = validate(raw(*[{"age": "1"}] * broken, *[{}] * (20 - broken)), TELECOM, "2026-01")
    verdict = quality.quarantined_share_within_limit(validation, LIMITS)
    assert verdict.passed == passes
    assert verdict.numbers["quarantined_share"] == broken / 20


def test_a_month_without_accepted_rows_fails_whatever_the_limit() -> None:
    validation = validate(raw({"age": "1"}), TELECOM, "2026-01")
    limits = Limits(max_quarantined_share=1.0)
    assert not quality.quarantined_share_within_limit(validation, limits).passed


@pytest.mark.parametrize(("nulls", "passes"), [(9, True), (10, True), (11, False)])
def test_nulls_within_limit(nulls: int, passes: bool) -> None:
    frame = typed_rows(TELECOM, 20)
    frame.loc[: nulls - 1, "avg_call_minutes"] = np.nan
    verdict = quality.nulls_within_limit(frame, TELECOM, LIMITS)
    assert verdict.passed == passes
    assert ("avg_call_minutes 55.0%" in verdict.description) != passes


def test_a_contract_without_nullable_features_has_no_nulls() -> None:
    columns = tuple(c.model_copy(update={"nullable": False}) for c in TELECOM.columns)
    contract = TELECOM.model_copy(update={"columns": columns})
    assert quality.nulls_within_limit(typed_rows(contract, 5), contract, LIMITS).passed


def labelled(rows: int, left: int) -> pd.DataFrame:
    """Returns rows in all three splits; the customers of the first `left` rows churned."""
    labels = np.arange(rows) < left
    splits = np.resize([TRAINING, CALIBRATION, TEST], rows)
    ids = pd.array([f"c{i}" for i in range(rows)], dtype=TEXT)
    return typed_rows(TELECOM, rows).assign(
        customer_id=ids, churned=pd.array(labels, dtype="boolean"), split=splits
    )


@pytest.mark.parametrize(
    ("rows", "left", "passes"),
    [
        (199, 60, False), (200, 60, True), (200, 50, True), (200, 49, False),
        (200, 150, True), (200, 151, False),
    ],
)  # fmt: skip
def test_enough_rows_of_both_classes(rows: int, left: int, passes: bool) -> None:
    verdict = quality.enough_rows_of_both_classes(labelled(rows, left), TELECOM, LIMITS)
    assert verdict.passed == passes
    assert verdict.numbers["left"] == left


def test_each_split_needs_both_classes() -> None:
    rows = labelled(300, 100)
    rows = rows[~((rows["split"] == TEST) & rows["churned"])]
    verdict = quality.enough_rows_of_both_classes(rows, TELECOM, LIMITS)
    assert not verdict.passed
    assert "test has 0 customers who left, 5 are needed." in verdict.description


@pytest.mark.parametrize("split", [TRAINING, CALIBRATION, TEST])
@pytest.mark.parametrize(("left", "word"), [(True, "left"), (False, "stayed")])
@pytest.mark.parametrize(("customers", "passes"), [(4, False), (5, True), (6, True)])
def test_each_split_needs_some_customers_of_each_class(
    split: str, left: bool, word: str, customers: int, passes: bool
) -> None:
    rows = labelled(600, 300)
    of_class = rows[(rows["split"] == split) & (rows["churned"] == left)]
    rows = rows.drop(index=of_class.index[customers:])
    verdict = quality.enough_rows_of_both_classes(rows, TELECOM, LIMITS)
    assert verdict.passed == passes
    says = f"{split} has {customers} customers who {word}, 5 are needed."
    assert (says in verdict.description) != passes
    assert verdict.numbers[f"{split}_customers_who_{word}"] == customers
    assert verdict.numbers[f"min_{split}_customers_of_each_class"] == 5


def test_customers_are_counted_once_whatever_their_rows() -> None:
    rows = labelled(300, 100)
    repeated = (rows["split"] == CALIBRATION) & rows["churned"]
    rows.loc[repeated, "customer_id"] = "c1"
    verdict = quality.enough_rows_of_both_classes(rows, TELECOM, LIMITS)
    assert "calibration has 1 customers who left" in verdict.description


@pytest.mark.parametrize("split", [TRAINING, CALIBRATION])
def test_no_limit_is_below_what_the_training_needs(split: str) -> None:
    name = f"min_{split}_customers_of_each_class"
    assert getattr(Limits(**{name: FOLDS}), name) == FOLDS
    with pytest.raises(ValidationError, match=name):
        Limits(**{name: FOLDS - 1})


def test_an_id_in_two_splits_is_found() -> None:
    rows = labelled(30, 10)
    assert quality.no_id_on_two_sides(rows, TELECOM).passed
    rows.loc[1, "customer_id"] = "c0"
    verdict = quality.no_id_on_two_sides(rows, TELECOM)
    assert not verdict.passed
    assert verdict.numbers["ids_on_two_sides"] == 1


@pytest.mark.parametrize("feature", ["late_payments", "location"])
def test_a_feature_that_leaks_the_label_is_found(feature: str) -> None:
    rows = labelled(300, 100)
    assert quality.no_feature_knows_the_label(rows, TELECOM, LIMITS).passed
    leak = rows["churned"].map({True: "X", False: "Y"}).astype(TEXT)
    rows[feature] = leak if feature == "location" else 1 - rows["churned"].astype("Int64")
    verdict = quality.no_feature_knows_the_label(rows, TELECOM, LIMITS)
    assert not verdict.passed
    assert verdict.numbers["feature"] == feature
    assert verdict.numbers["auc"] == 1.0


def test_a_number_that_is_null_for_all_churned_customers_is_found() -> None:
    rows = labelled(300, 100)
    rows["avg_call_minutes"] = rows["avg_call_minutes"].mask(rows["churned"])
    verdict = quality.no_feature_knows_the_label(rows, TELECOM, LIMITS)
    assert not verdict.passed
    assert verdict.numbers["feature"] == "avg_call_minutes"
    assert verdict.numbers["auc"] == 1.0


def test_a_category_that_is_null_for_all_retained_customers_is_found() -> None:
    rows = labelled(300, 100)
    names = pd.Series([f"reason {i}" for i in range(300)], dtype=TEXT)
    rows["location"] = names.where(rows["churned"])
    verdict = quality.no_feature_knows_the_label(rows, TELECOM, LIMITS)
    assert verdict.numbers["feature"] == "location"
    assert verdict.numbers["auc"] == 1.0


@pytest.mark.parametrize("values", [1, 20, 4_000, 1_000_000])
def test_a_category_of_many_values_is_no_leak(values: int) -> None:
    random = np.random.default_rng(1)
    rows = labelled(5_000, 0)
    rows["churned"] = pd.array(random.random(5_000) < 0.2, dtype="boolean")
    rows["location"] = pd.Series(random.integers(values, size=5_000)).astype(TEXT)
    verdict = quality.no_feature_knows_the_label(rows, TELECOM, LIMITS)
    assert verdict.passed
    assert float(verdict.numbers["auc"]) < 0.55


def test_a_category_of_many_values_that_leaks_the_label_is_found() -> None:
    random = np.random.default_rng(1)
    rows = labelled(5_000, 1_000)
    marks = np.where(rows["churned"], "left", "stayed")
    numbers = random.integers(50, size=5_000)
    names = [f"{mark} {number}" for mark, number in zip(marks, numbers, strict=True)]
    rows["location"] = pd.Series(names, dtype=TEXT)
    verdict = quality.no_feature_knows_the_label(rows, TELECOM, LIMITS)
    assert not verdict.passed
    assert verdict.numbers["feature"] == "location"


def test_one_class_has_nothing_to_rank() -> None:
    assert quality.no_feature_knows_the_label(labelled(30, 0), TELECOM, LIMITS).passed


@pytest.mark.parametrize(("gap", "passes"), [(0.0, True), (0.9e-12, True), (2e-12, False)])
def test_same_probabilities(gap: float, passes: bool) -> None:
    expected = np.array([0.2, 0.5])
    for verdict in (
        quality.scorer_equals_pipeline(expected + gap, expected),
        quality.answers_as_the_model(expected - gap, expected),
    ):
        assert verdict.passed == passes
        assert verdict.numbers["limit"] == 1e-12


def test_nan_is_not_the_same_probability() -> None:
    nan = np.array([np.nan])
    assert not quality.scorer_equals_pipeline(nan, np.array([0.1])).passed


def test_reproducible_means_to_the_last_bit() -> None:
    first = np.array([0.1, 0.2])
    assert quality.reproducible(first, first.copy()).passed
    assert not quality.reproducible(first, np.nextafter(first, 1)).passed


def test_rows_by_month() -> None:
    summary = quality.rows_by_month(labelled(30, 6), TELECOM)
    assert summary["rows"].tolist() == [10, 10, 10]
    assert summary["left"].sum() == 6


def test_a_month_of_an_earlier_contract_is_named() -> None:
    ids = pd.array([f"c{i}" for i in range(5)], dtype=TEXT)
    good = typed_rows(TELECOM, 5).assign(customer_id=ids)
    old = good.assign(month=pd.array(["2026-02"] * 5, dtype=TEXT), gender=pd.NA)
    assert quality.months_honour_contract(good, TELECOM).passed
    verdict = quality.months_honour_contract(
        pd.concat([good, old.astype({"gender": TEXT})], ignore_index=True), TELECOM
    )
    assert not verdict.passed
    assert "2026-02" in verdict.description
    assert "2026-03" not in verdict.description
    assert "gender: not_nullable" in verdict.description
