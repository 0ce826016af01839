"""What the service's own parts are worth: the service with all of them, and without each.

    python -m benchmarks.service_parts [--seconds 3] [--rounds 9] [--stops 5] [--only PART ...]

All servers are the same bento with one worker. They take turns under load, and the medians over the
rounds of the ratio to the whole service are compared. Then each is stopped under load, and the
requests are counted that were sent and got no response. `--archives FOLDER` writes the changed
bentos and stops, for a trial on a cluster. See `benchmarks/README.md`.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from benchmarks.client import encoded
from benchmarks.serving_peers.catalogue import OURS, Catalogue, bento
from benchmarks.serving_peers.measuring import CONNECTIONS, Measured, measure_load
from benchmarks.serving_peers.preparing import prepare
from benchmarks.serving_peers.servers import Peer, Server, served
from churn_assets_tests.bento.load_client import Tally, closed_loop

REMOVED = Path(__file__).with_name("service_parts_removed.py")

WHOLE = "all parts"
PARTS = (
    "drain",
    "filter_of_new_connections",
    "polled_queue",
    "middleware_before_the_router",
    "one_name_for_unknown_paths",
    "windows_in_mapped_memory",
)
"""Functions of `service_parts_removed`, by the part that each removes."""

CALLERS = 16
"""Callers of each kind during a stop: with a kept connection, and with one for each request."""

SECONDS_BEFORE_STOP = 1.5


def main() -> None:
    options = arguments()
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.2f}", flush=True)
    with TemporaryDirectory(prefix="churn-parts-") as folder:
        scratch = Path(folder)
        catalogue = Catalogue(prepare(scratch / "model"), scratch)
        whole = catalogue.ours()
        [archive] = (scratch / "bentoml" / "archives").glob("*.bento")
        bentos = {part: without(part, archive, scratch) for part in (WHOLE, *options.only)}
        if options.archives:
            write_archives(bentos, options.archives)
            return
        workloads = {OURS: whole.workloads[OURS]}
        peers = [
            replace(whole, name=part, command=bento(str(bentos[part])),
                    workloads={part: workloads[OURS]})
            for part in bentos
        ]  # fmt: skip
        measured = Measured()
        measure_load(peers, scratch, options.rounds, options.seconds, measured)
        lost = {peer.name: [stop(peer, scratch) for _ in range(options.stops)] for peer in peers}
    print(f"\n{table(measured, lost).to_string(index=False)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of one measurement")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--stops", type=int, default=5, help="stops under load of each server")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be repeated")
    parser.add_argument("--archives", type=Path, help="folder for the changed bentos")
    options = parser.parse_args()
    options.only = options.only or list(PARTS)
    return options


def without(part: str, archive: Path, scratch: Path) -> Path:
    """Unpacks a bento and removes a part from it; returns its folder."""
    folder = scratch / f"bento-{part.replace(' ', '-')}"
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    if part != WHOLE:
        shutil.copy(REMOVED, folder / "src")
        with (folder / "src/service.py").open("a", encoding="utf-8") as service:
            service.write(f"\nimport {REMOVED.stem}\n{REMOVED.stem}.{part}(Churn)\n")
    return folder


def write_archives(bentos: dict[str, Path], folder: Path) -> None:
    """Packs the changed bentos again."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, unpacked in bentos.items():
        path = folder / f"{part.replace(' ', '_')}.bento"
        with tarfile.open(path, "w:gz") as packed:
            packed.add(unpacked, arcname=".")
        print(path)


def stop(peer: Peer, scratch: Path) -> int:
    """Stops a server under load; returns the number of requests that got no response."""
    with served(peer, scratch) as server:
        tallies = asyncio.run(_stop(server))
    return sum(len(tally.lost) for tally in tallies)


async def _stop(server: Server) -> Sequence[Tally]:
    [workload] = server.peer.workloads.values()
    content = json.loads(workload.requests.read_text(encoding="utf-8"))
    kept = encoded(**content)
    content["headers"]["Connection"] = "close"
    new = encoded(**content)
    tallies = [Tally() for _ in range(2 * CALLERS)]
    async with asyncio.TaskGroup() as group:
        for number, tally in enumerate(tallies):
            requests = (new if number % 2 else kept)[number:]
            group.create_task(closed_loop(server.port, requests, tally, lambda: True))
        await asyncio.sleep(SECONDS_BEFORE_STOP)
        server.process.terminate()
    return tallies


def table(measured: Measured, lost: dict[str, list[int]]) -> pd.DataFrame:
    """Each part, by what the service without it answers, compared with the whole service."""
    return pd.DataFrame([_row(measured, part, lost[part]) for part in lost])


def _row(measured: Measured, part: str, lost: Sequence[int]) -> dict[str, str]:
    row = {"without": part}
    for connections in CONNECTIONS[1:]:
        row[f"requests/s at {connections}"] = f"{measured.median(part, connections):,.4g}"
        row[f"ratio at {connections}"] = _ratio(measured, part, connections, "rate")
    crowded = CONNECTIONS[-1]
    row["p99 ms"] = f"{measured.median(part, crowded, 'p99') * 1e3:.1f}"
    row["ratio of p99"] = _ratio(measured, part, crowded, "p99")
    row["us/request"] = f"{measured.median(part, crowded, 'cpu') * 1e6:.0f}"
    row["lost at a stop"] = " ".join(map(str, lost))
    return row


def _ratio(measured: Measured, part: str, connections: int, quantity: str) -> str:
    """Median of the rounds' ratios to the whole service, and their quartiles."""
    pairs = zip(
        measured.values(part, connections, quantity),
        measured.values(WHOLE, connections, quantity),
        strict=True,
    )
    ratios = [own / whole for own, whole in pairs]
    lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{median:.2f} ({lower:.2f} to {upper:.2f})"


if __name__ == "__main__":
    main()
