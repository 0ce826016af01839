"""The store of the files, of every kind that fsspec knows in the image."""

import os
from pathlib import Path
from typing import Any

import fsspec

CONNECT_SECONDS, READ_SECONDS = 10, 30

OPTIONS: dict[str, dict[str, Any]] = {
    # Without botocore's own attempts, so that the reason of each one is reported.
    "s3": {
        "config_kwargs": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"max_attempts": 0},
        }
    },
    "file": {"auto_mkdir": True},
}


class IncompleteError(Exception):
    """The store has not all bytes of a file; a retry may help."""


class Store:
    """A folder of a store.

    Args:
        url: URL of the folder.
    """

    def __init__(self, url: str) -> None:
        self._scheme = url.partition("://")[0]
        options = OPTIONS.get(self._scheme, {})
        self._fs = fsspec.filesystem(
            self._scheme, skip_instance_cache=True, use_listings_cache=False, **options
        )
        self._root = self._fs._strip_protocol(url).rstrip("/")

    def put(self, path: Path, name: str, *, replace: bool = False) -> None:
        """Stores a file under a name, unless the store has it already.

        Args:
            replace: Whether the file may have changed since, at the same size.

        Raises:
            Exception: The store does not have the whole file; the stores share no base class.
        """
        target, size = f"{self._root}/{name}", path.stat().st_size
        if not replace and self._size(target) == size:
            return
        if self._scheme == "file":
            self._copy(path, target)
        else:
            self._fs.put_file(str(path), target)
        if (stored := self._size(target)) != size:
            raise IncompleteError(f"the store has {stored} of {size} bytes of {name}")

    def names(self, folder: str) -> list[str]:
        """Names of the files and folders in a folder; none where there is no such folder."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(f"{self._root}/{folder}".rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in found]

    def read(self, name: str) -> bytes:
        """Content of a file."""
        return bytes(self._fs.cat_file(f"{self._root}/{name}"))

    def _copy(self, path: Path, target: str) -> None:
        """Copies to a volume: a reader never sees a part, and a power cut leaves none."""
        part = f"{target}.part"
        self._fs.put_file(str(path), part)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        self._fs.mv(part, target)

    def _size(self, target: str) -> int | None:
        self._fs.invalidate_cache()
        try:
            return int(self._fs.info(target)["size"])
        except (FileNotFoundError, PermissionError):
            # Without the permission to list, S3 refuses to say that an object does not exist.
            return None
