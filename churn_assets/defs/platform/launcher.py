"""Run launcher that can check whether the process of a run is still alive.

Without that check, a run whose machine went down would stay in progress for ever, and block every
asset that it was to materialise. `run_monitoring` in dagster.yaml asks for the check and marks such
a run as failed; `run_retries` then resumes it.
"""

import psutil
from dagster import DagsterEventType, DagsterRun, DefaultRunLauncher

from churn_assets.defs.platform.dagster_internals import CheckRunHealthResult, WorkerStatus

CLOCK_SLACK = 5.0
"""Seconds by which a process may seem younger than its first event."""


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher for one machine, with a health check of the runs' processes."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Returns whether the process that reported the start of this run is still alive."""
        events = self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
        starts = [
            (int(str(data.metadata["pid"].value)), entry.timestamp)
            for entry in events
            if entry.dagster_event
            and (data := entry.dagster_event.engine_event_data)
            and "pid" in data.metadata
        ]
        if not starts:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "no process has started the run yet")
        pid, since = starts[0]
        if _is_alive(pid, since):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"process {pid} is gone")


def _is_alive(pid: int, since: float) -> bool:
    """Returns whether the process is alive, and not a later process with the same id."""
    try:
        process = psutil.Process(pid)
        dead = process.status() == psutil.STATUS_ZOMBIE
        return not dead and process.create_time() < since + CLOCK_SLACK
    except psutil.NoSuchProcess:
        return False
