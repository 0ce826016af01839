"""Trained models in MLflow: runs, registered versions, aliases and artifacts.

MLflow is imported inside the functions: the import takes seconds.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from churn_assets.adapters.records import ModelRecord
from churn_assets.contracts.contract import Contract
from churn_assets.core.data.features import model_frame
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.governance.audit import canonical
from churn_assets.core.modelling.pipelines import SKOPS_TRUSTED
from churn_assets.core.modelling.scorer import Scorer
from churn_assets.core.modelling.training import (
    FOLDS,
    SEARCH_CANDIDATES,
    SEARCH_SPACE,
    Candidate,
    TrainedModel,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
"""Aliases of the registered model."""

SCORER_PATH, FALLBACK_PATH = "scorer", "fallback"
RECORD_FILE, REPORT_FILE = "record.json", "evaluation_report.json"
REASONS_TAG = "churn.retraining_reasons"


class RegistryError(RuntimeError):
    """A registered version does not exist or lacks an artifact; the message says what to do."""


def register_model(
    trained: TrainedModel,
    scorer: Scorer,
    fallback: Scorer,
    rows: pd.DataFrame,
    contract: Contract,
    *,
    name: str,
    seed: int,
    table_versions: Mapping[str, int],
    lake_root: str,
    months: Sequence[str],
    code_version: str,
    reasons: Sequence[str] = (),
) -> ModelRecord:
    """Writes a trained model to the active MLflow run and registers it as the challenger.

    Args:
        scorer: `trained.estimator`, compiled.
        fallback: `trained.simple`, compiled.
        rows: Some training rows, for the signature.
        table_versions: Versions of the lake's tables, by name.
        months: Labelled months of the training set.
        code_version: Version of the training code.
        reasons: Reasons for the training.
    """
    import mlflow

    run_id = mlflow.active_run().info.run_id
    for candidate in trained.candidates:
        _log_candidate(candidate)
    chosen = next(one for one in trained.candidates if one.name == trained.chosen)
    mlflow.log_params({"chosen": trained.chosen, "seed": seed, **chosen.params})
    mlflow.log_metrics({"cv_log_loss": chosen.log_loss, "cv_roc_auc": chosen.auc})
    mlflow.set_tag(REASONS_TAG, "\n".join(reasons))
    mlflow.log_dict(contract.model_dump(mode="json"), "contract.json")
    _log_inputs(table_versions, lake_root)
    _log_scorer(scorer, SCORER_PATH)
    _log_scorer(fallback, FALLBACK_PATH)
    version = _log_pipeline(trained, model_frame(rows, contract), name)
    record = ModelRecord(
        name=name,
        version=version,
        run_id=run_id,
        chosen=trained.chosen,
        contract_name=contract.name,
        contract_version=contract.version,
        seed=seed,
        table_versions=dict(table_versions),
        cross_validation=_cross_validation(trained),
        recipe=recipe(contract, seed, code_version),
        months=tuple(months),
        trained_at=datetime.now(UTC),
        reasons=tuple(reasons),
    )
    mlflow.log_text(record.model_dump_json(indent=1), RECORD_FILE)
    # The alias is set last: a version with the alias is complete.
    _client().set_registered_model_alias(name, CHALLENGER, version)
    return record


def _cross_validation(trained: TrainedModel) -> dict[str, dict[str, float]]:
    return {one.name: {"log_loss": one.log_loss, "roc_auc": one.auc} for one in trained.candidates}


def _log_pipeline(trained: TrainedModel, inputs: pd.DataFrame, name: str) -> str:
    """Stores the fitted pipeline, registers it, and returns the new version."""
    import mlflow.sklearn

    logged = mlflow.sklearn.log_model(
        trained.estimator,
        name="model",
        serialization_format="skops",
        skops_trusted_types=list(SKOPS_TRUSTED),
        pip_requirements=_requirements(),
        signature=_signature(inputs, trained),
        registered_model_name=name,
    )
    return str(logged.registered_model_version)


def aliases(name: str) -> dict[str, str]:
    """Versions of a registered model by alias; empty where the model does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        found = _client().get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {alias: str(version) for alias, version in found.items()}


def champion(name: str) -> str | None:
    """The champion's version; None where no version was promoted yet."""
    return aliases(name).get(CHAMPION)


def set_aliases(name: str, champion: str | None, previous: str | None) -> None:
    """Sets the aliases `champion` and `previous`; None removes an alias."""
    client, current = _client(), aliases(name)
    # The champion is set last: once it is right, both are.
    for alias, version in ((PREVIOUS, previous), (CHAMPION, champion)):
        if version is not None:
            client.set_registered_model_alias(name, alias, version)
        elif alias in current:
            client.delete_registered_model_alias(name, alias)


