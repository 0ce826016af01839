from datetime import UTC, datetime

import dagster as dg
import pandas as pd
import pytest

from churn_assets.defs.platform.partitions import (
    closed_months,
    labelled_months,
    one_month,
    without_partition,
)
from churn_assets.settings import latest_closed_month

NOW = datetime(2026, 4, 15, tzinfo=UTC)


def test_the_current_month_is_not_closed() -> None:
    keys = closed_months("2026-01").get_partition_keys(current_time=NOW)
    assert keys == ["2026-01", "2026-02", "2026-03"]


@pytest.mark.parametrize(
    ("horizon", "keys"), [(1, ["2026-01", "2026-02"]), (2, ["2026-01"]), (3, []), (12, [])]
)
def test_a_month_without_known_labels_has_no_partition(horizon: int, keys: list[str]) -> None:
    assert labelled_months("2026-01", horizon).get_partition_keys(current_time=NOW) == keys


def test_a_source_without_months_has_one_partition() -> None:
    assert one_month("2025-12").get_partition_keys() == ["2025-12"]
    assert one_month(None).get_partition_keys() == [latest_closed_month()]


def test_the_latest_closed_month_is_the_one_before_the_current() -> None:
    current = pd.Period(datetime.now(UTC).strftime("%Y-%m"), freq="M")
    assert pd.Period(latest_closed_month(), freq="M") == current - 1
    assert closed_months("2026-01").get_last_partition_key() == latest_closed_month()


def test_labels_of_a_month_need_that_months_customers() -> None:
    mapping = dg.TimeWindowPartitionMapping()
    upstream = mapping.get_upstream_mapped_partitions_result_for_partitions(
        labelled_months("2026-01", 1).subset_with_partition_keys(["2026-01"]),
        labelled_months("2026-01", 1),
        closed_months("2026-01"),
        current_time=NOW,
    )
    assert list(upstream.partitions_subset.get_partition_keys()) == ["2026-01"]


@pytest.mark.parametrize(
    ("months", "says"),
    [
        (["2025-01", "2025-02", "2026-10"], ""),
        ([], ""),
        (
            ["2024-12"],
            "a.csv has 2024-12; set CHURN_FIRST_MONTH=2024-12 to use 2024-12, because the first "
            "partition is 2025-01",
        ),
        (
            ["2025-01", "2024-12"],
            "a.csv has 2024-12 to 2025-01; set CHURN_FIRST_MONTH=2024-12 to use 2024-12, because "
            "the first partition is 2025-01",
        ),
        (
            ["2023-11", "2023-05", "2023-07", "2023-06"],
            "a.csv has 2023-05 to 2023-07, 2023-11; set CHURN_FIRST_MONTH=2023-05 to use 2023-05 "
            "to 2023-07, 2023-11, because the first partition is 2025-01",
        ),
        (
            ["2026-11", "2026-10"],
            "a.csv has 2026-10 to 2026-11; 2026-11 cannot be used yet, because the latest closed "
            "month is 2026-10",
        ),
        (
            ["2024-12", "2025-01", "2026-12"],
            "a.csv has 2024-12 to 2025-01, 2026-12; set CHURN_FIRST_MONTH=2024-12 to use 2024-12, "
            "because the first partition is 2025-01; 2026-12 cannot be used yet, because the "
            "latest closed month is 2026-10",
        ),
    ],
)
def test_months_without_a_partition_are_named(months: list[str], says: str) -> None:
    assert without_partition({"a.csv": months}, "2025-01", "2026-10") == says


def test_each_file_with_such_months_is_named() -> None:
    found = {"a.csv": ["2024-12"], "b.csv": ["2025-01"], "c.csv": ["2024-11"]}
    sentences = without_partition(found, "2025-01", "2026-10").split(". ")
    assert [text[:5] for text in sentences] == ["a.csv", "c.csv"]
