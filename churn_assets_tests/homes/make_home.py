"""Makes the home of commit 86fc2a3 that `test_earlier_home.py` reads. No test runs this script.

It runs the code of that commit and imports its modules by the names they had then. Run it in a
checkout of that commit, after `make setup`:

    PYTHONPATH=.:bento .venv/bin/python -W ignore <this file>

It fills `.churn/telecom` there, which must not exist yet, as `make demo`, a served bento and the
daemon of `make dev` would, with the settings in `86fc2a3.json` and with the clock in June 2025.
Then it packs that folder into `86fc2a3.tar.xz` beside this file. The archive in the repository was
made in a checkout at /srv/churn, so the stores in it hold that path.
"""

import io
import json
import logging
import lzma
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import time_machine
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.asset_daemon import AssetDaemon
from dagster._daemon.freshness import FreshnessDaemon
from dagster._daemon.sensor import execute_sensor_iteration

COMMIT = "86fc2a3"
BESIDE = Path(__file__).resolve().parent
HOME = Path(".churn/telecom").resolve()
NOW = datetime(2025, 6, 5, 9, tzinfo=UTC)
LAST_MONTH = "2025-05"
ASKED = 40
"""Customers that the service is asked about."""

TICKS = 3
"""Ticks of each sensor, a minute apart."""

ID_KEY = "0123456789abcdef" * 4
DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415478da63f8"
    "ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)
"""PNG of one pixel, in place of the plots: they are most of a home, and nothing reads them."""

CLOCK = """\
import os, time
import time_machine
time_machine.travel(time.time() + float(os.environ["CLOCK_OFFSET"]), tick=True).start()
"""
"""A `sitecustomize` module that sets the clock of every process started from here."""

LEFT_OUT = ("demo.log", ".logs_queue", "logs", "storage", "__pycache__")
"""Names of files and folders with logs of processes; they are not packed."""


def main() -> None:
    """Makes the home and packs it."""
    lay_out()
    with clock() as now:
        from churn_assets.adapters.reports import plots
        from churn_assets.demo.__main__ import main as demo

        plots._png = lambda *_: DOT
        assert demo() == 0, (HOME / "demo.log").read_text()
        be_asked()
        settle()
        fail_a_check()
        tick(now)
    pack()


