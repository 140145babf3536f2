# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which processes listen on which TCP ports, from the process file system (proc(5))."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"
PROC = Path("/proc")


@dataclass(frozen=True)
class Listener:
    """A process that listens.

    Attributes:
        name: What the process calls itself.
        pid: Its number.
        unit: The systemd unit it belongs to; empty when there is none.
    """

    name: str
    pid: int
    unit: str

    def __str__(self) -> str:
        """Return it in words, for messages."""
        return f"{self.name} (process {self.pid})"


def listening_sockets(pid: int, proc: Path = PROC) -> frozenset[str]:
    """Return the sockets that a process listens on, as the kernel names them; none when it has ended."""
    names = {f"socket:[{inode}]" for _port, inode in _sockets(proc)}
    try:
        return frozenset(name for link in (proc / str(pid) / "fd").iterdir() if (name := _target(link)) in names)
    except OSError:
        return frozenset()


def listeners(ports: Iterable[int], proc: Path = PROC) -> dict[int, list[Listener]]:
    """Return who listens on these ports.

    Args:
        ports: TCP ports.
        proc: The process file system.

    Returns:
        By port, for those that somebody listens on; the list is empty where the process cannot be seen.
    """
    wanted = set(ports)
    port_of = {f"socket:[{inode}]": port for port, inode in _sockets(proc) if port in wanted}
    found: dict[int, list[Listener]] = {port: [] for port in port_of.values()}
    if not port_of:
        return found
    for directory in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        # It may end while it is looked at.
        with contextlib.suppress(OSError):
            held = {port_of[name] for link in (directory / "fd").iterdir() if (name := _target(link)) in port_of}
            for port in held:
                name = (directory / "comm").read_text(encoding="utf-8", errors="replace").strip()
                found[port].append(Listener(name, int(directory.name), _unit(directory)))
    return found


def _sockets(proc: Path) -> list[tuple[int, str]]:
    """Port and inode of each listening socket."""
    return [
        (int(fields[1].rpartition(":")[2], 16), fields[9])
        for table in ("tcp", "tcp6")
        for fields in _rows(proc / "net" / table)
        if fields[3] == _LISTEN
    ]


def _rows(table: Path) -> list[list[str]]:
    try:
        return [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
    except OSError:
        return []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _unit(directory: Path) -> str:
    """The innermost service of the process's control group."""
    parts = (directory / "cgroup").read_text(encoding="utf-8", errors="replace").replace("\n", "/").split("/")
    return next((part for part in reversed(parts) if part.endswith(".service")), "")
