import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contracts.loading import load_contract
from churn_assets.core.splitting import (
    CALIBRATION,
    TEST,
    TRAINING,
    ids_on_two_sides,
    of_split,
    split_of,
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


def test_the_split_of_a_customer_is_the_same_for_ever() -> None:
    sides = split_of(pd.Series(["a", "b", "C00000001", "a"])).tolist()
    assert sides == [CALIBRATION, TRAINING, TEST, CALIBRATION]


@given(
    st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=60),
    st.integers(min_value=1, max_value=5),
)
def test_a_split_never_leaks(ids: list[str], months: int) -> None:
    rows = training_rows(features(ids, MONTHS[:months]), labels(ids, MONTHS[:months]), TELECOM)
    assert ids_on_two_sides(rows, TELECOM) == []
    test, rest = of_split(rows, TEST), rows[rows["split"] != TEST]
    if months >= 3 and len(test) and len(rest):
        assert rest["month"].max() < test["month"].min()


def test_shares_are_as_promised() -> None:
    ids = [f"C{i}" for i in range(20_000)]
    shares = pd.Series(split_of(pd.Series(ids))).value_counts(normalize=True)
    assert shares[TRAINING] == pytest.approx(0.70, abs=0.015)
    assert shares[CALIBRATION] == pytest.approx(0.15, abs=0.015)
    assert shares[TEST] == pytest.approx(0.15, abs=0.015)


def test_two_months_are_too_few_for_a_test_out_of_time() -> None:
    ids = [f"C{i}" for i in range(200)]
    rows = training_rows(features(ids, MONTHS[:2]), labels(ids, MONTHS[:2]), TELECOM)
    assert len(rows) == 400
    assert set(of_split(rows, TEST)["month"]) == set(MONTHS[:2])


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
