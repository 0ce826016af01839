import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# On a new machine, the first text that hypothesis draws builds a table of Unicode for seconds.
settings.register_profile(
    "new machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("new machine")


@pytest.fixture(autouse=True)
def _without_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("CHURN_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _shared_bytecode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Shares bytecode between processes: many import BentoML, which without it takes most time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("pycache")))
        yield