def model_record(name: str, version: str) -> ModelRecord:
    """Loads the record of a registered version from its MLflow run.

    Raises:
        RegistryError: The version does not exist, or its run has no record.
    """
    from mlflow.exceptions import MlflowException

    try:
        run_id = str(_client().get_model_version(name, version).run_id)
    except MlflowException as error:
        raise RegistryError(f"{name}:{version} is not in MLflow: {error.message}") from error
    return ModelRecord.model_validate_json(_text(run_id, RECORD_FILE, f"{name}:{version}"))


def load_report(record: ModelRecord) -> EvaluationReport:
    """Loads the evaluation report of a registered version.

    Raises:
        RegistryError: The version was never evaluated.
    """
    text = _text(record.run_id, REPORT_FILE, f"{record.name}:{record.version}")
    return EvaluationReport.model_validate_json(text)


def _text(run_id: str, file: str, version: str) -> str:
    import mlflow.artifacts

    if all(found.path != file for found in _client().list_artifacts(run_id)):
        asset = "churn_model" if file == RECORD_FILE else "evaluation_report"
        raise RegistryError(
            f"MLflow run {run_id} of {version} has no {file}: materialise {asset} again"
        )
    return str(mlflow.artifacts.load_text(f"runs:/{run_id}/{file}"))


def load_scorer(record: ModelRecord) -> Scorer:
    """Loads the compiled scorer of a registered version.

    Raises:
        RegistryError: The run has no scorer.
    """
    return _load(record, SCORER_PATH)


def load_fallback(record: ModelRecord) -> Scorer:
    """Loads the compiled logistic regression of the same training.

    Raises:
        RegistryError: The run has no fallback, as in old runs.
    """
    return _load(record, FALLBACK_PATH)


def _load(record: ModelRecord, artifact: str) -> Scorer:
    import mlflow.artifacts

    if not _client().list_artifacts(record.run_id, artifact):
        raise RegistryError(
            f"MLflow run {record.run_id} of {record.name}:{record.version} has no artifact "
            f"{artifact!r}: materialise churn_model again"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(
            run_id=record.run_id, artifact_path=artifact, dst_path=folder
        )
        return Scorer.load(Path(path))


def log_to_run(
    record: ModelRecord, metrics: Mapping[str, float], documents: Mapping[str, str]
) -> None:
    """Adds metrics and text files to the run of a registered model."""
    client = _client()
    for name, value in metrics.items():
        client.log_metric(record.run_id, name, value)
    for path, text in documents.items():
        client.log_text(record.run_id, text, path)


def recipe(contract: Contract, seed: int, code_version: str) -> str:
    """Returns the fingerprint of all that determines a model, except its training rows."""
    from sklearn import __version__

    parts = {
        "code": code_version,
        "contract": contract.fingerprint,
        "search": [SEARCH_SPACE, SEARCH_CANDIDATES, FOLDS],
        "seed": seed,
        "sklearn": __version__,
    }
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:16]


def _client() -> MlflowClient:
    from mlflow.tracking import MlflowClient

    return MlflowClient()


def _log_candidate(candidate: Candidate) -> None:
    import mlflow

    with mlflow.start_run(run_name=candidate.name, nested=True):
        mlflow.log_params({"candidate": candidate.name, **candidate.params})
        mlflow.log_metrics(
            {
                "cv_log_loss": candidate.log_loss,
                "cv_log_loss_std_error": candidate.log_loss_std_error,
                "cv_roc_auc": candidate.auc,
            }
        )


def _log_inputs(table_versions: Mapping[str, int], lake_root: str) -> None:
    import mlflow
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    for table, version in table_versions.items():
        source = DeltaDatasetSource(path=f"{lake_root}/{table}", delta_table_version=version)
        dataset = MetaDataset(source, name=table, digest=f"v{version}")
        mlflow.log_input(dataset, context="training")


def _log_scorer(scorer: Scorer, path: str) -> None:
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        scorer.save(Path(folder))
        mlflow.log_artifacts(folder, path)


def _signature(inputs: pd.DataFrame, trained: TrainedModel) -> Any:
    from mlflow.models import infer_signature

    return infer_signature(inputs, trained.estimator.predict(inputs))


def _requirements() -> list[str]:
    """Requirements of the model, given explicitly because MLflow's inference takes seconds."""
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in ("numpy", "pandas", "scikit-learn", "skops")]
