"""Speed of the service, compared with other ways to serve the same model.

    python -m benchmarks.serving [--seconds 5] [--rounds 5] [--only ours --only echo]

All servers are measured in one run, with one worker each: FastAPI, MLflow and BentoML with a pandas
frame into the sklearn pipeline, BentoML that returns a constant, and the real bento with keys, rate
limit, metrics and prediction log on. They take turns, and the medians over the rounds are compared,
so that a busy machine slows all alike. See `benchmarks/README.md`.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.serving_peers.catalogue import Catalogue
from benchmarks.serving_peers.measuring import Measured, measure_load, measure_starts
from benchmarks.serving_peers.preparing import prepare
from benchmarks.serving_peers.reporting import process_table, speed_table, verdicts
from benchmarks.serving_peers.servers import Peer
from benchmarks.table import show

PEERS: Mapping[str, Callable[[Catalogue], Peer]] = {
    "fastapi": Catalogue.fastapi,
    "mlflow": Catalogue.mlflow,
    "bentoml": Catalogue.bento_pandas,
    "echo": Catalogue.bento_echo,
    "ours": Catalogue.ours,
}


def main() -> None:
    options = arguments()
    began, measured = datetime.now(UTC), Measured()
    print(f"{began:%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    with TemporaryDirectory(prefix="churn-serving-") as folder:
        scratch = Path(folder)
        material = prepare(scratch / "model")
        print(f"model: {material.trained.chosen}, {len(material.test):,} test rows", flush=True)
        catalogue = Catalogue(material, scratch)
        peers = [PEERS[name](catalogue) for name in PEERS if name in options.only]
        measure_starts(peers, scratch, options.rounds, measured)
        measure_load(peers, scratch, options.rounds, options.seconds, measured)
    print(f"\n{speed_table(measured).to_string(index=False)}")
    print(f"\n{process_table(measured).to_string(index=False)}\n")
    if measured.logged:
        print(f"{measured.logged}\n")
    show(verdicts(measured))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of one measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=PEERS, help="may be repeated")
    options = parser.parse_args()
    options.only = options.only or list(PEERS)
    return options


if __name__ == "__main__":
    main()
