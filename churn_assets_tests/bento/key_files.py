"""Valid API keys, and the ways to write them into a file."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from churn_service.access.api_keys import Key, new_key, write_keys

IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)
PREDICT_TOKEN, PREDICT_KEY = new_key("predict", IN_AN_HOUR, "crm")
ADMIN_TOKEN, ADMIN_KEY = new_key("admin", IN_AN_HOUR, "ops")


def replace_keys(folder: Path, *keys: Key) -> Path:
    """Writes `keys.json` in a folder, over the previous one, and returns its path."""
    path = folder / "keys.json"
    write_keys(path, keys)
    return path


def mount_keys(folder: Path, *keys: Key) -> Path:
    """Swaps `keys.json` as Kubernetes does: keys.json -> ..data/keys.json, ..data -> ..<version>.

    The previous version is deleted after the swap.
    """
    path, data, version = folder / "keys.json", folder / "..data", folder / f"..{time.time_ns()}"
    previous = data.resolve()
    version.mkdir(parents=True)
    write_keys(version / "keys.json", keys)
    (folder / "..data_tmp").symlink_to(version.name)
    (folder / "..data_tmp").replace(data)
    if path.is_symlink():
        (previous / "keys.json").unlink()
        previous.rmdir()
    else:
        path.symlink_to("..data/keys.json")
    return path
