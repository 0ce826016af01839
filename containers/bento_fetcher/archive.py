"""Checks of the archive, and the bento that it becomes."""

import hashlib
import json
import shutil
import tarfile
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from zlib import error as ZlibError  # noqa: N812

from bento_fetcher.settings import FetchError, Settings, named, reason, shown, url_is

PARTS = ("bento.yaml", "src/service.py", "src/contract.json", "models")
"""Files and folders without which a folder is no bento of this project."""


MOST_MEMBERS = 10_000


def verify(settings: Settings, archive: Path) -> None:
    """Refuses an archive with another checksum."""
    with archive.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != settings.sha256:
        raise FetchError(
            f"{named('CHURN_FETCH_SHA256')} is {settings.sha256}, but the archive at "
            f"{shown(settings.url)} ({archive.stat().st_size} bytes) has {actual}: set the "
            "archive_sha256 that the asset churn_bento recorded, or the address of that archive"
        )


def unpack(settings: Settings, archive: Path, folder: Path) -> None:
    """Writes the files of an archive below a folder that does not exist yet.

    Only plain files and folders are accepted, and modes and owners are not restored, so that
    nothing in the archive can lead outside of the folder. `tarfile`'s own filters do the same, but
    Debian 12's Python (3.11.2) lacks them.
    """
    folder.mkdir()
    size = 0
    try:
        with tarfile.open(archive) as members:
            for number, member in enumerate(members):
                size += member.size
                if fault := _fault(member):
                    raise FetchError(
                        f"{url_is(settings)}, whose archive holds {member.name[:200]!r}, {fault}: "
                        "it is not as BentoML exports it"
                    )
                if size > settings.max_bytes or number >= MOST_MEMBERS:
                    raise FetchError(
                        f"{url_is(settings)}, whose archive unpacks to more than {MOST_MEMBERS} "
                        f"entries or the {settings.max_bytes} bytes of "
                        f"{named('CHURN_FETCH_MAX_BYTES')}"
                    )
                _write(members, member, folder.joinpath(*PurePosixPath(member.name).parts))
    except (tarfile.TarError, EOFError, LZMAError, ZlibError) as error:
        raise FetchError(
            f"{url_is(settings)}, which is not a whole tar archive: {reason(error)}. Export the "
            "bento again (bentoml export)"
        ) from error


def _fault(member: tarfile.TarInfo) -> str:
    """Returns why a member is refused; nothing for one that may be unpacked."""
    if member.issym() or member.islnk():
        return "a link"
    if not (member.isreg() or member.isdir()):
        return "a device or pipe"
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "a path that leads outside of the bento"
    if "\0" in member.name or (member.isreg() and not path.parts):
        return "a name that no file can have"
    return ""


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = members.extractfile(member)
    assert content is not None
    with content, path.open("wb") as file:
        shutil.copyfileobj(content, file)


def require_bento(settings: Settings, folder: Path) -> None:
    """Refuses a folder that is no bento, or the bento of another contract."""
    if lacking := [part for part in PARTS if not (folder / part).exists()]:
        raise FetchError(
            f"{url_is(settings)}, which is no bento of a churn service: it lacks "
            f"{', '.join(lacking)}. Set the address of an archive that churn_bento exported"
        )
    try:
        document = json.loads((folder / "src/contract.json").read_bytes())
    except ValueError as error:
        raise FetchError(
            f"{url_is(settings)}, whose src/contract.json is no JSON: {reason(error)}"
        ) from error
    name = document.get("name") if isinstance(document, dict) else None
    if name != settings.contract:
        raise FetchError(
            f"{named('CHURN_FETCH_CONTRACT')} is {settings.contract!r}, but the bento at "
            f"{shown(settings.url)} is of contract {name!r}: set the address of a bento of "
            f"{settings.contract!r}, or a release for {name!r}"
        )
