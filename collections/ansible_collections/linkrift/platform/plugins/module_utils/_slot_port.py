# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is a port free, and if not, whose is it?"""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path

_LISTEN = "0A"


def taken_by(address: str, port: int, proc: Path = Path("/proc")) -> str | None:
    """Return who listens where a slot wants to; None when it is free.

    Args:
        address: IP address the slot binds to.
        port: TCP port.
        proc: the process file system.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections of an earlier run that are still in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return listener(port, proc)
            return f"nobody, but it cannot be bound: {error.strerror}"
    return None


def listener(port: int, proc: Path = Path("/proc")) -> str:
    """Return the process that listens on a port, as `name (process <id>)`, or `an unknown process`."""
    inodes = {
        fields[9]
        for table in ("tcp", "tcp6")
        for fields in _rows(proc / "net" / table)
        if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port
    }
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for directory in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(_target(link) in wanted for link in (directory / "fd").iterdir()):
                return f"{(directory / 'comm').read_text().strip()} (process {directory.name})"
    return "an unknown process"


def _rows(table: Path) -> list[list[str]]:
    try:
        return [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
