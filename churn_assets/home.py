"""`make home`: checks the settings, then makes the home with the files that make and Dagster need.

Nothing is written if a setting is wrong. Several processes may make the same home at once.
"""

import os
import secrets
import sys
from argparse import ArgumentParser
from pathlib import Path

from filelock import FileLock

from churn_assets.settings import Settings, SettingsError, load_settings

INSTANCE = Path(__file__).parents[1] / "dagster.yaml"
LOCK_SECONDS = 60.0


def make_home(settings: Settings, *, keep_scenario: bool = False) -> None:
    """Makes the folders and files of the home; what exists is kept, except `dagster.yaml`.

    Args:
        keep_scenario: Whether the scenario of the simulated operator is stored, for later runs.
    """
    assert settings.home is not None, "the Makefile sets CHURN_HOME"
    home = settings.home
    for folder in ("dagster", "bentoml"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".home.lock", timeout=LOCK_SECONDS):
        _write(home / "dagster" / INSTANCE.name, INSTANCE.read_text(encoding="utf-8"))
        key, scenario = home / "id.key", home / "operator.mk"
        if not key.is_file() or not key.stat().st_size:
            _write(key, f"{secrets.token_hex(32)}\n", mode=0o600)
        if keep_scenario and not scenario.is_file():
            _write(scenario, _scenario(settings))


def _scenario(settings: Settings) -> str:
    """Lines of a Makefile, whose variables the environment overrides."""
    simulated = settings.simulated
    chosen = {"SCENARIO": simulated.scenario, "SCENARIO_MONTH": simulated.scenario_month}
    return "".join(f"export CHURN_SIMULATED__{name} ?= {value}\n" for name, value in chosen.items())


def _write(path: Path, text: str, mode: int = 0o666) -> None:
    """Writes a temporary file and renames it, so that no process reads a part of it."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    part.rename(path)


def main() -> None:
    """Makes the home of the settings; ends with a message if a setting is wrong."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--keep-scenario", action="store_true")
    arguments = parser.parse_args()
    try:
        make_home(load_settings(), keep_scenario=arguments.keep_scenario)
    except SettingsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
