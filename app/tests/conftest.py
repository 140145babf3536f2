"""What the application's tests share."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

CLOSED_WITHIN_SECONDS = 20.0


@pytest.fixture(autouse=True)
async def no_connection_outlives_its_test() -> AsyncIterator[None]:
    """See that each connection that a test opened is closed before its loop ends.

    One with TLS is closed only when its peer has hung up, too, and never after the end of its loop. Python tells of
    that when it collects it, which is in some later test.
    """
    before = connections()
    yield
    deadline = time.monotonic() + CLOSED_WITHIN_SECONDS
    while left := {name: ends for name, ends in connections().items() if name not in before}:
        assert time.monotonic() < deadline, f"connections that stay open: {sorted(left.values())}"
        await asyncio.sleep(0.01)  # between two looks, until a deadline


def connections() -> dict[str, str]:
    """Return this process's sockets of TCP and UDP: what proc(5) has in /proc/pid/fd for each, and its two ends."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            name = str(path.readlink())
            if name.startswith("socket:"):
                with closing(socket.socket(fileno=os.dup(int(path.name)))) as one:
                    if one.family in (socket.AF_INET, socket.AF_INET6):
                        found[name] = f"{one.getsockname()} to {peer(one)}"
    return found


def peer(connection: socket.socket) -> str:
    """Return the other end's address, as far as there is one."""
    try:
        return str(connection.getpeername())
    except OSError:
        return "nobody"
