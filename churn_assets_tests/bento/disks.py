"""Disks without room, for the server that logs to them."""

import subprocess
from pathlib import Path

import psutil

from churn_assets_tests.bento.running import Server


class SmallDisk:
    """A file system of 96 kB, where we may mount one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)]
        subprocess.run(command, check=True)

    def fill(self, server: Server) -> None:
        """Leaves room for some forty lines."""
        (self.folder / "filler").write_bytes(bytes(64_000))

    def free(self, server: Server) -> None:
        (self.folder / "filler").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class SmallFiles:
    """No file of the worker may grow beyond 30 kB: what writes to a disk sees the same error."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, server: Server) -> None:
        self._limit(server, 30_000)

    def free(self, server: Server) -> None:
        self._limit(server, 2**30)

    def close(self) -> None:
        """There is nothing to undo."""

    def _limit(self, server: Server, size: int) -> None:
        for worker in server.workers():
            _, hard = worker.rlimit(psutil.RLIMIT_FSIZE)
            worker.rlimit(psutil.RLIMIT_FSIZE, (size, hard))
