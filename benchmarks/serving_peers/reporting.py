"""Tables of the measurements, and verdicts on the aims."""

import statistics
from collections.abc import Iterator

import pandas as pd

from benchmarks.serving_peers.catalogue import (
    BENTO_ECHO,
    FASTAPI,
    FASTAPI_ASYNC,
    FASTAPI_BATCH,
    FASTAPI_THREAD,
    OURS,
    OURS_BATCH,
)
from benchmarks.serving_peers.measuring import BATCH_CONNECTIONS, CONNECTIONS, Measured
from benchmarks.serving_peers.preparing import BATCH
from benchmarks.table import Line

LEAST_TIMES_TUTORIAL = 50
LEAST_TIMES_ECHO = 1
MOST_P99 = 1 / 200
LEAST_TIMES_BATCH = 20
MOST_START = 1
MOST_MEMORY = 0.6

BUSY, CROWDED = 8, 32
"""Connections at which the aims are set."""

TUTORIALS = (FASTAPI_ASYNC, FASTAPI_THREAD)


def speed_table(measured: Measured) -> pd.DataFrame:
    """Medians over the rounds; the range of the rate shows how noisy the machine was."""
    order = sorted(measured.cells, key=lambda key: (measured.rows[key[0]], key[1]))
    return pd.DataFrame([_speed(measured, *key) for key in order])


def _speed(measured: Measured, workload: str, connections: int) -> dict[str, str | int]:
    rates = measured.values(workload, connections)
    times = {
        f"{quantity} ms": f"{measured.median(workload, connections, quantity) * 1e3:,.2f}"
        for quantity in ("p50", "p99", "worst")
    }
    return {
        "workload": workload,
        "connections": connections,
        "requests/s": f"{statistics.median(rates):,.4g}",
        "least..most": f"{min(rates):,.4g}..{max(rates):,.4g}",
        **times,
        "server's us/request": f"{measured.median(workload, connections, 'cpu') * 1e6:,.0f}",
        "client's core": f"{measured.median(workload, connections, 'client'):.0%}",
    }


def process_table(measured: Measured) -> pd.DataFrame:
    """Seconds to the first correct response; memory of worker and others after the load."""
    rows = []
    for name, (worker, others) in measured.memory.items():
        starts = measured.starts[name]
        rows.append(
            {
                "server": name,
                "start s": f"{statistics.median(starts):.2f}",
                "least..most": f"{min(starts):.2f}..{max(starts):.2f}",
                "worker RSS MiB": f"{worker.resident:.0f}",
                "worker USS MiB": f"{worker.own:.0f}",
                "others RSS MiB": f"{others.resident:.0f}",
                "others USS MiB": f"{others.own:.0f}",
            }
        )
    return pd.DataFrame(rows)


def verdicts(measured: Measured) -> Iterator[Line]:
    """The aims; the better of FastAPI's two handlers is the peer."""
    if not measured.has(OURS):
        return
    own = measured.median(OURS, BUSY)
    if measured.has(BENTO_ECHO):
        echo = measured.median(BENTO_ECHO, BUSY)
        yield _least(f"{BUSY} connections, beside BentoML's echo", own, "requests/s", echo,
                     LEAST_TIMES_ECHO)  # fmt: skip
        times = [measured.median(name, BUSY, "cpu") * 1e6 for name in (OURS, BENTO_ECHO)]
        yield Line("its processor time", times[0], "us/request", times[1], times[0] / times[1])
    if not measured.has(FASTAPI_ASYNC):
        return
    tutorial = max(measured.median(name, BUSY) for name in TUTORIALS)
    yield _least(f"{BUSY} connections, beside FastAPI", own, "requests/s", tutorial,
                 LEAST_TIMES_TUTORIAL)  # fmt: skip
    yield _most(
        f"p99 at {CROWDED} connections",
        measured.median(OURS, CROWDED, "p99") * 1e3,
        "ms",
        min(measured.median(name, CROWDED, "p99") for name in TUTORIALS) * 1e3,
        MOST_P99,
    )
    yield from _batches(measured)
    yield from _processes(measured)


def _batches(measured: Measured) -> Iterator[Line]:
    own, vectorised = (
        BATCH * measured.median(name, BATCH_CONNECTIONS) for name in (OURS_BATCH, FASTAPI_BATCH)
    )
    row_by_row = max(measured.median(name, n) for name in TUTORIALS for n in CONNECTIONS)
    yield _least(f"batch of {BATCH:,}, FastAPI row by row", own, "rows/s", row_by_row,
                 LEAST_TIMES_BATCH)  # fmt: skip
    ratio = own / vectorised
    yield Line(f"batch of {BATCH:,}, FastAPI in one frame", own, "rows/s", vectorised, ratio)


def _processes(measured: Measured) -> Iterator[Line]:
    starts = (statistics.median(measured.starts[name]) for name in (OURS, FASTAPI))
    yield _most("start to first response", next(starts), "s", next(starts), MOST_START)
    own, tutorial = (measured.memory[name][0] for name in (OURS, FASTAPI))
    yield _most("memory of the worker (RSS)", own.resident, "MiB", tutorial.resident, MOST_MEMORY)
    yield Line("memory of the worker (USS)", own.own, "MiB", tutorial.own, own.own / tutorial.own)


def _least(quantity: str, own: float, unit: str, peer: float, aim: float) -> Line:
    return Line(quantity, own, unit, peer, own / peer, f">= {aim:g}", own >= aim * peer)


def _most(quantity: str, own: float, unit: str, peer: float, aim: float) -> Line:
    return Line(quantity, own, unit, peer, own / peer, f"<= {aim:g}", own <= aim * peer)
