"""Starts runs as Dagster's own launcher does, and can tell whether a run's process is still there.

Without that, a run whose machine went down stays in progress for ever, and with it every asset
that it was to make: `run_monitoring` in dagster.yaml asks, fails it, and `run_retries` goes on.
"""

import psutil
from dagster import DagsterEventType, DagsterRun
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

CLOCK_SLACK = 5.0
"""Seconds by which a process may seem younger than its first event."""


class WatchedRunLauncher(DefaultRunLauncher):
    """The default launcher for one machine, with a look at the processes of its runs."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process that said it had started this run still runs."""
        events = self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
        begun = [
            (int(str(data.metadata["pid"].value)), entry.timestamp)
            for entry in events
            if entry.dagster_event
            and (data := entry.dagster_event.engine_event_data)
            and "pid" in data.metadata
        ]
        if not begun:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "no process has begun it yet")
        pid, since = begun[0]
        if _runs(pid, since):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"process {pid} is gone")


def _runs(pid: int, since: float) -> bool:
    """The process is there, and not another one that was given its number."""
    try:
        process = psutil.Process(pid)
        dead = process.status() == psutil.STATUS_ZOMBIE
        return not dead and process.create_time() < since + CLOCK_SLACK
    except psutil.NoSuchProcess:
        return False
