"""The pod's volume: which files of the prediction log are closed, and which process has ended.

The service has a lock on the file that it writes to, and one on the file of each process's last
prediction. The kernel releases them when the process ends, however it ends. So no clock decides
whether a file is closed, and a process needs not be visible in this container.
"""

import fcntl
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

PROCESS = r"(?P<process>predictions\.(?P<host>[\w-]+)\.\d+\.\d{20})"
LINES = re.compile(rf"{PROCESS}\.\d{{6,}}\.jsonl")
LAST = re.compile(rf"{PROCESS}\.last\.json")
ENDED = ".ended.json"
"""End of the name under which a process's last prediction is stored: the process has ended."""
RUNNING = ".running.json"
"""The same while the process runs; it is all that is left of a volume that is lost."""

BLOCK_BYTES = 2**20


@dataclass
class Process:
    """The files of one process of the service.

    Attributes:
        contract: Name of the contract, which is the name of the folder.
        name: Beginning of the name of each file.
        files: Files of lines, in the order in which they were written.
        last: File of the last prediction, if there is one.
        ended: Whether the process has ended; never true without `last`.
    """

    contract: str
    name: str
    files: list[Path] = field(default_factory=list)
    last: Path | None = None
    ended: bool = False


def find_processes(folder: Path) -> list[Process]:
    """Returns the processes of this host whose files are in the volume, the oldest first.

    Files of another host are left alone: on a shared volume, their locks may not be visible here.
    """
    found: dict[tuple[str, str], Process] = {}
    # The locks first: a process that has ended creates no file any more.
    for path, name in _named(folder, LAST):
        process = Process(path.parent.name, name, last=path, ended=is_closed(path))
        found[process.contract, name] = process
    for path, name in _named(folder, LINES):
        key = path.parent.name, name
        found.setdefault(key, Process(*key)).files.append(path)
    return sorted(found.values(), key=lambda process: process.name.rpartition(".")[2])


def is_locked(path: Path) -> bool:
    """Whether a process has a lock on a file; False for a file that does not exist."""
    try:
        with path.open("rb") as file:
            return _is_locked(file)
    except FileNotFoundError:
        return False


def is_closed(path: Path) -> bool:
    """Whether nobody will write to a file any more.

    A file without a byte may be one that its writer is about to lock. The size comes first: a
    writer has the lock before its first byte.
    """
    return size_of(path) > 0 and not is_locked(path)


def size_of(path: Path) -> int:
    """Bytes of a file; 0 for a file that does not exist."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def lines_in(path: Path) -> int:
    """Number of newlines in a file."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK_BYTES), b""))


def newest_first(files: list[Path]) -> list[Path]:
    """Files of several processes, those that were written last first."""
    times = {}
    for path in files:
        with suppress(FileNotFoundError):
            times[path] = path.stat().st_mtime_ns, path.name
    return sorted(times, key=times.__getitem__, reverse=True)


def _is_locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _named(folder: Path, pattern: re.Pattern[str]) -> Iterator[tuple[Path, str]]:
    host = re.sub(r"[^\w-]", "-", socket.gethostname(), flags=re.ASCII)
    # In order of the numbers, which have six digits or more.
    for path in sorted(folder.glob("*/predictions.*"), key=lambda one: (len(one.name), one.name)):
        match = pattern.fullmatch(path.name)
        if match and match["host"] == host and path.is_file():
            yield path, match["process"]
