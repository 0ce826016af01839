"""A model's training set is the version of the table that the model was made from."""

from datetime import UTC, datetime
from pathlib import Path

from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord
from churn_assets.adapters.training_rows import TABLE, training_set_of
from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.schemas import dtypes
from churn_assets_tests.core.typed_rows import typed_rows, with_labels

CONTRACT = load_contract("telecom")


def model(version: int) -> ModelRecord:
    return ModelRecord(
        name="churn", version="1", run_id="r", chosen="logistic", contract_name=CONTRACT.name,
        contract_version=CONTRACT.version, seed=0, table_versions={TABLE: version},
        cross_validation={}, recipe="", months=(), trained_at=datetime.now(UTC),
    )  # fmt: skip


def test_training_set_is_read_at_the_version_of_the_model(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    versions = {}
    for rows in (30, 40):
        frame, _ = with_labels(typed_rows(CONTRACT, rows), CONTRACT, by="tenure")
        frame.insert(0, CONTRACT.id.name, [f"C{number}" for number in range(rows)])
        versions[rows] = lake.write(TABLE, frame).version
    for rows, version in versions.items():
        found = training_set_of(model(version), lake, CONTRACT)
        assert len(found) == rows
        types = dtypes(CONTRACT)
        assert {name: found[name].dtype for name in found if name in types} == {
            name: types[name] for name in found if name in types
        }
