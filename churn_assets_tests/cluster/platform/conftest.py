"""The platform on a real cluster, in a namespace of its own."""

from collections.abc import Callable, Iterator

import pytest

from churn_assets_tests.cluster.conftest import Target
from churn_assets_tests.cluster.kubernetes import Namespace
from churn_assets_tests.cluster.platform.installation import Installation, installed

HAPPENED = pytest.StashKey[list[str]]()


@pytest.fixture(scope="module")
def platform(
    request: pytest.FixtureRequest, namespace: Namespace, target: Target
) -> Iterator[Installation]:
    """An installation with the values `VALUES` of the test module."""
    if not target.volume:
        pytest.skip("CHURN_CLUSTER_VOLUME is not set: no folder that all nodes share")
    with installed(namespace, target.volume, request.module.VALUES) as found:
        yield found


@pytest.fixture
def happenings(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to the list that is printed at the end."""
    return request.config.stash.setdefault(HAPPENED, []).append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints what has happened."""
    if lines := config.stash.get(HAPPENED, []):
        terminalreporter.section("the platform under failures")
        for line in lines:
            terminalreporter.write_line(line)
