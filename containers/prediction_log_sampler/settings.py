"""Settings of the sampler."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bento_fetcher.settings import broken_rules
from prediction_log_shipper.settings import (
    FOLDER_URL,
    POSITIVE,
    SettingsError,
    is_folder_url,
    object_part,
)

MOST_LINES = 100_000


@dataclass(frozen=True)
class Settings:
    """Settings of the command.

    Attributes:
        url: Folder of the store, to which the shipper ships.
        release: Release, as the shipper names its folder.
        template_hash: Hash of the pod template whose predictions are wanted.
        target: File that gets the sample.
        lines: Number of predictions of the sample.
        timeout: Seconds within which so many must be in the store.
        interval: Seconds between two looks at the store.
    """

    url: str
    release: str
    template_hash: str
    target: Path
    lines: int
    timeout: float
    interval: float


def load_settings(variables: Mapping[str, str]) -> Settings:
    """Reads the settings.

    Raises:
        SettingsError: Variables are missing or wrong; the message names all of them.
    """

    def value(name: str, default: str = "") -> str:
        return variables.get(f"CHURN_SAMPLE_{name}", "").strip() or default

    url, release, template_hash = value("URL"), value("RELEASE"), value("TEMPLATE_HASH")
    target, lines = value("TARGET"), value("LINES")
    timeout, interval = value("TIMEOUT"), value("INTERVAL", "5")
    rules = {
        "URL": (is_folder_url(url), FOLDER_URL),
        "RELEASE": (release, "the name of a release, such as churn"),
        "TEMPLATE_HASH": (
            re.fullmatch("[a-z0-9]+", template_hash),
            "the hash of a pod template, such as 5588d584f6",
        ),
        "TARGET": (Path(target).is_absolute(), "the absolute path of a file"),
        "LINES": (
            re.fullmatch("[1-9][0-9]{0,5}", lines) and int(lines) <= MOST_LINES,
            f"a number from 1 to {MOST_LINES}",
        ),
        "TIMEOUT": (POSITIVE.fullmatch(timeout), "seconds above 0"),
        "INTERVAL": (POSITIVE.fullmatch(interval), "seconds above 0"),
    }
    prefixed = {f"CHURN_SAMPLE_{name}": rule for name, rule in rules.items()}
    if problems := broken_rules(variables, prefixed):
        raise SettingsError(problems)
    release = object_part(release)
    return Settings(
        url, release, template_hash, Path(target), int(lines), float(timeout), float(interval)
    )
