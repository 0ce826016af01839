"""Graceful shutdown of a worker, without losing a request that was sent to it.

A server that receives SIGTERM closes its listening socket and every connection that looks idle.
Three kinds of clients would lose a request by that. This module handles each of them:

- A client whose request is on its way over a kept connection: the worker serves requests for a
  while longer, and every response says `Connection: close`.
- A client that has just connected: at the end of that time no more connections are accepted, and
  the accepted ones have `FINAL_SECONDS` to send their request.
- A client whose connection no worker will ever accept: BentoML's supervisor holds the listening
  socket until all workers have ended, and Linux goes on connecting clients to it. A filter on the
  socket therefore drops their first packet. They are refused when they send it again, a second
  later.
"""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import click
import psutil

LOG = logging.getLogger("churn.service")

FINAL_SECONDS = 0.5
"""Seconds in which a connected client must send its request."""

DRAINING = "churn-draining"
"""Name of a stopping process, as `ps -o comm` and the other workers see it."""

ATTACH_FILTER, DETACH_FILTER = 26, 27
"""Socket options `SO_ATTACH_FILTER` and `SO_DETACH_FILTER` of Linux: socket(7)."""

NO_NEW_CONNECTIONS = (
    (0x30, 0, 0, 13),  # load the TCP flags (RFC 9293, section 3.1)
    (0x54, 0, 0, 0x12),  # keep the flags SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone requests a new connection:
    (0x06, 0, 0, 0),  # drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # accept all other packets
)
"""Instructions of a classic BPF program: code, jump if true, jump if false, operand."""


def drain_on_sigterm(seconds: float, began: Callable[[], None]) -> None:
    """Delays SIGTERM until the last requests are answered. Must be called in the event loop.

    Args:
        seconds: Time for which the worker still accepts connections.
        began: Called once, when the first signal arrives.
    """
    stop = signal.getsignal(signal.SIGTERM)
    if not callable(stop):
        return
    loop = asyncio.get_running_loop()
    draining = False

    def last_call(number: int, frame: FrameType | None) -> None:
        # Scheduled first: an error in `refuse_connections` must not keep the worker from stopping.
        loop.call_later(FINAL_SECONDS, stop, number, frame)
        refuse_connections()

    def drain(number: int, frame: FrameType | None) -> None:
        nonlocal draining
        if not draining:
            draining = True
            began()
            loop.call_soon_threadsafe(loop.call_later, seconds, last_call, number, frame)

    signal.signal(signal.SIGTERM, drain)


def refuse_connections() -> None:
    """Drops new connections, unless another worker can still accept them."""
    listener = _listener()
    if listener is None:
        return
    program = b"".join(struct.pack("HBBI", *step) for step in NO_NEW_CONNECTIONS)
    steps = ctypes.create_string_buffer(program)
    pointer = struct.pack("HL", len(NO_NEW_CONNECTIONS), ctypes.addressof(steps))
    with listener:
        try:
            Path("/proc/self/comm").write_text(DRAINING)
            if all(_drains(process) for process in psutil.Process(os.getppid()).children()):
                listener.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, pointer)
        except (OSError, psutil.Error) as error:
            LOG.warning("clients that connect now may get no response: %s", error)


def accept_connections() -> None:
    """Removes the filter that an earlier worker may have left on the shared socket."""
    listener = _listener()
    if listener is None:
        return
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)
        except OSError as error:  # Nearly always ENOENT: no filter is attached.
            LOG.debug("no filter on new connections was removed: %s", error)


def _drains(process: psutil.Process) -> bool:
    """Whether a process is stopping or is not a worker, and so accepts no more connections."""
    try:
        # python -m <module of a worker>
        is_worker = process.cmdline()[:3] == psutil.Process().cmdline()[:3]
        return process.name() == DRAINING or not is_worker
    except psutil.NoSuchProcess:
        return True


def _listener() -> socket.socket | None:
    """BentoML's listening socket of this worker; None outside `bentoml serve` and outside Linux."""
    context = click.get_current_context(silent=True)
    fd = context.params.get("fd") if context else None
    return socket.socket(fileno=os.dup(fd)) if fd and sys.platform == "linux" else None
