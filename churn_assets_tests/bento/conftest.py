"""One bento for all tests of the service; each serves it with settings of its own."""

import pytest

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets_tests.bentos import SCORER, build


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> BentoStore:
    return BentoStore(tmp_path_factory.mktemp("bentoml") / "home")


@pytest.fixture(scope="session")
def built(store: BentoStore) -> BuiltBento:
    return build(store, SCORER, store.home.parent / "exports")
