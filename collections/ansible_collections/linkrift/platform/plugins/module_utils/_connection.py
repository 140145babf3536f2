# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The SSH connection that a module runs through, as the host sees it, and where operators have come from so far."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_OPERATORS = re.compile(r"^linkrift_operators\s*=(?P<addresses>.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Connection:
    """One SSH connection.

    Attributes:
        client: address that it comes from: the control node's, or a bastion's.
        client_port: port that it comes from, which tells connections apart.
        port: port of the SSH server that it came to.
    """

    client: str
    client_port: int
    port: int


def find_connection(pid: int | None = None, proc: Path = Path("/proc")) -> Connection | None:
    """Return the SSH connection of a process, None when it has none (a local connection).

    sudo takes the variable away, so it is looked for in the process's ancestors.
    """
    current = os.getpid() if pid is None else pid
    while current > 1:
        directory = proc / str(current)
        try:
            environment = (directory / "environ").read_bytes().split(b"\0")
            status = (directory / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        for entry in environment:
            if entry.startswith(b"SSH_CONNECTION="):
                return _parse(entry.decode("ascii", "replace").partition("=")[2])
        current = int(status.rpartition(")")[2].split()[1])
    return None


def _parse(text: str) -> Connection | None:
    """Return what the variable SSH_CONNECTION says."""
    words = text.split()
    if len(words) != 4:
        return None
    return Connection(words[0].partition("%")[0], int(words[1]), int(words[3]))


def recorded_operators(text: str) -> list[str]:
    """Return the operators' addresses that an earlier run wrote into fail2ban's file."""
    found = _OPERATORS.search(text)
    return found["addresses"].split() if found else []


def operators(recorded: Sequence[str], client: str | None, known: Iterable[str], limit: int) -> list[str]:
    """Return the operators' addresses to write: those recorded, and the client's unless others cover it.

    The order is that of their first appearance, so that two control nodes in turn change nothing. When there are more
    than `limit`, the oldest go.

    Args:
        recorded: what an earlier run wrote.
        client: where this connection comes from.
        known: addresses and networks that are in the list anyway.
        limit: how many to keep; none with 0.
    """
    networks = [ipaddress.ip_network(entry, strict=False) for entry in known]

    def covered(address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        return any(parsed.version == network.version and parsed in network for network in networks)

    wanted = dict.fromkeys([*recorded, *([client] if client else [])])
    kept = [address for address in wanted if not covered(address)]
    return kept[max(len(kept) - limit, 0) :]
