"""Training-serving skew: features in the log compared with the features of the graph."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.pseudonym import pseudonym
from churn_assets.core.limits import Limits
from churn_assets.core.scoring.skew import Skew, compare_served, serving_matches_training
from churn_assets.core.scoring.traffic import as_traffic, feature_columns, with_customers
from churn_assets_tests.core.typed_rows import TEXT, typed_rows

KEY = bytes(range(32))
CONTRACTS = [load_contract("telecom"), load_contract("ibm_telco")]
TELECOM = CONTRACTS[0]


def features(contract: Contract, rows: int = 50) -> pd.DataFrame:
    ids = pd.array([f"C{i}" for i in range(rows)], dtype=TEXT)
    frame = typed_rows(contract, rows).assign(**{contract.id.name: ids})
    for column in contract.features:
        if column.nullable:
            frame[column.name] = frame[column.name].mask(np.arange(rows) % 3 == 0)
    return frame


def served(contract: Contract, frame: pd.DataFrame, key: bytes | None = KEY) -> pd.DataFrame:
    """Traffic as the service logs it for these customers, in another order."""
    frame = frame.iloc[::-1]
    columns: dict[str, Any] = {
        "prediction_id": [f"p{i}" for i in range(len(frame))],
        "customer": [pseudonym(KEY, contract.id.name, one) for one in frame[contract.id.name]],
    }
    for column in contract.features:
        kinds = {"flag": bool, "number": float}
        values = [
            None if pd.isna(v) else kinds.get(column.kind, str)(v) for v in frame[column.name]
        ]
        if column.personal:
            values = [None if v is None else pseudonym(KEY, column.name, v) for v in values]
        columns[feature_columns(contract)[column.name]] = values
    rows = as_traffic(pd.DataFrame(columns), contract, "2026-02")
    return with_customers(rows, frame, contract, key)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
def test_equal_features_do_not_differ(contract: Contract) -> None:
    frame = features(contract)
    skew = compare_served(served(contract, frame), frame, contract, KEY)
    assert (skew.rows, skew.compared, skew.differing, skew.by_column) == (50, 50, 0, {})
    verdict = serving_matches_training(skew, Limits())
    assert verdict.passed
    assert "50 are about customers of the month; 0 of these" in verdict.description


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
def test_a_difference_in_any_feature_is_found(contract: Contract) -> None:
    frame = features(contract)
    rows = served(contract, frame)
    for column in contract.features:
        name = feature_columns(contract)[column.name]
        other = rows[name].shift(7)  # so that some are null
        before, now = (v.astype(object).where(v.notna(), "null") for v in (rows[name], other))
        differing = int((before != now).sum())
        skew = compare_served(rows.assign(**{name: other}), frame, contract, KEY)
        assert skew.by_column == {column.name: differing}
        assert skew.differing == differing


def test_numbers_are_compared_exactly_as_float64() -> None:
    frame = features(TELECOM)
    frame["avg_data_usage"] = 0.1 + 0.2
    rows = served(TELECOM, frame)
    assert compare_served(rows, frame, TELECOM, KEY).differing == 0
    frame["avg_data_usage"] = 0.3
    skew = compare_served(rows, frame, TELECOM, KEY)
    assert skew.by_column == {"avg_data_usage": 50}
    assert skew.samples["column"].tolist() == ["avg_data_usage"] * 5
    assert set(skew.samples["served"]) == {"0.30000000000000004"}
    assert set(skew.samples["graph"]) == {"0.3"}


def test_personal_values_are_not_shown() -> None:
    frame = features(TELECOM)
    rows = served(TELECOM, frame)
    frame["gender"] = pd.array(["Other"] * 50, dtype=TEXT)
    skew = compare_served(rows, frame, TELECOM, KEY)
    assert set(skew.by_column) == {"gender"}
    shown = set(skew.samples["graph"]) | set(skew.samples["served"])
    assert all(len(one) == 32 for one in shown)


def test_a_prediction_of_an_unknown_customer_is_not_compared() -> None:
    frame = features(TELECOM)
    known = frame.iloc[:20]
    rows = with_customers(served(TELECOM, frame), known, TELECOM, KEY)
    skew = compare_served(rows, known, TELECOM, KEY)
    assert (skew.rows, skew.compared, skew.differing) == (50, 20, 0)


def test_predictions_with_another_key_are_not_compared() -> None:
    frame = features(TELECOM)
    rows = served(TELECOM, frame)
    assert rows["customer_id"].notna().all()
    skew = compare_served(rows, frame, TELECOM, bytes(16))
    assert (skew.compared, skew.differing) == (0, 0)


@pytest.mark.parametrize(
    ("key", "rows", "reason"),
    [
        (None, 50, "without the key of the pseudonyms, 50 predictions cannot be matched"),
        (bytes(16), 50, "none of 50 predictions is about a customer of the month"),
        (KEY, 0, "there are no predictions"),
    ],
)
def test_the_verdict_says_why_nothing_was_compared(
    key: bytes | None, rows: int, reason: str
) -> None:
    frame = features(TELECOM)
    traffic = served(TELECOM, frame, key).head(rows)
    verdict = serving_matches_training(compare_served(traffic, frame, TELECOM, key), Limits())
    assert verdict.outcome == "not judged"
    assert f"nothing could be compared: {reason}" in verdict.description


@pytest.mark.parametrize(("differing", "passed"), [(4, True), (5, True), (6, False)])
def test_predictions_may_differ_up_to_the_limit(differing: int, passed: bool) -> None:
    skew = Skew(True, 200, 100, differing, {"tenure": differing}, pd.DataFrame())
    verdict = serving_matches_training(skew, Limits(max_served_differing_share=0.05))
    assert verdict.passed is passed
    assert (verdict.numbers["value"], verdict.numbers["limit"]) == (differing / 100, 0.05)
    assert f"tenure ({differing})" in verdict.description
    assert not serving_matches_training(skew, Limits()).passed


def test_releases_and_their_canaries_are_told_apart() -> None:
    frame = features(TELECOM, 6)
    rows = served(TELECOM, frame).assign(
        release="churn", role=["stable"] * 4 + ["canary"] * 2, model_version="1",
        tenure=lambda traffic: traffic["tenure"] + [0, 0, 0, 0, 0, 1],
    )  # fmt: skip
    rows.loc[0, "customer"] = "unknown"
    by_release = compare_served(rows, frame, TELECOM, KEY).by_release
    counted = by_release.set_index("role")[["predictions", "compared", "differing"]]
    assert counted.loc["stable"].tolist() == [4, 3, 0]
    assert counted.loc["canary"].tolist() == [2, 2, 1]
    assert set(by_release["release"]) == {"churn"}
    without_key = compare_served(rows, frame, TELECOM, None).by_release
    assert without_key["compared"].sum() == 0
    assert compare_served(rows.head(0), frame, TELECOM, KEY).by_release.empty
