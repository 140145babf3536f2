"""What the processes of a slot tell each other: a few numbers in memory that they share."""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass

_LAYOUT = struct.Struct("=iBqd")  # process id, paused, pending, due


@dataclass(frozen=True)
class Totals:
    """What all processes of the slot said.

    Attributes:
        pids: the processes that said something.
        paused: all of them are paused.
        pending: entries that they hold and have not acknowledged.
        due: when the first of them was to be stored (time.monotonic(), which all processes of a host have in common);
            None: they hold none.
    """

    pids: tuple[int, ...]
    paused: bool
    pending: int
    due: float | None


class Board:
    """One row for each process; made before they are forked, each writes its own row."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._memory = mmap.mmap(-1, _LAYOUT.size * processes)

    def write(self, index: int, pid: int, *, paused: bool = False, pending: int = 0, due: float | None = None) -> None:
        """Set a process's row; pid 0 means that it is gone."""
        _LAYOUT.pack_into(self._memory, index * _LAYOUT.size, pid, paused, pending, math.inf if due is None else due)

    def totals(self) -> Totals:
        """Add up the rows of the processes that are there."""
        rows = [_LAYOUT.unpack_from(self._memory, index * _LAYOUT.size) for index in range(self._processes)]
        there = [row for row in rows if row[0]]
        due = min((row[3] for row in there), default=math.inf)
        return Totals(
            pids=tuple(row[0] for row in there),
            paused=all(row[1] for row in there),
            pending=sum(row[2] for row in there),
            due=None if due == math.inf else due,
        )
