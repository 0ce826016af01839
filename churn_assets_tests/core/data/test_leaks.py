"""What single features and pairs know about the label, and the laws that hold for it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contracts.contract import Column, Contract, DerivedFeature
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data import leaks
from churn_assets.core.data.leaks import (
    Association,
    associations,
    listed,
    named_like_the_label,
    stored,
)
from churn_assets.core.data.quality import no_feature_knows_the_label
from churn_assets.core.limits import Limits
from churn_assets_tests.core.modelling.small_contract import small_contract
from churn_assets_tests.core.typed_rows import typed_rows, with_labels

SMALL = small_contract(3)
"""Contract of the categories `city` (any) and `plan` (listed) and the numbers `x0` to `x2`."""

LIMITS = Limits()


def customers(rows: int = 1_000, rate: float = 0.2, seed: int = 0) -> pd.DataFrame:
    """One row for each customer, who leave by chance alone: no feature knows anything."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"c{i}" for i in range(rows)],
            "month": "2026-01",
            "city": random.choice(["Oslo", "Rome", "Bonn"], rows),
            "plan": random.choice(["basic", "plus"], rows),
            "x0": random.integers(0, 10, rows).astype(float),
            "x1": random.normal(size=rows),
            "x2": random.integers(0, 100, rows).astype(float),
            "churned": random.random(rows) < rate,
        }
    )


def found(rows: pd.DataFrame, limits: Limits = LIMITS) -> dict[str, Association]:
    return {one.name: one for one in associations(rows, SMALL, limits)}


def leaking(rows: pd.DataFrame, limits: Limits = LIMITS) -> list[str]:
    return [one.name for one in associations(rows, SMALL, limits) if one.leaks(limits)]


def where(rows: pd.DataFrame, column: str, value: Any, share: float = 1.0) -> pd.DataFrame:
    """The rows, with a value in a column of a share of the churned customers and of no other."""
    churned = rows.index[rows["churned"]]
    changed = rows.copy()
    changed.loc[churned[: round(share * len(churned))], column] = value
    return changed


def test_customers_who_leave_by_chance_have_no_leak() -> None:
    assert leaking(customers()) == []
    assert max(one.auc for one in found(customers()).values()) < 0.6


def test_a_code_in_the_middle_of_the_range_is_a_leak() -> None:
    rows = customers()
    rows["x0"] = np.where(rows["churned"], 4.0, np.where(rows["x0"] < 5, 3.0, 5.0))
    assert leaking(rows) == ["x0"]
    assert (found(rows)["x0"].auc, found(rows)["x0"].identified) == (1.0, 1.0)


def test_a_reason_that_most_churned_and_no_retained_customers_have_is_a_leak() -> None:
    rows = where(customers().assign(city=None), "city", "price", share=0.9)
    assert leaking(rows) == ["city"]
    assert found(rows)["city"].auc < LIMITS.max_label_auc_of_one_feature
    assert found(rows)["city"].identified == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("column", ["city", "x1"])
def test_values_of_their_own_that_only_churned_customers_have_are_a_leak(column: str) -> None:
    rows = customers().assign(**{column: np.nan})
    own = rows.index.to_series()
    values = own.astype(float) if column == "x1" else "reason " + own.astype(str)
    rows[column] = values.where(rows["churned"] & (own % 10 != 0), np.nan)
    assert leaking(rows) == [column]


@pytest.mark.parametrize("value", [-99.0, 0.0, 1e15])
def test_a_value_among_many_others_is_a_leak(value: float) -> None:
    assert leaking(where(customers(), "x1", value, share=0.5)) == ["x1"]


def test_a_range_of_a_number_is_a_leak() -> None:
    rows = customers()
    rows["x1"] = np.where(rows["churned"], rows["x1"] % 1, 1.5 + rows["x1"].abs())
    assert leaking(rows) == ["x1"]
    rows = customers(200, rate=0.4)
    rows["x1"] += 100.0 * rows["churned"]
    assert leaking(rows) == ["x1"], "also where there are few rows in each group"


