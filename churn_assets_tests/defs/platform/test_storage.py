from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from upath import UPath

from churn_assets.adapters.lake import PROVENANCE, Lake
from churn_assets.contracts.contract import Frozen
from churn_assets.contracts.loading import load_contract
from churn_assets.defs.platform.storage import DocumentIOManager, LakeIOManager, Renderer

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2026-01", end_date="2026-05", fmt="%Y-%m")
TELECOM = load_contract("telecom")


class Note(Frozen):
    """A report."""

    text: str


@dg.asset(partitions_def=MONTHS, io_manager_key="tables")
def tenures(context: dg.AssetExecutionContext) -> pd.DataFrame:
    month = context.partition_key
    frame = pd.DataFrame(
        {"tenure": pd.array([int(month[-2:]), None], dtype="Int64"), "month": month}
    )
    frame.attrs[PROVENANCE] = {"raw": 3}
    return frame


@dg.asset(io_manager_key="documents", ins={"tenures": dg.AssetIn("tenures")})
def every_month(tenures: pd.DataFrame) -> Note:
    assert tenures["tenure"].dtype == "Int64"
    assert tenures.attrs[PROVENANCE] == {"tenures": 4}
    return Note(text=str(sorted(tenures["tenure"].dropna().tolist())))


@dg.asset(
    io_manager_key="documents",
    partitions_def=MONTHS,
    ins={
        "tenures": dg.AssetIn(
            "tenures",
            partition_mapping=dg.TimeWindowPartitionMapping(
                start_offset=-1, allow_nonexistent_upstream_partitions=True
            ),
        )
    },
)
def two_months(tenures: pd.DataFrame) -> Note:
    return Note(text=str(sorted(tenures["tenure"].dropna().tolist())))


@dg.asset(io_manager_key="documents")
def read_again(every_month: Note) -> Note:
    return Note(text=every_month.text + "!")


ASSETS = [tenures, every_month, two_months, read_again]


def html(note: Note, plots: Mapping[str, bytes]) -> str:
    return f"<html>{note.text}</html>"


def run(
    home: Path, name: str, month: str | None = None, render: Callable[..., str] = html
) -> dg.ExecuteInProcessResult:
    lake = Lake(str(home / "lake"))
    return dg.materialize(
        ASSETS,
        selection=[name],
        partition_key=month,
        instance=dg.DagsterInstance.ephemeral(tempdir=str(home)),
        resources={
            "tables": LakeIOManager(lake, TELECOM),
            "documents": DocumentIOManager(
                UPath(home / "reports"), {Note: Renderer(lambda _: {"plot": b"png"}, render)}
            ),
        },
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for month in MONTHS.get_partition_keys():
        run(tmp_path, "tenures", month)
    return tmp_path


def test_one_month_several_months_and_all_months_load_as_one_typed_frame(home: Path) -> None:
    run(home, "every_month")
    run(home, "two_months", "2026-03")
    reports = home / "reports"
    assert (
        Note.model_validate_json((reports / "every_month.json").read_text()).text == "[1, 2, 3, 4]"
    )
    assert '"[2, 3]"' in (reports / "two_months/2026-03.json").read_text()


def test_a_report_is_stored_as_json_and_html_and_loads_as_its_type(home: Path) -> None:
    run(home, "every_month")
    result = run(home, "read_again")
    assert (home / "reports/read_again.html").read_text() == "<html>[1, 2, 3, 4]!</html>"
    (event,) = result.get_asset_materialization_events()
    shown = event.step_materialization_data.materialization.metadata
    assert str(shown["html"].value).endswith("read_again.html")


def test_a_report_that_cannot_be_written_completely_keeps_the_old_one(home: Path) -> None:
    run(home, "every_month")
    before = {path: path.read_bytes() for path in (home / "reports").iterdir()}

    def broken(note: Note, plots: Mapping[str, bytes]) -> str:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run(home, "every_month", render=broken)
    assert {path: path.read_bytes() for path in (home / "reports").iterdir()} == before


@pytest.mark.parametrize("text", ["{", '{"other": 1}', ""])
def test_a_report_that_cannot_be_read_is_named_and_not_retried(home: Path, text: str) -> None:
    run(home, "every_month")
    path = home / "reports/every_month.json"
    path.write_text(text)
    with pytest.raises(dg.Failure, match=r"(?s)every_month.json cannot be read as Note: .*") as it:
        run(home, "read_again")
    assert not it.value.allow_retries
    assert str(it.value.description).endswith("; materialise every_month")


def test_a_report_that_does_not_exist_is_named_and_not_retried(home: Path) -> None:
    run(home, "every_month")
    (home / "reports/every_month.json").unlink()
    with pytest.raises(dg.Failure) as raised:
        run(home, "read_again")
    assert not raised.value.allow_retries
    text = "every_month.json does not exist: materialise every_month first"
    assert str(raised.value.description).endswith(text)


def test_a_table_that_does_not_exist_is_not_retried(tmp_path: Path) -> None:
    with pytest.raises(dg.Failure, match="table 'tenures' is not in") as raised:
        run(tmp_path, "every_month")
    assert not raised.value.allow_retries


def test_metadata_of_a_table_has_rows_bytes_version_and_uri(home: Path) -> None:
    result = run(home, "tenures", "2026-02")
    (event,) = result.get_asset_materialization_events()
    shown = event.step_materialization_data.materialization.metadata
    assert shown["dagster/row_count"].value == 2
    assert shown["table_version"].value == 5
    assert shown["bytes"].value > 0
    assert shown["dagster/uri"].value.endswith("lake/tenures")
    assert Lake(str(home / "lake")).sources("tenures", 5) == {"raw": 3}
