# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a unit costs and what it complains of: the memory of its processes, and its lines of level error or worse."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Systemd

MIB = 1024 * 1024
BOUND_SHARE = 0.9
"""Of the memory that systemd lets a unit have: beyond this, a busy hour ends in a kill."""

_BAD_LEVELS = ("error", "critical")
# A filter for journalctl, which reads a busy service's journal far quicker than we do; `_is_error` decides.
_CANDIDATES = r'"level": ?"(error|critical)"|^Traceback |^[-0-9]{10} [:,0-9]+ (ERROR|CRITICAL) '
_TEXT_ERROR = re.compile(r"Traceback |[-0-9]{10} [:,0-9]+ (ERROR|CRITICAL) ")


@dataclass(frozen=True)
class Run:
    """The run of a unit that is under way.

    Attributes:
        pid: its main process; 0: it does not run.
        started: when that was started, in seconds since boot (CLOCK_MONOTONIC).
        memory_max: bytes that systemd lets it have; None: as much as there is.
    """

    pid: int
    started: float
    memory_max: int | None

    @property
    def memory_bound(self) -> float | None:
        """Return how many MiB its processes should not pass; None: no bound is known."""
        return None if self.memory_max is None else self.memory_max * BOUND_SHARE / MIB


def current_run(systemd: Systemd, unit: str) -> Run:
    """Return the run of a unit that is under way.

    Raises:
        SystemdError: systemd cannot be asked.
    """
    wanted = ("MainPID", "ExecMainStartTimestampMonotonic", "MemoryMax")
    found = systemd.properties([unit], wanted).get(unit, {})
    memory = found.get("MemoryMax", "")
    return Run(
        pid=int(found.get("MainPID") or 0),
        started=int(found.get("ExecMainStartTimestampMonotonic") or 0) / 1_000_000,
        memory_max=int(memory) if memory.isdecimal() else None,
    )


def resident(unit: str, proc: Path) -> tuple[float, int]:
    """Return the memory that the processes of a unit have in use, added up, in MiB, and how many they are.

    What they share counts for each of them, so this is never less than what systemd counts.

    Args:
        unit: its name.
        proc: the process file system.
    """
    pages = count = 0
    for directory in proc.glob("[0-9]*"):
        # It may end while it is looked at.
        with contextlib.suppress(OSError, IndexError, ValueError):
            groups = (directory / "cgroup").read_text(encoding="utf-8", errors="replace").replace("\n", "/").split("/")
            if unit in groups:
                pages += int((directory / "statm").read_text(encoding="ascii").split()[1])
                count += 1
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB, count


def error_lines(systemd: Systemd, unit: str, since: float) -> list[str]:
    """Return what a unit, or systemd about it, said at level error or worse, oldest first.

    Args:
        systemd: the service manager.
        unit: its name.
        since: seconds since the epoch.

    Raises:
        SystemdError: the journal cannot be read.
    """
    systemd.sync_journal()
    entries = [
        *systemd.journal_entries(unit, since, "--priority=err"),
        *systemd.journal_entries(unit, since, f"--grep={_CANDIDATES}", "--case-sensitive=true"),
    ]
    found = {str(entry.get("__CURSOR", number)): entry for number, entry in enumerate(entries) if _is_error(entry)}
    ordered = sorted(found.values(), key=lambda entry: int(entry.get("__REALTIME_TIMESTAMP", 0)))
    return [_text(entry) for entry in ordered]


def _is_error(entry: Mapping[str, Any]) -> bool:
    if str(entry.get("PRIORITY", "6")) in ("0", "1", "2", "3"):
        return True
    text = _text(entry)
    with contextlib.suppress(ValueError):
        document = json.loads(text)
        return isinstance(document, dict) and document.get("level") in _BAD_LEVELS
    return _TEXT_ERROR.match(text) is not None


def _text(entry: Mapping[str, Any]) -> str:
    """Return an entry's message; one that is no text comes as the numbers of its bytes."""
    message = entry.get("MESSAGE")
    if isinstance(message, list):
        return bytes(byte for byte in message if isinstance(byte, int)).decode(errors="replace")
    return str(message or "")
