"""Where a line of the prediction log comes from: the pod, as Kubernetes' downward API shows it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

LOGGER = logging.getLogger("churn.service")

FILES: Mapping[str, str] = {
    "pod": "pod",
    "release": "release",
    "template_hash": "template-hash",
    "role": "role",
}
"""File of each field. `role` is canary, stable, preview, active, or empty."""

READ_SECONDS = 1.0
"""The files change while the pod runs: Argo Rollouts gives a pod another role."""


class PodInfo:
    """The fields, read again once a second at most; only one thread may call `read`.

    Args:
        folder: Folder of the files; without it all fields are empty.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._fields = dict.fromkeys(FILES, "")
        self._due = 0.0
        self._failing = False

    def read(self) -> Mapping[str, str]:
        """Returns the fields by name; a field without a file is empty."""
        if self._folder and (now := monotonic()) >= self._due:
            self._due = now + READ_SECONDS
            try:
                self._fields = {name: _text(self._folder / file) for name, file in FILES.items()}
                self._failing = False
            except OSError as error:
                # The last known fields are better than none, and much better than a lost line.
                if not self._failing:
                    LOGGER.error("the pod's fields are not read: %s", error)  # noqa: TRY400
                self._failing = True
        return self._fields


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""
