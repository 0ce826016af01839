"""Preparation: trains the model that all servers use, and writes it in the form that each needs."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.serving_peers.model_folder import CONTRACT, DERIVED, MLFLOW, PIPELINE
from churn_assets.adapters.bentos import BentoStore
from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.contracts.card import Estimate, ModelCard
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data.features import model_frame, requests
from churn_assets.core.data.splitting import (
    CALIBRATION,
    TEST,
    TRAINING,
    rows_of_split,
    training_rows,
)
from churn_assets.core.data.validation import validate
from churn_assets.core.evaluation.card import score_distribution
from churn_assets.core.modelling.compiling import compile_scorer
from churn_assets.core.modelling.pipelines import SKOPS_TRUSTED
from churn_assets.core.modelling.training import TrainedModel, probabilities, train
from churn_assets.core.simulation.simulator import Simulator

CUSTOMERS = 20_000
MONTHS = [str(month) for month in pd.period_range("2025-01", periods=5, freq="M")]
SINGLES = 500
BATCH = 1_000
BATCHES = 2
NAME = "churn_telecom"


@dataclass(frozen=True)
class Material:
    """The model for the servers, and the rows for their requests.

    Attributes:
        folder: Folder of the pipeline, the contract and the MLflow model.
        test: Rows on which the model was not trained.
        expected: Probability of each test row by the pipeline.
    """

    folder: Path
    contract: Contract
    trained: TrainedModel
    test: pd.DataFrame
    expected: NDArray[np.float64]

    def bodies(self) -> list[str]:
        """Bodies with one customer each, in the form of the contract."""
        return [json.dumps(one) for one in requests(self.test[:SINGLES], self.contract)]

    def batches(self) -> list[str]:
        """Bodies with many customers each, for the services with a batch endpoint."""
        return self._in_batches(
            lambda rows: json.dumps({"customers": requests(rows, self.contract)})
        )

    def frames(self) -> list[str]:
        """Bodies with one customer each for MLflow: all pipeline inputs, derived ones too."""
        return [self._records(self.test[i : i + 1]) for i in range(SINGLES)]

    def frames_of_many(self) -> list[str]:
        return self._in_batches(self._records)

    def _in_batches(self, write: Callable[[pd.DataFrame], str]) -> list[str]:
        return [write(self.test[i * BATCH : (i + 1) * BATCH]) for i in range(BATCHES)]

    def _records(self, rows: pd.DataFrame) -> str:
        inputs = model_frame(rows, self.contract).astype(object)
        return json.dumps(
            {"dataframe_records": inputs.where(inputs.notna(), None).to_dict("records")}
        )


def prepare(folder: Path) -> Material:
    """Trains on a simulated operator and writes the folder."""
    contract = load_contract("telecom")
    rows = simulated(contract)
    training, calibration, test = (
        rows_of_split(rows, split) for split in (TRAINING, CALIBRATION, TEST)
    )
    trained = train(training, calibration, contract)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONTRACT).write_text(contract.model_dump_json(), encoding="utf-8")
    (folder / f"{DERIVED}.py").write_text(contract.derived_module(), encoding="utf-8")
    joblib.dump(trained.estimator, folder / PIPELINE)
    _save_for_mlflow(trained, model_frame(training[:100], contract), folder / MLFLOW)
    expected = probabilities(trained.estimator, test, contract)
    return Material(folder, contract, trained, test, expected)


def simulated(contract: Contract) -> pd.DataFrame:
    source = SimulatedSource(contract, Simulator(CUSTOMERS))
    features = [validate(source.snapshot(month), contract, month).accepted for month in MONTHS]
    labels = [source.labels(month) for month in MONTHS]
    return training_rows(pd.concat(features), pd.concat(labels), contract)


def build_bento(material: Material, home: Path) -> str:
    """Builds the real bento of the model in a BentoML home; returns its tag."""
    scorer, fallback = (
        compile_scorer(model, material.contract)
        for model in (material.trained.estimator, material.trained.simple)
    )
    built = BentoStore(home=home).build(
        scorer=scorer,
        fallback=fallback,
        card=card(material),
        contract=material.contract,
        labels={},
        export_to=home / "archives",
    )
    return built.tag


def card(material: Material) -> ModelCard:
    contract, test = material.contract, material.test
    threshold = contract.economics.break_even_probability
    churned = test[contract.label.name].to_numpy(dtype=bool)
    return ModelCard(
        name=NAME,
        version="1",
        chosen=material.trained.chosen,
        contract_name=contract.name,
        contract_version=contract.version,
        contract_fingerprint=contract.fingerprint,
        threshold=threshold,
        built_at=datetime.now(UTC),
        mlflow_run_id="benchmark",
        dagster_run_id="benchmark",
        table_versions={},
        test_months=tuple(MONTHS[-1:]),
        test_rows=len(test),
        metrics={
            "accuracy": Estimate(value=float(((material.expected >= threshold) == churned).mean()))
        },
        scores=score_distribution(material.expected),
    )


def _save_for_mlflow(trained: TrainedModel, inputs: pd.DataFrame, path: Path) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    predictions: Any = trained.estimator.predict_proba(inputs)
    mlflow.sklearn.save_model(
        trained.estimator,
        str(path),
        serialization_format="skops",
        skops_trusted_types=list(SKOPS_TRUSTED),
        signature=infer_signature(inputs, predictions),
        pip_requirements=["scikit-learn", "skops"],  # MLflow takes long to infer them.
        pyfunc_predict_fn="predict_proba",
    )