def lay_out() -> None:
    """Prepares the home and the environment as the Makefile does."""
    (HOME / "dagster").mkdir(parents=True)
    shutil.copy("dagster.yaml", HOME / "dagster")
    settings = json.loads((BESIDE / f"{COMMIT}.json").read_text())
    operator = ("SCENARIO", "SCENARIO_MONTH")
    lines = [f"export {name} ?= {settings[name]}\n" for part in operator
             if (name := f"CHURN_SIMULATED__{part}")]  # fmt: skip
    (HOME / "operator.mk").write_text("".join(lines))
    (HOME / "id.key").touch(mode=0o600)
    (HOME / "id.key").write_text(f"{ID_KEY}\n")
    give_a_key()
    os.environ |= settings | {
        "CHURN_HOME": str(HOME),
        "DAGSTER_HOME": str(HOME / "dagster"),
        "BENTOML_HOME": str(HOME / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_UV_AUTO_DETECT": "false",
        "LOGNAME": "churn",  # MLflow stores the names of the user and of the script.
    }
    sys.argv = ["make_home.py"]


def give_a_key() -> None:
    """Makes an API key as `make api-key` does, and writes its token beside the archive."""
    from churn_service.keys import new_key, write_keys

    token, key = new_key("predict", datetime(2199, 1, 1, tzinfo=UTC), "crm")
    write_keys(HOME / "keys.json", (key,))
    (BESIDE / f"{COMMIT}.token").write_text(f"{token}\n")


@contextmanager
def clock() -> Iterator[time_machine.Traveller]:
    """Sets the clock to June 2025, in this process and in every process it starts."""
    offset = NOW.timestamp() - time.time()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(CLOCK)
        os.environ |= {
            "CLOCK_OFFSET": str(offset),
            "PYTHONPATH": os.pathsep.join([folder, os.environ["PYTHONPATH"]]),
        }
        with time_machine.travel(time.time() + offset, tick=True) as now:
            yield now


def be_asked() -> None:
    """Serves the bento, which logs its predictions, and makes the assets that read the log."""
    from churn_assets.core.features import requests

    from churn_assets.adapters.records import BentoRecord
    from churn_assets.adapters.serving import predictions, serving

    graph = graph_of()
    record = BentoRecord.model_validate_json((HOME / "reports/churn_bento.json").read_text())
    features = graph.lake.read("validated_features", [LAST_MONTH]).sort_values("customer_id")
    bodies = requests(features.head(ASKED), graph.platform.contract)
    service = {
        "CHURN_API_PREDICTION_LOG": str(HOME / "predictions"),
        "CHURN_API_ID_KEY_FILE": str(HOME / "id.key"),
    }
    with serving(record.tag, HOME / "bentoml", settings=service) as url:
        predictions(url, bodies)
    assert graph.run("served_traffic", month=LAST_MONTH).success
    assert graph.run("drift_report", month=LAST_MONTH).success
    assert len(graph.lake.read("served_traffic", [LAST_MONTH])) == ASKED


def settle() -> None:
    """Makes everything that the daemon would ask for now."""
    from churn_assets_tests.defs.daemon import Daemon

    assert all(run.success for run in Daemon(graph_of()).settle())


def fail_a_check() -> None:
    """Validates the last month under a stricter limit: a blocking check fails and shuts a gate."""
    from churn_assets.settings import load_settings

    found = load_settings()
    strict = found.limits.model_copy(update={"max_quarantined_share": 0.0})
    graph = graph_of(found.model_copy(update={"limits": strict}))
    result = graph.run("validated_features", "quarantined_customers", month=LAST_MONTH)
    failed = [one.check_name for one in result.get_asset_check_evaluations() if not one.passed]
    assert failed == ["quarantined_share_within_limit"]


def tick(now: time_machine.Traveller) -> None:
    """Runs the parts of the daemon, so that each sensor stores its state; no run is due.

    They run in this process, because gRPC does not follow a clock that is set.
    """
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(
            executable_path=sys.executable,
            working_directory=str(Path.cwd()),
            module_name="churn_assets.definitions",
        ),
        location_name="churn",
    )
    daemon, freshness = AssetDaemon({}, pre_sensor_interval_seconds=30), FreshnessDaemon()
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_runs_count()
        target = InProcessWorkspaceLoadTarget([origin])
        with create_test_daemon_workspace_context(target, instance) as workspace:
            for _ in range(TICKS):
                now.shift(60)
                list(execute_sensor_iteration(workspace, logging.getLogger(), None, None))
                daemon._run_iteration_impl(workspace, None, {}, {})
                list(freshness.run_iteration(workspace))
        states = {state.instigator_name: state for state in instance.all_instigator_state()}
        assert set(states) == {"alerts", "automation", "deliveries", "retraining_reasons"}
        for name in ("alerts", "automation"):
            assert states[name].instigator_data.cursor, name
        assert instance.get_runs_count() == runs, "the daemon asked for a run"


def graph_of(settings: Any = None) -> Any:
    """The graph over the home; without settings, by those of the environment."""
    from churn_assets.settings import load_settings
    from churn_assets_tests.defs.graph import Graph

    graph = Graph(settings or load_settings())
    graph.instance = dg.DagsterInstance.get()
    return graph


def pack() -> None:
    """Packs the home; the same files give the same bytes."""
    for path in HOME.rglob("*.db"):
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode = DELETE")
            database.execute("VACUUM")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for path in sorted(HOME.rglob("*"), key=_by_kind):
            inside = path.relative_to(HOME)
            if path.is_file() and not set(inside.parts) & set(LEFT_OUT):
                archive.add(path, str(inside), filter=_plain)
    target = BESIDE / f"{COMMIT}.tar.xz"
    target.write_bytes(lzma.compress(tar.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{target}: {target.stat().st_size:,} bytes")  # noqa: T201


def _by_kind(path: Path) -> tuple[str, str]:
    """Sort key that puts files of one kind together, because they compress better so."""
    return path.suffix, str(path)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Removes the user and sets the time of the clock, which the reader of the logs looks at."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = int(NOW.timestamp())
    return member


if __name__ == "__main__":
    main()
