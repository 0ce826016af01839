"""What assets work with: the source, the lake, reports, MLflow and the bento store."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.bentos import BentoStore
from churn_assets.adapters.reports.html import render_drift, render_evaluation
from churn_assets.adapters.reports.plots import drift_plots, evaluation_plots
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.monitoring.drift import DriftReport
from churn_assets.defs.platform.platform import Platform
from churn_assets.defs.platform.storage import DocumentIOManager, LakeIOManager, Renderer


class MLflowTracking(dg.ConfigurableResource[Any]):
    """MLflow through `dagster-mlflow`, imported only when a model is trained: it takes seconds.

    Attributes:
        tracking_uri: a server, or sqlite.
        experiment: name of the experiment.
        artifacts: where a local MLflow keeps files; a server has its own place.
    """

    tracking_uri: str
    experiment: str
    artifacts: str

    def connect(self) -> None:
        """Points MLflow at the tracking URI and makes sure that the experiment is there."""
        import mlflow

        logging.getLogger("alembic").setLevel(logging.WARNING)
        # It warns where a virtual environment has no pip, as uv makes them.
        logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
        mlflow.set_tracking_uri(self.tracking_uri)
        if mlflow.get_experiment_by_name(self.experiment) is None:
            # A server has its own place; a database alone would have ./mlruns.
            server = self.tracking_uri.startswith(("http", "databricks"))
            place = None if server else Path(self.artifacts).as_uri()
            mlflow.create_experiment(self.experiment, artifact_location=place)

    @contextmanager
    def run(self, context: dg.AssetExecutionContext) -> Iterator[Any]:
        """One MLflow run for one asset, ended with its true status whatever happens.

        The hook of `dagster-mlflow` that should end runs leaves failed ones FINISHED where each
        step is a process, and no hook leaves the run open for the next one to log into.
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
    """Every resource by the name that assets ask for it."""
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
