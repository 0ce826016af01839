"""Settings of the shipper."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bento_fetcher.settings import broken_rules

SCHEMES = ("s3", "gs", "file")
FOLDER_URL = (
    f"a folder's URL with one of {', '.join(f'{one}://' for one in SCHEMES)}, without a query"
)
"""Rule of `is_folder_url`."""
POSITIVE = re.compile(r"(?=.*[1-9])\d{1,9}(\.\d{1,6})?")


class SettingsError(Exception):
    """The settings are wrong; the message is one line that names all of them."""


@dataclass(frozen=True)
class Settings:
    """Settings of the command.

    Attributes:
        folder: Folder of the prediction logs: the service's CHURN_API_PREDICTION_LOG.
        url: Folder of the store that gets the files, below a folder of their contract.
        pod_info: Folder with the files `pod` and `release`.
        interval: Seconds between two searches for closed files.
        max_bytes: Most bytes that may wait on the volume.
        stop_seconds: Seconds after SIGTERM within which the shipper ends.
    """

    folder: Path
    url: str
    pod_info: Path
    interval: float
    max_bytes: int
    stop_seconds: float

    def pod_field(self, name: str, default: str) -> str:
        """Returns a field of the pod, as a part of an object's name; the default for no text."""
        path = self.pod_info / name
        text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        return object_part(text) or default


def object_part(text: str) -> str:
    """Returns a text as a part of an object's name."""
    return re.sub(r"[^\w.-]|^\.+", "_", text, flags=re.ASCII)


def is_folder_url(url: str) -> bool:
    """Whether an address is that of a folder of a store."""
    scheme, _, rest = url.partition("://")
    return scheme in SCHEMES and bool(rest.strip("/")) and not re.search(r"[?#]", rest)


def load_settings(variables: Mapping[str, str]) -> Settings:
    """Reads the settings.

    Raises:
        SettingsError: Variables are missing or wrong; the message names all of them.
    """

    def value(name: str, default: str = "") -> str:
        return variables.get(f"CHURN_SHIP_{name}", "").strip() or default

    folder, url, pod_info = value("FOLDER"), value("URL"), value("POD_INFO")
    interval, stop = value("INTERVAL", "10"), value("STOP_SECONDS", "20")
    max_bytes = value("MAX_BYTES", str(2**30))
    rules = {
        "FOLDER": (Path(folder).is_absolute(), "the absolute path of the prediction logs"),
        "URL": (is_folder_url(url), FOLDER_URL),
        "POD_INFO": (Path(pod_info).is_dir() and pod_info, "a folder with the files pod, release"),
        "INTERVAL": (POSITIVE.fullmatch(interval), "seconds above 0"),
        "MAX_BYTES": (re.fullmatch("[1-9][0-9]{0,17}", max_bytes), "a number of bytes above 0"),
        "STOP_SECONDS": (POSITIVE.fullmatch(stop), "seconds above 0"),
    }
    prefixed = {f"CHURN_SHIP_{name}": rule for name, rule in rules.items()}
    if problems := broken_rules(variables, prefixed):
        raise SettingsError(problems)
    return Settings(Path(folder), url, Path(pod_info), float(interval), int(max_bytes), float(stop))
