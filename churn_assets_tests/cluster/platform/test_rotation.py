"""Credentials are replaced while runs go on: a second account takes over from the first."""

import httpx
import pytest

from churn_assets_tests.cluster.kubernetes import wait
from churn_assets_tests.cluster.platform.installation import (
    MINUTES,
    NAME,
    USER,
    Graph,
    Installation,
    password,
)

pytestmark = pytest.mark.cluster

VALUES: dict[str, object] = {}
TRAINING = ("training_set", "churn_model", "evaluation_report")


@pytest.fixture(scope="module")
def settled(platform: Installation) -> Installation:
    with platform.ui() as graph:
        graph.settled()
    return platform


def started(graph: Graph) -> str:
    """Starts a training and waits until its pod works."""
    run = graph.launch(*TRAINING)
    wait(lambda: graph.status(run) == "STARTED", lambda: graph.status(run))
    return run


def restart(platform: Installation, *components: str) -> None:
    """What docs/deployment.md says to do after a change of a Secret."""
    for component in components:
        platform.namespace.kubectl("rollout", "restart", f"deployment/{NAME}-{component}")
    for component in components:
        name = f"deployment/{NAME}-{component}"
        platform.namespace.kubectl("rollout", "status", name, "--timeout=300s")


def sql(platform: Installation, text: str) -> str:
    return platform.namespace.kubectl(
        "exec", "--stdin", f"{NAME}-postgresql-0", "--",
        "psql", "--username=postgres", "--host=/var/run/postgresql", "--set=ON_ERROR_STOP=1",
        text=text,
    )  # fmt: skip


def test_the_account_of_postgresql(settled: Installation) -> None:
    new = {**settled.passwords["churn-postgresql"], "username": "churn_b", "password": password()}
    with settled.ui() as graph:
        run = started(graph)
        sql(settled, f"CREATE ROLE churn_b LOGIN PASSWORD '{new['password']}' IN ROLE churn;"
                     "ALTER ROLE churn_b SET role = churn;")  # fmt: skip
        settled.secret("churn-postgresql", **new)
        assert graph.finished(run) == "SUCCESS", graph.failure(run)
        run = started(graph)
    restart(settled, "code", "daemon", "mlflow", "webserver")
    with settled.ui() as graph:
        assert graph.finished(run) == "SUCCESS", graph.failure(run)
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'churn_a';"
        wait(lambda: " 0\n" in sql(settled, sessions), lambda: sql(settled, sessions), MINUTES)
        sql(settled, "DROP ROLE churn_a;")
        run = graph.launch(*TRAINING)
        assert graph.finished(run) == "SUCCESS", graph.failure(run)


def test_the_account_of_mlflow(settled: Installation) -> None:
    old = settled.passwords["churn-mlflow"]
    new = {**old, "username": "platform-b", "password": password()}
    with settled.ui() as graph, settled.port("mlflow", 5000) as url:
        run = started(graph)
        users = f"{url}/api/2.0/mlflow/users"
        login = old["username"], old["password"]
        account = {"username": new["username"], "password": new["password"]}
        httpx.post(f"{users}/create", json=account, auth=login).raise_for_status()
        administrator = {"username": new["username"], "is_admin": True}
        httpx.patch(f"{users}/update-admin", json=administrator, auth=login).raise_for_status()
        settled.secret("churn-mlflow", **new)
        restart(settled, "code")
        assert graph.finished(run) == "SUCCESS", graph.failure(run)
        login = new["username"], new["password"]
        removed = {"username": old["username"]}
        httpx.request("DELETE", f"{users}/delete", json=removed, auth=login).raise_for_status()
        run = graph.launch(*TRAINING)
        assert graph.finished(run) == "SUCCESS", graph.failure(run)
    restart(settled, "mlflow")
    with settled.ui() as graph:
        run = graph.launch(*TRAINING)
        assert graph.finished(run) == "SUCCESS", graph.failure(run)


def test_the_passwords_of_the_ui(settled: Installation) -> None:
    old = settled.passwords["churn-ui"][USER]
    with settled.port("webserver", 80) as url:
        assert httpx.get(f"{url}/server_info", auth=(USER, old)).status_code == 200
        settled.secret("churn-ui", **{USER: password()})
        new = settled.passwords["churn-ui"][USER]

        def status(given: str) -> int:
            return httpx.get(f"{url}/server_info", auth=(USER, given)).status_code

        wait(lambda: status(new) == 200, lambda: status(new), 3 * MINUTES)
        assert status(old) == 401
