"""Shares of recent customers over all worker processes.

Counters of several processes can be added, shares cannot. So each worker publishes the counts of
its own last customers as gauges, BentoML sums these over the workers, and the shares are computed
from the sums in the text that Prometheus gets. The counts stay in that text: shares over several
replicas can be computed from them in the same way.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from numpy.typing import NDArray

from churn_assets.contracts.card import ScoreDistribution
from churn_service.observability.instruments import HELP, WINDOW, gauge
from churn_service.problems import CHECKS

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample

LEAST_FOR_DRIFT = 200
"""Least number of customers in all windows for a drift score."""

RESERVED_BYTES = 2**17
"""Size of each metrics file: room for hundreds of series. `prometheus_client` starts with half."""

SCORED, CHECKED = "churn_window_customers", "churn_window_checks"

Labels = tuple[str, str]
"""Values of a gauge's two labels; flags are "true" or "false", as everywhere in Prometheus."""


class RollingScores:
    """Counts of the last scored customers, by bin of probability and by predicted churn."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges, self._edge_array = edges, np.array(edges)
        self._cells: deque[int] = deque(maxlen=WINDOW)
        # Two cells per bin: not predicted to churn, predicted to churn.
        self._counts = [0] * (2 * (len(edges) + 1))

    def add(self, probability: float, will_churn: bool) -> None:
        self._push(2 * bisect_right(self._edges, probability) + will_churn)

    def extend(self, probabilities: NDArray[np.float64], will_churn: Sequence[bool]) -> None:
        bins = np.searchsorted(self._edge_array, probabilities[-WINDOW:], side="right")
        for cell in (2 * bins + np.asarray(will_churn[-WINDOW:], dtype=int)).tolist():
            self._push(cell)

    def counts(self) -> dict[Labels, float]:
        """Number of customers by bin and "true" or "false" for predicted churn."""
        return {
            (str(cell // 2), "true" if cell % 2 else "false"): count
            for cell, count in enumerate(self._counts)
        }

    def _push(self, cell: int) -> None:
        if len(self._cells) == WINDOW:
            self._counts[self._cells[0]] -= 1  # the next append drops this cell
        self._cells.append(cell)
        self._counts[cell] += 1


@dataclass(slots=True)
class _Run:
    """Customers that were checked together; `left` of them are still in the window."""

    customers: int
    left: int
    faults: Mapping[str, int]


@dataclass
class RollingChecks:
    """Counts of the last checked customers, by check and by whether they passed it.

    Only the totals of a batch are known: when a share of its customers has left the window, the
    same share of its faults has left too.
    """

    _runs: deque[_Run] = field(default_factory=deque)
    _customers: int = 0

    def add(self, customers: int, faults: Mapping[str, int]) -> None:
        """Counts `customers`; `faults` has the number of them with a fault, by check type."""
        newest = self._runs[-1] if self._runs else None
        if newest is None or faults or newest.faults:
            self._runs.append(_Run(customers, customers, faults))
        else:
            newest.customers += customers
            newest.left += customers
        self._customers += customers
        while self._customers > WINDOW:
            self._drop_oldest(self._customers - WINDOW)

    def counts(self) -> dict[Labels, float]:
        """Number of customers by check type and "true" or "false" for passed."""
        faulty: defaultdict[str, float] = defaultdict(float)
        for run in self._runs:
            for check, count in run.faults.items():
                faulty[check] += count * run.left / run.customers
        passed = {(check, "true"): self._customers - faulty[check] for check in CHECKS}
        return passed | {(check, "false"): faulty[check] for check in CHECKS}

    def _drop_oldest(self, excess: int) -> None:
        oldest = self._runs[0]
        dropped = min(excess, oldest.left)
        oldest.left -= dropped
        self._customers -= dropped
        if not oldest.left:
            self._runs.popleft()


class PublishedCounts:
    """Publishes the counts of a window as a gauge, which is summed over the live workers."""

    def __init__(self, window: RollingScores | RollingChecks, name: str, labels: Labels) -> None:
        self._counts = window.counts
        self._gauge = gauge(name, labels, mode="livesum")
        self._written: dict[Labels, float] = {}

    def write(self) -> None:
        for labels, count in self._counts().items():
            if self._written.get(labels) != count:
                self._gauge.labels(*labels).set(count)
                self._written[labels] = count


def remove_dead_workers() -> None:
    """Removes the live gauges of dead workers.

    `prometheus_client` leaves this to the server, and BentoML does not do it for workers that were
    killed or stopped by a signal.
    """
    for file in _files("gauge_live*_*.db"):
        if not _is_alive(int(file.stem.rpartition("_")[2])):
            file.unlink(missing_ok=True)  # another worker may remove it too


def reserve_disk() -> None:
    """Reserves the disk space into which this process's metrics may grow.

    Metrics are written to mapped memory: if the disk is full by then, the write kills the process.
    """
    if not hasattr(os, "posix_fallocate"):  # such as on macOS
        return
    for path in _files(f"*_{os.getpid()}.db"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVED_BYTES)


def _files(pattern: str) -> Iterable[Path]:
    """Metrics files of a server; none where a single process serves without a server."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(folder).glob(pattern) if folder else ()


def _is_alive(pid: int) -> bool:
    try:
        # BentoML's supervisor may take 10 s to notice a death: until then it is a zombie.
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def shares(text: str, scores: ScoreDistribution) -> str:
    """The metrics that are computed from the windows of all workers, as more lines of the text.

    Args:
        text: Metrics of all workers, in Prometheus' format.
        scores: Distribution with which the served probabilities are compared.
    """
    from prometheus_client import generate_latest
    from prometheus_client.registry import Collector

    families = _families(_samples(text), scores)

    class Computed(Collector):
        def collect(self) -> Iterable[Metric]:
            return families

    return generate_latest(Computed()).decode()


def _samples(text: str) -> list[Sample]:
    from prometheus_client.parser import text_string_to_metric_families

    # To parse the whole text would take milliseconds.
    lines = [line for line in text.splitlines() if line.startswith((SCORED, CHECKED))]
    families = text_string_to_metric_families("\n".join([*lines, ""]))
    return [sample for family in families for sample in family.samples]


def _families(samples: Sequence[Sample], scores: ScoreDistribution) -> list[Metric]:
    from prometheus_client.metrics_core import GaugeMetricFamily

    def count(name: str, **labels: str) -> float:
        """Number of customers in the windows `name` with all these labels."""
        wanted = labels.items()
        return sum(s.value for s in samples if s.name == name and wanted <= s.labels.items())

    def family(name: str, value: float | None = None, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, HELP[name], value, labels or None)

    bins = range(len(scores.shares))
    served = tuple(round(count(SCORED, score_bin=str(number))) for number in bins)
    drift = scores.stability_index(served) if sum(served) >= LEAST_FOR_DRIFT else nan
    rate = _share(count(SCORED, will_churn="true"), sum(served))
    quality = family("churn_input_data_quality_score", None, "check_type")
    for check in CHECKS:
        passed = count(CHECKED, check_type=check, passed="true")
        quality.add_metric([check], _share(passed, count(CHECKED, check_type=check)))
    return [
        family("churn_model_drift_score", drift),
        family("churn_predicted_rate", rate),
        quality,
    ]


def _share(count: float, total: float) -> float:
    return count / total if total else nan
