"""One bento for all tests of the service, and a server of each module with its own settings."""

from collections.abc import Iterator

import httpx
import pytest

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets_tests.bento.served_bento import ServedBento, served_bento
from churn_assets_tests.bentos import SCORER, build


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> BentoStore:
    return BentoStore(tmp_path_factory.mktemp("bentoml") / "home")


@pytest.fixture(scope="session")
def built(store: BentoStore) -> BuiltBento:
    return build(store, SCORER, store.home.parent / "exports")


@pytest.fixture(scope="module")
def server(
    built: BuiltBento, store: BentoStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedBento]:
    """A server with default settings; modules that need others override this fixture."""
    with served_bento(built, store, tmp_path_factory.mktemp("log")) as server:
        yield server


@pytest.fixture
def client(server: ServedBento) -> httpx.Client:
    return server.client
