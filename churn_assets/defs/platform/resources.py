"""Resources of the assets: the source, the lake, reports, MLflow and the bento store."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
from filelock import FileLock

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.bentos import BentoStore
from churn_assets.adapters.reports.html import render_drift, render_evaluation
from churn_assets.adapters.reports.plots import drift_plots, evaluation_plots
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.monitoring.drift import DriftReport
from churn_assets.defs.platform.instance import LOCK_SECONDS
from churn_assets.defs.platform.platform import Platform
from churn_assets.defs.platform.storage import DocumentIOManager, LakeIOManager, Renderer


class MLflowTracking(dg.ConfigurableResource[Any]):
    """MLflow through `dagster-mlflow`, imported only when a model is trained: that takes seconds.

    Attributes:
        tracking_uri: URI of a server, or of a sqlite file.
        experiment: Name of the experiment.
        artifacts: Folder for the files of a local MLflow; a server has its own artifact store.
    """

    tracking_uri: str
    experiment: str
    artifacts: str

    def connect(self) -> None:
        """Points MLflow at the tracking URI and creates the experiment if it does not exist."""
        import mlflow

        logging.getLogger("alembic").setLevel(logging.WARNING)
        # MLflow warns if a virtual environment has no pip, and uv creates environments without it.
        logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
        mlflow.set_tracking_uri(self.tracking_uri)
        if self.tracking_uri.startswith(("http", "databricks")):
            self._require_experiment(None)  # a server has its own artifact store
            return
        # Two processes that created the tables of a database at once would both fail.
        lock = Path(self.artifacts).with_suffix(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=LOCK_SECONDS):
            self._require_experiment(Path(self.artifacts).as_uri())  # MLflow would choose ./mlruns

    def _require_experiment(self, location: str | None) -> None:
        import mlflow

        if mlflow.get_experiment_by_name(self.experiment) is not None:
            return
        try:
            mlflow.create_experiment(self.experiment, artifact_location=location)
        except mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made by another process meanwhile
                raise

    @contextmanager
    def run(self, context: dg.AssetExecutionContext) -> Iterator[Any]:
        """Opens one MLflow run for one asset, and always ends it with its true status.

        The hook of `dagster-mlflow` that should end runs marks failed runs FINISHED where each step
        is a process. Without a hook the run stays open, and the next step would log into it.
        """
        self.connect()
        from dagster_mlflow.resources import MlFlow

        init = SimpleNamespace(
            log=context.log,
            dagster_run=context.run,
            run_id=context.run.run_id,
            resource_config={
                "experiment_name": self.experiment,
                "mlflow_tracking_uri": self.tracking_uri,
                "extra_tags": {"dagster_asset": context.asset_key.to_user_string()},
            },
        )
        mlflow = MlFlow(init)
        try:
            yield mlflow
        except BaseException as error:
            mlflow.end_run("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        mlflow.end_run("FINISHED")


def resources(platform: Platform) -> Mapping[str, Any]:
    """Returns every resource, by the name under which assets require it."""
    home, lake = platform.home, platform.lake
    return {
        "source": platform.source,
        "lake": lake,
        "audit": AuditLog(lake),
        "text_tables": LakeIOManager(lake),
        "typed_tables": LakeIOManager(lake, platform.contract),
        "documents": DocumentIOManager(
            platform.reports,
            {
                EvaluationReport: Renderer(evaluation_plots, render_evaluation),
                DriftReport: Renderer(drift_plots, render_drift),
            },
        ),
        "mlflow": MLflowTracking(
            tracking_uri=platform.tracking_uri,
            experiment=platform.model_name,
            artifacts=str(home / "mlflow-artifacts"),
        ),
        "bentos": BentoStore(home=home / "bentoml"),
    }
