"""Disks that a test can fill, for a server that logs to them."""

import subprocess
from pathlib import Path

import psutil

from churn_assets_tests.bento.server_process import ServerProcess


class SmallDisk:
    """A file system of 96 kB; to mount one needs root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)]
        subprocess.run(command, check=True)

    def fill(self, server: ServerProcess) -> None:
        """Leaves room for about forty lines."""
        (self.folder / "filler").write_bytes(bytes(64_000))

    def free(self, server: ServerProcess) -> None:
        (self.folder / "filler").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class SmallFiles:
    """A limit of 30 kB for each file of a worker: writes beyond it fail as on a full disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, server: ServerProcess) -> None:
        self._limit(server, 30_000)

    def free(self, server: ServerProcess) -> None:
        self._limit(server, 2**30)

    def close(self) -> None:
        """Does nothing: the limit ends with the process."""

    def _limit(self, server: ServerProcess, size: int) -> None:
        for worker in server.workers():
            _, hard = worker.rlimit(psutil.RLIMIT_FSIZE)
            worker.rlimit(psutil.RLIMIT_FSIZE, (size, hard))