def test_a_pair_whose_features_know_nothing_alone_is_a_leak() -> None:
    rows = customers()
    rows["churned"] = (rows["plan"] == "plus") ^ (rows["x0"] < 5)
    assert leaking(rows) == ["x0 + plan"] or leaking(rows) == ["plan + x0"]
    assert found(rows)["x0"].auc < 0.6


def test_a_feature_that_leaks_is_named_once_and_not_with_others() -> None:
    rows = where(customers(), "x0", 4.5)
    assert leaking(rows) == ["x0"]
    assert not any("x0" in name and "+" in name for name in found(rows))


def test_a_value_of_its_own_for_each_customer_is_no_leak() -> None:
    rows = customers()
    rows = rows.assign(city=rows["id"], x1=np.arange(len(rows), dtype=float))
    order = np.random.default_rng(0).permutation(len(rows))
    assert leaking(rows.assign(churned=rows["churned"].to_numpy()[order])) == []


def test_a_value_of_its_own_for_each_customer_is_no_leak_in_several_months() -> None:
    rows = customers(300)
    rows["city"] = rows["id"]
    months = pd.concat([rows.assign(month=f"2026-0{month}") for month in range(1, 7)])
    assert leaking(months) == []
    assert found(months)["city"].auc < 0.6


def test_strong_and_honest_features_are_no_leak() -> None:
    rows = customers(5_000)
    # Two normal distributions at this distance have a ROC AUC of 0.92.
    rows["x1"] += 2.0 * rows["churned"]
    rows["x0"] = np.where(rows["churned"], rows["x0"] % 4, rows["x0"])
    assert leaking(rows) == []
    assert 0.9 < found(rows)["x1"].auc < LIMITS.max_label_auc_of_one_feature


@pytest.mark.parametrize("name", ["telecom", "ibm_telco"])
@pytest.mark.parametrize("rows", [300, 3_000])
def test_features_of_the_contracts_that_ship_are_no_leak(name: str, rows: int) -> None:
    contract = load_contract(name)
    by = "avg_monthly_charges" if name == "telecom" else "monthly_charges"
    frame, _ = with_labels(typed_rows(contract, rows), contract, by)
    frame[contract.id.name] = [f"c{i}" for i in range(rows)]
    verdict = no_feature_knows_the_label(frame, contract, LIMITS)
    assert verdict.outcome == "passed"
    assert verdict.numbers["named_like_the_label"] == ""


def test_the_auc_at_its_limit_is_no_leak() -> None:
    rows = customers()
    rows["x1"] += 2.0 * rows["churned"]
    auc = found(rows)["x1"].auc
    for above, leaks_found in ((-1e-9, True), (0.0, False), (1e-9, False)):
        limits = Limits(max_label_auc_of_one_feature=auc + above, max_identified_share=1.0)
        assert ("x1" in leaking(rows, limits)) is leaks_found


@pytest.mark.parametrize(("above", "leaks_found"), [(-1e-9, True), (0.0, False), (1e-9, False)])
def test_the_identified_share_at_its_limit_is_no_leak(above: float, leaks_found: bool) -> None:
    rows = where(customers(), "city", "price", share=0.5)
    share = found(rows)["city"].identified
    assert ("city" in leaking(rows, Limits(max_identified_share=share + above))) is leaks_found


@pytest.mark.parametrize(("retained", "leaks_found"), [(1, True), (2, True), (3, False)])
def test_values_identify_churned_rows_from_a_rate_on(retained: int, leaks_found: bool) -> None:
    rows = where(customers().assign(churned=np.arange(1_000) < 200), "city", "price", share=0.49)
    rows.loc[rows.index[-retained:], "city"] = "price"
    assert ("city" in leaking(rows, Limits(min_identifying_rate=0.98))) is leaks_found


