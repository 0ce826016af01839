"""Versions of files at paths and URLs, which change with their content and nothing else."""

import hashlib
import re
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import fsspec

from churn_assets.adapters.sources.http_files import HTTP_LINK, HttpFiles, local_copy
from churn_assets.adapters.sources.source import SourceError, SourceUnavailableError
from churn_assets.adapters.sources.tabular import as_source_errors

BLOCK = 2**20
"""Bytes that are hashed at a time."""

FORMER = re.compile("[0-9a-f]{64}")
"""Versions of earlier releases: fsspec's hash of the metadata of a file."""


class Reader(Protocol):
    """A binary file that is open for reading."""

    def read(self, size: int, /) -> bytes:
        """Returns the next bytes; none at the end."""
        ...


class FileVersions:
    """Versions of files, with a cache of content hashes.

    The version of a file is its ETag where the store gives one (HTTP servers, S3), else a hash of
    its content. `chmod`, `touch`, a hard link or a copy change the metadata of a local file but not
    its version. A file is hashed again only once its metadata have changed.
    """

    def __init__(self) -> None:
        self._http = HttpFiles()
        self._hashes: dict[Hashable, tuple[str, str | None]] = {}
        """Metadata and hash of each file that was hashed; no hash where it did not exist."""

    def version(self, path: str, known: str | None = None) -> str | None:
        """Returns the version of the file or folder at a path or URL; None where there is none.

        Args:
            known: The version that was reported last. A version in the form of earlier releases is
                returned again while the metadata of the file are the same.

        Raises:
            SourceUnavailableError: The file system or the server does not respond.
            SourceError: The URL cannot be opened here.
        """
        try:
            with as_source_errors(path, "bytes"):
                if link := HTTP_LINK.search(path):
                    return self._over_http(path, link[1])
                system, inner = fsspec.url_to_fs(path)
                system.invalidate_cache()  # some stores keep listings for as long as they live
                if known and FORMER.fullmatch(known) and system.ukey(inner) == known:
                    return known
                # The metadata of a file in an archive need not change with the archive.
                _, chained, last = path.rpartition("::")
                return self._stored(system, inner, str(_entry(last)) if chained else "")
        except SourceUnavailableError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def _over_http(self, path: str, url: str) -> str | None:
        version = self._http.version(url)
        if version is None or path == url:
            return version
        # A file of an archive need not exist, nor change with the archive.
        return self._hash(path, version, lambda: _opened(path))

    def _stored(self, system: Any, name: str, archive: str) -> str | None:
        entry = system.info(name)
        if entry["type"] == "directory":  # Parquet in parts
            parts = sorted(system.find(name))
            texts = [
                f"{part.removeprefix(name)} {self._stored(system, part, archive)}" for part in parts
            ]
            return f"sha256 {hashlib.sha256(repr(texts).encode()).hexdigest()}"
        if entry["type"] == "other":  # to open a named pipe would wait for its writer
            raise SourceError(f"{name} is neither a file nor a folder")
        if tag := entry.get("ETag") or entry.get("etag"):
            return f"ETag {tag}"
        # Not fsspec's `ukey`: for archives it is the address of an object.
        metadata = f"{entry} {archive}"
        return self._hash((type(system), name), metadata, lambda: system.open(name, "rb"))

    def _hash(
        self, key: Hashable, metadata: str, opened: Callable[[], AbstractContextManager[Reader]]
    ) -> str | None:
        hashed = self._hashes.get(key)
        if hashed is None or hashed[0] != metadata:
            hashed = self._hashes[key] = metadata, _hash_of(opened)
        return hashed[1]


def _entry(path: str) -> dict[str, Any]:
    system, inner = fsspec.url_to_fs(path)
    system.invalidate_cache()
    entry: dict[str, Any] = system.info(inner)
    return entry


@contextmanager
def _opened(path: str) -> Iterator[Reader]:
    with local_copy(path) as local, fsspec.open(local, "rb", expand=False) as file:
        yield file


def _hash_of(opened: Callable[[], AbstractContextManager[Reader]]) -> str | None:
    digest = hashlib.sha256()
    try:
        with opened() as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except FileNotFoundError:
        return None
    return f"sha256 {digest.hexdigest()}"
