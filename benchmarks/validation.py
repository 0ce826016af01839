"""Speed, memory and growth of `core.data.validation.validate` on raw rows of text.

    python -m benchmarks.validation

The peer is the code that one writes without this package: pandas parses the numbers and pandera
checks the same limits, but no row is quarantined, no fault explained and no feature derived.
"""

import math
import multiprocessing
import resource
import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import ParamSpec, TypeVar

import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow
import pyarrow.parquet

from benchmarks.table import Line, show
from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.schemas import TEXT, customer_schema
from churn_assets.core.data.validation import validate
from churn_assets.core.simulation.simulator import Simulator

FEW, MANY = 100_000, 1_000_000
MONTH = "2025-01"
REPEATS = 3
WARM_UP_ROWS = 1_000

LEAST_ROWS_A_SECOND = 150_000
MOST_GIBIBYTES = 3.0
MOST_GROWTH = 11.0

P = ParamSpec("P")
T = TypeVar("T")


def main() -> None:
    with TemporaryDirectory() as folder:
        paths = {rows: Path(folder, f"{rows}.parquet") for rows in (FEW, MANY)}
        for rows, path in paths.items():
            in_a_process(write_rows, rows, path)
        runs = [
            (*(in_a_process(own, path) for path in paths.values()), in_a_process(peer, paths[MANY]))
            for _ in range(REPEATS)
        ]
    few, many = (statistics.median(run[i][0] for run in runs) for i in (0, 1))
    memory = max(run[1][1] for run in runs)
    checking, reading, peer_memory = (
        statistics.median(run[2][i] for run in runs) for i in range(3)
    )
    speed, growth = MANY / many, many / few
    show(
        [
            Line(f"{MANY:,} rows, beside pandas and pandera", many, "s", reading + checking,
                 many / (reading + checking)),
            Line(f"{MANY:,} rows, beside pandera alone", many, "s", checking, many / checking),
            Line("speed", speed, "rows/s", MANY / (reading + checking),
                 aim=f">= {LEAST_ROWS_A_SECOND:,}", passed=speed >= LEAST_ROWS_A_SECOND),
            Line("highest memory of the process", memory, "GiB", peer_memory, memory / peer_memory,
                 f"<= {MOST_GIBIBYTES:g}", memory <= MOST_GIBIBYTES),
            Line(f"{FEW:,} rows", few, "s"),
            Line("times the time for 10 times the rows", growth, aim=f"<= {MOST_GROWTH:g}",
                 passed=growth <= MOST_GROWTH),
            Line("exponent of growth", math.log10(growth)),
        ]
    )  # fmt: skip


def in_a_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function in a new process: making the rows takes more memory than validating them."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args, kwargs)


def write_rows(rows: int, path: Path) -> None:
    source = SimulatedSource(load_contract("telecom"), Simulator(rows))
    source.snapshot(MONTH).to_parquet(path)


def read_rows(path: Path) -> pd.DataFrame:
    types = {arrow.string(): TEXT, arrow.large_string(): TEXT}
    rows: pd.DataFrame = arrow.parquet.read_table(path).to_pandas(types_mapper=types.get)
    return rows


def own(path: Path) -> tuple[float, float]:
    """Measures `validate`: seconds, and the highest memory of the process in GiB."""
    contract, raw = load_contract("telecom"), read_rows(path)
    validate(raw[:WARM_UP_ROWS], contract, MONTH)
    began = perf_counter()
    validate(raw, contract, MONTH)
    return perf_counter() - began, highest_memory()


def peer(path: Path) -> tuple[float, float, float]:
    """Measures the peer: seconds to check with pandera, seconds to parse with pandas, and GiB."""
    contract, raw = load_contract("telecom"), read_rows(path)
    find_faults(to_numbers(raw[:WARM_UP_ROWS], contract), contract)
    began = perf_counter()
    typed = to_numbers(raw, contract)
    read = perf_counter()
    find_faults(typed, contract)
    return perf_counter() - read, read - began, highest_memory()


def to_numbers(raw: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    return raw.assign(
        **{
            column.name: pd.to_numeric(raw[column.name], errors="coerce").astype(
                "Int64" if column.whole else "float64"
            )
            for column in contract.snapshot
            if column.kind == "number"
        }
    )


def find_faults(typed: pd.DataFrame, contract: Contract) -> int:
    try:
        customer_schema(contract).validate(typed, lazy=True)
    except pa.errors.SchemaErrors as errors:
        return len(errors.failure_cases)
    return 0


def highest_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