@pytest.mark.parametrize(("churned", "leaks_found"), [(19, False), (20, True), (21, True)])
def test_few_rows_may_be_chance(churned: int, leaks_found: bool) -> None:
    rows = customers().assign(churned=np.arange(1_000) < 60)
    rows.loc[: churned - 1, "city"] = "price"
    assert ("city" in leaking(rows)) is leaks_found


CODES = [float(code) for code in range(10)]


@given(st.permutations(CODES), st.sampled_from([0.2, 0.6, 1.0]))
@settings(max_examples=10)
def test_another_numbering_of_a_code_changes_nothing(numbering: list[float], share: float) -> None:
    rows = customers(400)
    rows = where(rows.assign(x0=rows["x0"] % 9), "x0", 9.0, share)
    renamed = rows.assign(x0=rows["x0"].map(dict(zip(CODES, numbering, strict=True))))
    before, after = found(rows)["x0"], found(renamed)["x0"]
    assert after == before
    assert after.leaks(LIMITS) is (share > LIMITS.max_identified_share)


@given(st.sampled_from([np.exp, np.cbrt, np.arctan, lambda x: 3 * x - 7]), st.floats(0, 4))
@settings(max_examples=10)
def test_a_number_on_another_scale_changes_nothing(scale: Any, distance: float) -> None:
    rows = customers(400)
    rows["x1"] = (rows["x1"] + distance * rows["churned"]).round(6)
    assert found(rows.assign(x1=scale(rows["x1"])))["x1"] == found(rows)["x1"]


@given(st.integers(0, 10**6), st.sampled_from([60, 200, 1_000]), st.floats(0.02, 0.5))
@settings(max_examples=40)
def test_random_labels_have_no_leak(seed: int, count: int, rate: float) -> None:
    rows = customers(count, rate, seed)
    rows["city"] = [f"city {i % (1 + seed % count)}" for i in range(count)]
    rows["x2"] = rows["x2"].where(np.random.default_rng(seed).random(count) < 0.5)
    assert leaking(rows) == []


@given(st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=40)
def test_any_number_of_rows_is_judged_or_not(count: int, seed: int) -> None:
    rows = customers(count, 0.5, seed).assign(x2=np.nan)
    rows["id"] = [f"c{i // (1 + seed % 3)}" for i in range(count)]
    verdict = no_feature_knows_the_label(rows, SMALL, Limits(min_leak_rows=1))
    assert verdict.judged is (len(set(rows["churned"])) == 2 and len(set(rows["id"])) > 1)


@pytest.mark.parametrize(("few", "judged"), [(19, False), (20, True), (21, True)])
@pytest.mark.parametrize("class_", [True, False])
def test_leaks_are_judged_from_some_rows_of_each_class_on(
    few: int, judged: bool, class_: bool
) -> None:
    rows = customers(200).assign(churned=(np.arange(200) < few) == class_)
    verdict = no_feature_knows_the_label(rows, SMALL, LIMITS)
    assert verdict.judged is judged
    assert ("at least 20 rows of customers who left" in verdict.description) is not judged


def test_the_order_of_the_rows_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = where(customers(), "city", "price", share=0.3)
    assert found(rows.sample(frac=1, random_state=1)) == found(rows)
    monkeypatch.setattr(leaks, "MOST_ROWS", 500)
    assert found(rows.sample(frac=1, random_state=1)) == found(rows)


@pytest.mark.parametrize(("rows", "measured"), [(499, 499), (500, 500), (501, 500)])
def test_a_large_training_set_is_sampled(
    rows: int, measured: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    judge = leaks._out_of_fold_rates
    monkeypatch.setattr(leaks, "MOST_ROWS", 500)
    monkeypatch.setattr(
        leaks, "_out_of_fold_rates", lambda *given: seen.append(len(given[1])) or judge(*given)
    )
    assert leaking(where(customers(rows), "x0", 4.5)) == ["x0"]
    assert set(seen) == {measured}


def test_only_the_strongest_features_are_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "PAIRED_FEATURES", 3)
    assert sum("+" in name for name in found(customers())) == 3
    monkeypatch.setattr(leaks, "PAIRED_FEATURES", 1)
    assert sum("+" in name for name in found(customers())) == 0


