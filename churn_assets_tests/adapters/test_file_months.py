"""Which months a source of files has: listed folders, month columns, and what cannot be listed."""

from pathlib import Path

import fsspec
import pytest

from churn_assets.adapters.sources.file import FileSource
from churn_assets.adapters.sources.file_months import months_of_files
from churn_assets.contracts.loading import load_contract
from churn_assets_tests.adapters.file_server import file_server
from churn_assets_tests.adapters.test_sources import with_month
from churn_assets_tests.defs.graph import customers

TELECOM = load_contract("telecom")


@pytest.mark.parametrize(
    ("template", "files", "months"),
    [
        ("c-{month}.csv", ["c-2023-05.csv", "c-2023-13.csv", "c-2023-06.csv.gz"], ["2023-05"]),
        ("{month}/c.csv", ["2023-05/c.csv", "2023-06/d.csv", "x/c.csv"], ["2023-05"]),
        ("{month}/c-{month}.csv", ["2023-05/c-2023-05.csv", "2023-06/c-2023-05.csv"], ["2023-05"]),
        ("{month}-{month}.csv", ["2023-05-2023-05.csv", "2023-05-2023-06.csv"], ["2023-05"]),
        ("{month}.parquet", ["2023-05.parquet/part-0.parquet"], ["2023-05"]),
        ("a[1]?*/{month}.csv", ["a[1]?*/2023-05.csv", "a1xy/2023-06.csv"], ["2023-05"]),
        ("no-such-folder/{month}.csv", [], []),
        ("{month}.csv", [], []),
    ],
)
def test_the_months_of_files_are_listed(
    tmp_path: Path, template: str, files: list[str], months: list[str]
) -> None:
    for name in files:
        (path := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert months_of_files(f"{tmp_path}/{template}") == frozenset(months)


def test_any_store_that_lists_its_files_has_months() -> None:
    with fsspec.open("memory://old[1]/2023-05.csv", "w") as file:
        file.write("a")
    assert months_of_files("memory://old[1]/{month}.csv") == {"2023-05"}


@pytest.mark.parametrize(
    "template", ["http://host/{month}.csv", "zip://{month}.csv::a.zip", "x://"]
)
def test_what_cannot_be_listed_has_no_months(template: str) -> None:
    assert months_of_files(template) == frozenset()


def test_a_month_column_has_the_months_of_both_files(tmp_path: Path) -> None:
    contract = with_month().contract
    for name, month in (("customers", "2023-05"), ("labels", "2023-04-30")):
        customers(3).assign(as_of=month).to_parquet(tmp_path / f"{name}.parquet")
    paths = [str(tmp_path / f"{name}.parquet") for name in ("customers", "labels")]
    assert FileSource(contract, *paths).months() == {paths[0]: {"2023-05"}, paths[1]: {"2023-04"}}
    assert FileSource(contract, paths[0]).months() == {paths[0]: {"2023-05"}}
    assert FileSource(contract, str(tmp_path / "absent.csv")).months() == {}
    customers(3).to_csv(tmp_path / "plain.csv", index=False)
    assert FileSource(contract, str(tmp_path / "plain.csv")).months() == {}, "no month column"
    assert FileSource(TELECOM, paths[0]).months() == {}, "a single snapshot"


def test_a_month_column_over_http_has_months() -> None:
    body = customers(3).assign(as_of=["2023-05", "2023-06", "2023-06"]).to_csv(index=False)
    with file_server() as files:
        url = files.put("all.csv", body.encode(), headers={"ETag": '"1"'})
        assert FileSource(with_month().contract, url).months() == {url: {"2023-05", "2023-06"}}
