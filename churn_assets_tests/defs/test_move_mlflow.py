"""MLflow's records move to a PostgreSQL: runs, versions, aliases and the addresses of artifacts."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import sqlalchemy as sa

from churn_assets.move_mlflow import MoveError, move

NAME = "churn_telecom"


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A database with two versions of a model, of which the first is the champion."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    location = (tmp_path / "artifacts").as_uri()
    experiment = client.create_experiment(NAME, artifact_location=location)
    client.create_registered_model(NAME)
    for number in (1, 2):
        run = client.create_run(experiment)
        client.log_metric(run.info.run_id, "auc", 0.7 + number / 100)
        client.log_text(run.info.run_id, f"model {number}", "model.txt")
        client.create_model_version(NAME, f"{run.info.artifact_uri}/model.txt", run.info.run_id)
    client.set_registered_model_alias(NAME, "champion", "1")
    return uri


@pytest.fixture
def target(postgres: str, tmp_path: Path) -> Iterator[str]:
    """An empty database of MLflow on a server."""
    server = sa.create_engine(postgres.replace("postgresql:", "postgresql+psycopg2:"))
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"CREATE DATABASE {tmp_path.name}"))
    uri = server.url.set(database=tmp_path.name).render_as_string(hide_password=False)
    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri], check=True)
    yield uri
    server.dispose()


def test_everything_is_found_again(source: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "artifacts").rename(tmp_path / "moved")
    before, after = (tmp_path / "artifacts").as_uri(), (tmp_path / "moved").as_uri()
    copied = move(source, target, (before, after))
    assert (copied["runs"], copied["model_versions"], copied["experiments"]) == (2, 2, 2)
    client = mlflow.MlflowClient(target)
    champion = client.get_model_version_by_alias(NAME, "champion")
    assert str(champion.version) == "1"
    run = client.get_run(champion.run_id)
    assert run.data.metrics == {"auc": 0.71}
    path = client.download_artifacts(champion.run_id, "model.txt", str(tmp_path))
    assert Path(path).read_text() == "model 1"
    assert champion.source == f"{after}/{champion.run_id}/artifacts/model.txt"


def test_what_comes_after_gets_new_numbers(source: str, target: str) -> None:
    move(source, target, ("file:///a", "file:///b"))
    client = mlflow.MlflowClient(target)
    old = {one.experiment_id for one in client.search_experiments()}
    assert client.create_experiment("another") not in old


def test_a_target_with_runs_is_refused(source: str, target: str) -> None:
    move(source, target, ("file:///a", "file:///b"))
    with pytest.raises(MoveError, match="has 2 runs already"):
        move(source, target, ("file:///a", "file:///b"))


def test_another_version_is_refused(source: str, target: str) -> None:
    with sa.create_engine(target).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'older'"))
    with pytest.raises(MoveError, match=r"and \['older'\]: run `mlflow db upgrade` on both"):
        move(source, target, ("file:///a", "file:///b"))
