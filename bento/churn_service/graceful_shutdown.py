"""How a worker stops without losing a request that was sent to it.

A server that is told to stop closes its listening socket, and every connection that looks idle.
Three callers would lose a request by that, and each has its remedy here:

- one whose request is on its way over a kept connection: the worker serves on for a moment, and
  has every answer say `Connection: close`;
- one who has just connected: at the end of that moment no more connections begin, and those that
  did have `FINAL_SECONDS` to bring their request;
- one whose connection nobody will ever take. BentoML's supervisor holds the listening socket until
  all workers have ended, and Linux goes on connecting callers to it. So a filter on the socket
  drops their first packet: they are refused when they send it again, a second later.
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
"""Seconds that a caller who is connected has to bring a request."""

DRAINING = "churn-draining"
"""Name of a process that is about to stop, as `ps -o comm` and the other workers see it."""

ATTACH_FILTER, DETACH_FILTER = 26, 27
"""Options of a socket, `SO_ATTACH_FILTER` and `SO_DETACH_FILTER` of Linux: socket(7)."""

NO_NEW_CONNECTIONS = (
    (0x30, 0, 0, 13),  # load the flags of TCP (RFC 9293, section 3.1)
    (0x54, 0, 0, 0x12),  # of them SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone begins a connection:
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # keep all else
)
"""Instructions of a classic BPF: code, jump if true, jump if false, operand."""


def drain_on_sigterm(seconds: float, began: Callable[[], None]) -> None:
    """Has SIGTERM wait until the last requests are answered. Call it in the event loop.

    Args:
        seconds: for which the worker goes on taking connections.
        began: called once, when the signal comes.
    """
    stop = signal.getsignal(signal.SIGTERM)
    if not callable(stop):
        return
    loop = asyncio.get_running_loop()
    told = False

    def last_call(number: int, frame: FrameType | None) -> None:
        # First, as nothing that goes wrong may keep the worker from its end.
        loop.call_later(FINAL_SECONDS, stop, number, frame)
        refuse_connections()

    def drain(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            began()
            loop.call_soon_threadsafe(loop.call_later, seconds, last_call, number, frame)

    signal.signal(signal.SIGTERM, drain)


def refuse_connections() -> None:
    """Drops new connections, once no other worker is there to take them."""
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
            LOG.warning("who connects now may not be answered: %s", error)


def accept_connections() -> None:
    """Undoes what a worker before this one may have left on the socket that they share."""
    listener = _listener()
    if listener is None:
        return
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)
        except OSError as error:  # ENOENT, nearly always.
            LOG.debug("there is no filter on new connections: %s", error)


def _drains(process: psutil.Process) -> bool:
    """Whether a process takes no connection for long: it is about to stop, or is no worker."""
    try:
        # python -m <module of a worker>
        is_worker = process.cmdline()[:3] == psutil.Process().cmdline()[:3]
        return process.name() == DRAINING or not is_worker
    except psutil.NoSuchProcess:
        return True


def _listener() -> socket.socket | None:
    """The socket that BentoML gave this worker; None outside of `bentoml serve`, or of Linux."""
    context = click.get_current_context(silent=True)
    fd = context.params.get("fd") if context else None
    return socket.socket(fileno=os.dup(fd)) if fd and sys.platform == "linux" else None
