# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The step file of an operation: what was asked for, each step with its time, and how it ended; one JSON a line.

Whoever does the work holds the file's lock for as long as it lives. So a file that is locked is an operation under way,
and one that is neither locked nor finished belongs to one that was killed: the kernel lets go of the lock by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME = Path("/run/linkrift-op")
"""Where each operation's name has a directory of its step files."""

POLL = 0.02
"""Seconds between two looks at a step file, which lies in memory."""

_KEPT = 10
"""Step files that are kept, of each operation's name."""


class WorkError(Exception):
    """The work could not be done; the message says why and what to do, `details` what else the module answers."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class EndedError(Exception):
    """Whoever did the work ended, and did not say how: before it was done, or with no room for that."""


Progress = Callable[[str], None]
"""Told of each step."""


@dataclass(frozen=True)
class Asked:
    """The first line of a step file.

    Attributes:
        work: name of the module of this directory whose `perform` does it.
        request: what `perform` is called with.
        purpose: the same in words, for others who have to wait.
        by: who asked for it.
        since: when (UTC).
        identity: what tells two requests apart that would come to the same from two that would not.
    """

    work: str
    request: Mapping[str, Any]
    purpose: str
    by: str
    since: str
    identity: str

    def describe(self) -> str:
        """Return it for messages."""
        return f"{self.purpose} by {self.by}, since {self.since}"


@dataclass(frozen=True)
class Found:
    """An operation that is under way."""

    path: Path
    asked: Asked


def create(directory: Path, asked: Asked) -> Path:
    """Write the step file of an operation that is about to begin; only its owner can read it.

    Raises:
        OSError: it cannot be written.
        TypeError, ValueError: the request cannot be written as JSON.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(4).hex()}.jsonl"
    line = json.dumps(asked.__dict__, sort_keys=True) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(line)
    return path


def prune(directory: Path) -> None:
    """Remove the oldest step files. Who still reads one keeps it."""
    known = sorted(directory.glob("*.jsonl"), key=_changed)
    for path in known[:-_KEPT]:
        # Two may do this at once.
        with contextlib.suppress(FileNotFoundError):
            if not _is_held(path):
                path.unlink()


def running(directory: Path) -> Found | None:
    """Return the operation that is under way; there is one at most, since they share a unit's name."""
    for path in sorted(directory.glob("*.jsonl"), key=_changed, reverse=True):
        # It may be pruned meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if _is_held(path):
                return Found(path, asked_in(path))
    return None


def unsettled(
    home: Path, names: Sequence[str], seconds: float, sleep: Callable[[float], None] = time.sleep
) -> list[str]:
    """Wait for what is under way, and return in words what still is after some seconds.

    Args:
        home: where each operation's name has its directory.
        names: which of them.
        seconds: for all together; 0: it is only looked.
        sleep: waits.
    """
    end = time.monotonic() + seconds
    left = []
    for name in names:
        while found := _running_or_none(home / name):
            if not await_end(found.path, max(0.0, end - time.monotonic()), sleep):
                left.append(found.asked.describe())
                break
    return left


def _running_or_none(directory: Path) -> Found | None:
    # Only root sees them. Whoever is not, does without.
    with contextlib.suppress(PermissionError):
        return running(directory)
    return None


def asked_in(path: Path) -> Asked:
    """Return what was asked for.

    Raises:
        OSError: the file is gone.
    """
    with path.open(encoding="utf-8") as stream:
        return Asked(**json.loads(stream.readline()))


class Writer:
    """Writes the steps and the end."""

    def __init__(self, stream: io.FileIO) -> None:
        self._stream = stream
        self._start = time.monotonic()
        self._torn = False

    def step(self, name: str) -> float:
        """Add a step that begins now, if there is room; return the seconds since the beginning."""
        at = round(time.monotonic() - self._start, 3)
        # Only a record: to end the work in the middle, for want of one, would be worse.
        with contextlib.suppress(OSError):
            self._write({"at": at, "step": name})
        return at

    def finish(self, end: Mapping[str, Any]) -> float:
        """Add how it ended: `result`, or `failure` with its message and details; return the seconds it took.

        Raises:
            TypeError, ValueError: that cannot be written as JSON. Then nothing is added.
            OSError: there is no room for it.
        """
        at = round(time.monotonic() - self._start, 3)
        self._write({"at": at, **end})
        return at

    def _write(self, entry: Mapping[str, Any]) -> None:
        left = json.dumps(entry).encode() + b"\n"
        if self._torn:
            # What was cut off must not take this line with it.
            left = b"\n" + left
        self._torn = True
        while left:
            # As much as there is room for, before that is an error.
            left = left[self._stream.write(left) or 0 :]
        self._torn = False


@contextlib.contextmanager
def working(path: Path) -> Iterator[Writer]:
    """Hold the step file's lock, as the one who does the work.

    Raises:
        OSError: the file is gone.
    """
    with path.open("ab", buffering=0) as stream:
        # Others hold it for a moment only, to see whether it can be held.
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX)
        yield Writer(stream)


def follow(path: Path, sleep: Callable[[float], None]) -> dict[str, Any]:
    """Wait for the end of an operation that has begun, and return its last line.

    Raises:
        EndedError: it was killed, or had no room to write how it ended.
        OSError: the file is gone.
    """
    with path.open("rb") as stream:
        pending = b""
        last_step = ""
        while True:
            alive = _is_locked(stream.fileno())
            *lines, pending = (pending + stream.read()).split(b"\n")
            for line in lines:
                try:
                    entry: dict[str, Any] = json.loads(line)
                except ValueError:
                    # Cut off, as there was no room for it. What counts is written on a line of its own.
                    continue
                if "result" in entry or "failure" in entry:
                    return entry
                last_step = entry.get("step", last_step)
            if not alive:
                raise EndedError(last_step)
            sleep(POLL)


def await_end(path: Path, seconds: float, sleep: Callable[[float], None]) -> bool:
    """Wait until an operation is not under way any more; tell whether it ended within some seconds."""
    end = time.monotonic() + seconds
    # Its file may be pruned in the moment it ends.
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
        while _is_locked(stream.fileno()):
            if time.monotonic() >= end:
                return False
            sleep(POLL)
    return True


def _is_held(path: Path) -> bool:
    with path.open("rb") as stream:
        return _is_locked(stream.fileno())


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _changed(path: Path) -> tuple[int, str]:
    """Return when a file was written last, for sorting."""
    try:
        return path.stat().st_mtime_ns, path.name
    except FileNotFoundError:
        return 0, path.name
