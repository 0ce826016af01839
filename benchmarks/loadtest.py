"""Load test: serves the newest bento, runs `locustfile.py` against it, and stops it.

    python -m benchmarks.loadtest [--users 100] [--seconds 60]

The service requires a key, counts requests against a limit that is never reached, and writes its
prediction log into a temporary folder. The exit code is 1 if a request failed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import pandas as pd
import psutil

from benchmarks.serving_peers.catalogue import NO_LIMIT, new_key
from churn_assets.adapters.serving import serving
from churn_assets.contracts.loading import load_contract
from churn_assets.settings import Settings, load_settings

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
API_KEY = "LOADTEST_API_KEY"
"""Same as in the locustfile; importing that would let gevent patch this process."""

SHOWN = ["Name", "Request Count", "Failure Count", "Requests/s", "50%", "95%", "99%", "100%"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--spawn-rate", type=int, default=50, help="users that start per second")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    settings = load_settings()
    if settings.home is None:
        parser.error("CHURN_HOME is not set: `make loadtest` sets it")
    home = settings.home / "bentoml"
    tag = newest_bento(settings, home)
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {tag}", flush=True)
    with TemporaryDirectory(prefix="churn-loadtest-") as scratch:
        keys = Path(scratch, "keys.json")
        variables = {API_KEY: new_key(keys)}
        limits = {"CHURN_API_KEYS_FILE": str(keys), "CHURN_API_RATE_LIMIT": NO_LIMIT}
        with serving(tag, home, settings=limits) as url:
            words = ["-u", options.users, "-r", options.spawn_rate, "-t", f"{options.seconds}s"]
            exit_code = put_under_load(url, [str(word) for word in words], variables, Path(scratch))
    sys.exit(exit_code)


def newest_bento(settings: Settings, home: Path) -> str:
    """Tag of the newest bento of the contract; ends the process where there is none."""
    name = f"churn_{load_contract(settings.contract).name}"
    latest = home / "bentos" / name / "latest"
    if not latest.is_file():
        sys.exit(f"there is no bento {name} in {home}: run `make demo` first")
    return f"{name}:{latest.read_text(encoding='utf-8').strip()}"


def put_under_load(
    url: str, options: Sequence[str], variables: dict[str, str], scratch: Path
) -> int:
    """Runs locust, prints its report and the service's load; returns 1 if requests failed."""
    service = psutil.Process().children(recursive=True)
    command = ["-f", str(LOCUSTFILE), "--headless", "--only-summary", "--host", url, *options]
    began, used = perf_counter(), seconds_of(service)
    locust = psutil.Popen(
        [sys.executable, "-m", "locust", *command, "--csv", str(scratch / "report")],
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, stderr = locust.communicate()
    if not (scratch / "report_stats.csv").is_file():
        sys.exit(f"locust reported nothing:\n{stderr}")
    wall, busy = perf_counter() - began, seconds_of(service) - used
    report = pd.read_csv(scratch / "report_stats.csv")
    failures = pd.read_csv(scratch / "report_failures.csv")
    print(report[SHOWN].to_string(index=False, float_format=lambda value: f"{value:,.1f}"))
    print(f"times in ms; the service took {busy / wall:.2f} of a core")
    if len(failures):
        print(failures.to_string(index=False))
    if not report["Request Count"].sum():
        sys.exit(f"locust sent no request:\n{stderr}")
    return int(locust.returncode)


def seconds_of(processes: Sequence[psutil.Process]) -> float:
    """Processor time of the processes so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    main()
