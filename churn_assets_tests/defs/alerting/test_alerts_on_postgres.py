"""On a database server no event is passed over that is committed after one with a higher id."""

from pathlib import Path

import dagster as dg
import psycopg2
from pydantic import SecretStr

from churn_assets_tests.adapters.receivers import webhook
from churn_assets_tests.defs.alerting.watched import Watched

COPY = """
    INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, asset_key, partition)
    SELECT run_id, event, dagster_event_type, timestamp, asset_key, partition
    FROM event_logs WHERE id = %s
"""
PASSED, FAILED = (
    dg.AssetCheckEvaluation(dg.AssetKey("churn_model"), "scorer_equals_pipeline", passed=passed)
    for passed in (True, False)
)
PROMOTED = dg.AssetMaterialization(
    "promoted_model", metadata={"action": "promotion", "approved_by": "policy", "reason": "fresh"}
)


def test_an_event_that_is_committed_late_is_reported(
    postgres: str, instance_on_postgres: dg.DagsterInstance, tmp_path: Path
) -> None:
    instance = instance_on_postgres
    with webhook() as hook, psycopg2.connect(postgres) as late, late.cursor() as transaction:
        watched = Watched(tmp_path / "home", instance=instance, webhook=SecretStr(hook.url))
        watched.report(FAILED)
        transaction.execute("SELECT max(id) FROM event_logs")
        (failed,) = transaction.fetchone() or (None,)
        watched.report(PASSED)
        for _ in range(2):
            watched.tick()
        assert hook.headlines == []
        transaction.execute(COPY, [failed])
        watched.report(PROMOTED)
        watched.tick()
        assert hook.headlines == []
        late.commit()
        for _ in range(2):
            watched.tick()
        assert hook.headlines == [
            "ALERT: scorer_equals_pipeline of churn_model",
            "NOTICE: promotion of the champion",
        ]
