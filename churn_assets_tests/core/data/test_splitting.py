import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data.splitting import (
    CALIBRATION,
    TEST,
    TRAINING,
    assign_splits,
    ids_in_several_splits,
    rows_of_split,
    training_rows,
)

TELECOM = load_contract("telecom")
MONTHS = [f"2026-{m:02d}" for m in range(1, 6)]


def features(ids: list[str], months: list[str]) -> pd.DataFrame:
    rows = [(name, month, 1.0) for month in months for name in ids]
    return pd.DataFrame(rows, columns=["customer_id", "month", "tenure"])


def labels(ids: list[str], months: list[str]) -> pd.DataFrame:
    return features(ids, months)[["customer_id", "month"]].assign(
        churned=pd.array([False] * len(ids) * len(months), dtype="boolean")
    )


def test_the_split_of_a_customer_never_changes() -> None:
    splits = assign_splits(pd.Series(["a", "b", "C00000001", "a"])).tolist()
    assert splits == [CALIBRATION, TRAINING, TEST, CALIBRATION]


def with_horizon(months: int) -> Contract:
    return TELECOM.model_copy(update={"horizon_months": months})


@given(
    st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=60),
    st.integers(min_value=1, max_value=5),
    st.integers(min_value=1, max_value=5),
)
def test_a_split_never_leaks(ids: list[str], months: int, horizon: int) -> None:
    months_ = MONTHS[:months]
    rows = training_rows(features(ids, months_), labels(ids, months_), with_horizon(horizon))
    assert ids_in_several_splits(rows, TELECOM) == []
    assert not rows.duplicated(["customer_id", "month"]).any()
    test, rest = rows_of_split(rows, TEST), rows[rows["split"] != TEST]
    if months < 3 or months <= horizon:
        assert len(rows) == len(ids) * months
    else:
        assert set(test["month"]) <= {months_[-1]}
        known = [str(pd.Period(month, freq="M") + horizon) for month in rest["month"]]
        assert all(month <= months_[-1] for month in known)


@pytest.mark.parametrize(
    ("horizon", "learnt_from"),
    [(1, MONTHS[:4]), (2, MONTHS[:3]), (4, MONTHS[:1])],
)
def test_labels_unknown_at_the_test_snapshot_are_not_trained_on(
    horizon: int, learnt_from: list[str]
) -> None:
    ids = [f"C{i}" for i in range(100)]
    rows = training_rows(features(ids, MONTHS), labels(ids, MONTHS), with_horizon(horizon))
    for split in (TRAINING, CALIBRATION):
        assert sorted(set(rows_of_split(rows, split)["month"])) == learnt_from
    assert set(rows_of_split(rows, TEST)["month"]) == {MONTHS[-1]}


def test_months_too_close_for_the_horizon_are_split_by_customer_alone() -> None:
    ids = [f"C{i}" for i in range(200)]
    rows = training_rows(features(ids, MONTHS), labels(ids, MONTHS), with_horizon(5))
    assert len(rows) == 1_000
    for split in (TRAINING, CALIBRATION, TEST):
        assert set(rows_of_split(rows, split)["month"]) == set(MONTHS)


def test_a_horizon_may_cross_the_end_of_the_year() -> None:
    ids, months = [f"C{i}" for i in range(100)], ["2025-11", "2025-12", "2026-01", "2026-02"]
    rows = training_rows(features(ids, months), labels(ids, months), with_horizon(2))
    assert set(rows_of_split(rows, TRAINING)["month"]) == {"2025-11", "2025-12"}


def test_splits_have_their_shares() -> None:
    ids = [f"C{i}" for i in range(20_000)]
    shares = pd.Series(assign_splits(pd.Series(ids))).value_counts(normalize=True)
    assert shares[TRAINING] == pytest.approx(0.70, abs=0.015)
    assert shares[CALIBRATION] == pytest.approx(0.15, abs=0.015)
    assert shares[TEST] == pytest.approx(0.15, abs=0.015)


def test_two_months_are_too_few_for_an_out_of_time_test() -> None:
    ids = [f"C{i}" for i in range(200)]
    rows = training_rows(features(ids, MONTHS[:2]), labels(ids, MONTHS[:2]), TELECOM)
    assert len(rows) == 400
    assert set(rows_of_split(rows, TEST)["month"]) == set(MONTHS[:2])


def test_unknown_labels_and_unlabelled_customers_are_left_out() -> None:
    known = labels(["a", "b"], MONTHS[:1])
    known.loc[0, "churned"] = pd.NA
    rows = training_rows(features(["a", "b", "c"], MONTHS[:1]), known, TELECOM)
    assert rows["customer_id"].tolist() == ["b"]


def test_order_of_the_rows_does_not_matter() -> None:
    ids = [f"C{i}" for i in range(50)]
    frame, known = features(ids, MONTHS[:4]), labels(ids, MONTHS[:4])
    shuffled = training_rows(frame.sample(frac=1, random_state=1), known[::-1], TELECOM)
    pd.testing.assert_frame_equal(shuffled, training_rows(frame, known, TELECOM))


def test_order_in_storage_does_not_matter() -> None:
    ids = [f"C{i}" for i in range(50)]
    rows = training_rows(features(ids, MONTHS[:4]), labels(ids, MONTHS[:4]), TELECOM)
    for split in (TRAINING, CALIBRATION, TEST):
        found = rows_of_split(rows.sample(frac=1, random_state=2), split)
        pd.testing.assert_frame_equal(found, rows[rows["split"] == split].reset_index(drop=True))