def test_a_report_keeps_every_leak_and_the_strongest_others() -> None:
    singles = [Association(features=(f"x{i}",), auc=0.9 - i / 100, identified=0) for i in range(20)]
    pairs = [Association(features=("a", f"b{i}"), auc=0.5, identified=0) for i in range(5)]
    last = Association(features=("z",), auc=0.5, identified=0.9)
    kept = stored([*singles, *pairs, last], LIMITS)
    assert kept == (*singles[:10], *pairs[:3], last)


def test_a_message_names_three_features_and_counts_the_others() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a; b; c"
    assert listed(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"


def renamed(
    name: str, *, source: str = "", label: str = "churned", role: str = "feature"
) -> Contract:
    """The small contract, with another name of its first number, and of its label."""
    changes = {
        "x0": {"name": name, "source_name": source or name, "role": role},
        "churned": {"name": label, "source_name": label},
    }
    columns = [one.model_copy(update=changes.get(one.name, {})) for one in SMALL.columns]
    return SMALL.model_copy(update={"columns": tuple(columns)})


@pytest.mark.parametrize(
    "name",
    ["churn_reason", "cancel_date", "left_on", "cancellation", "days_to_termination", "exit_code",
     "contract_ended", "deactivated", "account_closed", "churned_at"],
)  # fmt: skip
def test_a_model_input_that_is_named_like_the_label_is_found(name: str) -> None:
    assert named_like_the_label(renamed(name)) == [name]
    assert named_like_the_label(renamed(name, role="ignored")) == []


@pytest.mark.parametrize(
    "name", ["tenure", "leftover_minutes", "contract_end", "disclosed", "bill_day", "exits"]
)
def test_other_names_are_no_hint(name: str) -> None:
    assert named_like_the_label(renamed(name)) == []


def test_the_name_in_the_source_and_the_name_of_the_label_count_too() -> None:
    assert named_like_the_label(renamed("code", source="CancelDate")) == ["code"]
    assert named_like_the_label(renamed("days_gone", label="gone")) == ["days_gone"]
    assert named_like_the_label(renamed("days_gone_by", label="has_gone")) == []


def test_a_derived_feature_has_a_name_too() -> None:
    derived = DerivedFeature(
        name="months_to_exit", inputs=("x0",), description="", source_code="", function=None
    )
    contract = SMALL.model_copy(update={"derived": (derived,)})
    assert named_like_the_label(contract) == ["months_to_exit"]


def test_a_name_is_a_hint_and_no_failure() -> None:
    contract = renamed("cancel_date")
    rows = customers().rename(columns={"x0": "cancel_date"})
    verdict = no_feature_knows_the_label(rows, contract, LIMITS)
    assert verdict.outcome == "passed"
    assert "find out when it is recorded: cancel_date." in verdict.description
    assert verdict.numbers["named_like_the_label"] == "cancel_date"
    rows["cancel_date"] = rows["cancel_date"].where(rows["churned"])
    verdict = no_feature_knows_the_label(rows, contract, LIMITS)
    assert verdict.outcome == "failed"
    assert verdict.numbers["leaks"] == verdict.numbers["feature"] == "cancel_date"


def test_the_verdict_names_the_leaks_their_numbers_and_their_limits() -> None:
    rows = where(customers(), "x0", 4.5)
    rows = where(rows, "city", "price", share=0.9)
    verdict = no_feature_knows_the_label(rows, SMALL, LIMITS)
    assert verdict.numbers["leaks"] == "x0, city"
    assert (
        "Leaks of the label: x0 has an out-of-fold ROC AUC of 1.000 (limit 0.99) and identifies "
        "100.0% of the churned rows (limit 25%); city has"
    ) in verdict.description
    assert "at least 98% of the rows with them churned" in verdict.description
    assert verdict.numbers["identified_limit"] == 0.25
    column: Column = SMALL["x0"]
    assert column.name == verdict.numbers["feature"]
