# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is a port free, and if not, whose is it?"""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._listeners import PROC, listeners


def taken_by(address: str, port: int, proc: Path = PROC) -> str | None:
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


def listener(port: int, proc: Path = PROC) -> str:
    """Return the process that listens on a port, as `name (process <id>)`, or `an unknown process`."""
    return str(next(iter(listeners([port], proc).get(port, [])), "an unknown process"))
