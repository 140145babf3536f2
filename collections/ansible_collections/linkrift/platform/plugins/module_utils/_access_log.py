# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HAProxy's access log: what visitors got in a stretch of time. Its fields are those of role haproxy (docs/edge.md).

HAProxy's counters begin anew with each reload and are gone with the worker that had them; the log keeps every request.
"""

from __future__ import annotations

import calendar
import contextlib
import functools
import gzip
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATH = Path("/var/log/linkrift/haproxy-access.log")

_BACKEND = "linkrift_"
# Threads, and the workers of an earlier reload, write side by side: lines are in order of time but for a few seconds.
_DISORDER = 10
# Below this many bytes, reading on is quicker than looking for the place.
_NEAR = 64 * 1024
# Times are exact below this many milliseconds, and above in 64 steps for each doubling: within 1.6 %.
_STEPS = 128
# logrotate's dateext of role haproxy.
_ROTATED = re.compile(r"-\d{8}-(\d+)(?:\.gz)?")


class AccessLogError(Exception):
    """The log cannot be read; the message says why."""


# -- figures -----------------------------------------------------------------------------------------------------------


@dataclass
class Figures:
    """What became of some requests.

    Attributes:
        failed: The server's side did not do its work: a status of 500 or more, or an answer that was cut off.
        aborted: The visitor went away, or was too slow.
        retried: A server was asked once more, or another one was.
        ends: How often each of HAProxy's termination states was seen, other than `--`.
        times: Number of requests by their time in milliseconds, as `step_of` has it.
    """

    requests: int = 0
    failed: int = 0
    aborted: int = 0
    retried: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    times: Counter[int] = field(default_factory=Counter)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count one request.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is no line of this log.
        """
        status, end, retries, spent = entry["status"] + 0, entry["end"] + "", entry["retries"], entry["total_ms"]
        # A change of server has `+` before the number.
        retried = retries.startswith("+") or int(retries) > 0
        # A request that ended before it was read has no time.
        step = step_of(spent) if spent >= 0 else None
        self.requests += 1
        self.failed += status >= 500 or _server_ended(end)
        self.aborted += end[:1] in ("C", "c")
        self.retried += retried
        if end != "--":
            self.ends[end] += 1
        if step is not None:
            self.times[step] += 1

    def merge(self, other: Figures) -> None:
        """Add what others were counted."""
        self.requests += other.requests
        self.failed += other.failed
        self.aborted += other.aborted
        self.retried += other.retried
        self.ends.update(other.ends)
        self.times.update(other.times)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures with the percentiles; `histogram` has what a sum over several logs needs."""
        return {
            "requests": self.requests,
            "failed": self.failed,
            "aborted": self.aborted,
            "retried": self.retried,
            "ends": dict(sorted(self.ends.items())),
            "p50_ms": percentile(self.times, 0.5),
            "p99_ms": percentile(self.times, 0.99),
            "histogram": [[step, number] for step, number in sorted(self.times.items())],
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Figures:
        """Return the figures that `as_dict` told.

        Raises:
            KeyError, TypeError, ValueError: it told no such thing.
        """
        return cls(
            requests=int(told["requests"]),
            failed=int(told["failed"]),
            aborted=int(told["aborted"]),
            retried=int(told["retried"]),
            ends=Counter({str(end): int(number) for end, number in told["ends"].items()}),
            times=Counter({int(step): int(number) for step, number in told["histogram"]}),
        )


def _server_ended(end: str) -> bool:
    """Tell whether a request did not come to its end for other reasons than the visitor's.

    `LR` is an answer that HAProxy was told to give, `PR` a request that it was told to refuse: both are as they should
    be. Any other letter in the first place is a server, a timeout, or somebody at HAProxy who ended it.
    """
    return end[:1] not in ("-", "C", "c", "L") and end != "PR"


def step_of(milliseconds: int) -> int:
    """Return the highest time that is counted together with this one, so that a histogram stays small."""
    shift = milliseconds.bit_length() - _STEPS.bit_length() + 1
    return milliseconds if shift <= 0 else (((milliseconds >> shift) + 1) << shift) - 1


def percentile(times: Mapping[int, int], share: float) -> int | None:
    """Return the time within which a share of the requests ended; None without any."""
    rank = math.ceil(share * sum(times.values()))
    for step, number in sorted(times.items()):
        rank -= number
        if rank <= 0:
            return step
    return None


# -- counting ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """A stretch of time that is counted by itself, in whole seconds since the epoch, as the log knows them.

    `until` is its first second no more.
    """

    name: str
    since: int
    until: int

    @classmethod
    def between(cls, name: str, since: float, until: float) -> Mark:
        """Return a mark of at least one second. Where one ends and the next one begins, no second is in both."""
        return cls(name, math.floor(since), max(math.floor(until), math.floor(since) + 1))


_Place = tuple[tuple[int, ...], str, str]


@dataclass
class Counts:
    """What was counted, by mark, service and server.

    Attributes:
        unreadable: Lines that are no whole object: HAProxy cuts off what is too long for a log.
    """

    marks: Sequence[Mark]
    unreadable: int = 0
    _places: dict[_Place, Figures] = field(default_factory=dict)

    def add_lines(self, lines: Iterable[bytes], since: float, until: float) -> None:
        """Count the requests that ended from `since` on, and before `until`."""
        marked = functools.lru_cache(maxsize=1024)(self._marks_at)
        places = self._places
        for line in lines:
            second = second_of(line)
            # What has no such time is no request, such as a TLS handshake that failed.
            if second is None or not since <= second < until:
                continue
            try:
                entry = json.loads(line)
                backend, server = entry["backend"], entry["server"] + ""
                # Without a backend, HAProxy names the frontend.
                routed = backend.startswith(_BACKEND) and backend != entry["frontend"]
                place = (marked(second), backend[len(_BACKEND) :] if routed else "", server)
                figures = places.get(place)
                if figures is None:
                    figures = places[place] = Figures()
                figures.add(entry)
            except (KeyError, TypeError, ValueError, AttributeError):
                self.unreadable += 1

    def _marks_at(self, second: int) -> tuple[int, ...]:
        return tuple(number for number, mark in enumerate(self.marks) if mark.since <= second < mark.until)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures of all, and of each mark."""
        return {
            **self._report(lambda _marks: True),
            "marks": {
                mark.name: self._report(functools.partial(_contains, number)) for number, mark in enumerate(self.marks)
            },
            "unreadable": self.unreadable,
        }

    def _report(self, wanted: Callable[[tuple[int, ...]], bool]) -> dict[str, Any]:
        total, unrouted = Figures(), Figures()
        services: dict[str, Figures] = {}
        servers: dict[str, dict[str, Figures]] = {}
        for (marks, service, server), figures in self._places.items():
            if not wanted(marks):
                continue
            if not service:
                unrouted.merge(figures)
                continue
            total.merge(figures)
            services.setdefault(service, Figures()).merge(figures)
            servers.setdefault(service, {}).setdefault(server, Figures()).merge(figures)
        return {
            "total": total.as_dict(),
            "unrouted": unrouted.as_dict(),
            "services": {
                service: {
                    **figures.as_dict(),
                    "servers": {name: server.as_dict() for name, server in sorted(servers[service].items())},
                }
                for service, figures in sorted(services.items())
            },
        }


def _contains(number: int, marks: tuple[int, ...]) -> bool:
    return number in marks


def second_of(line: bytes) -> int | None:
    """Return when a request ended (seconds since the epoch); None for a line that is none."""
    return _seconds(line[9:28]) if line.startswith(b'{"time":"') and line[28:30] == b'Z"' else None


# Many lines have the same time.
@functools.lru_cache(maxsize=256)
def _seconds(stamp: bytes) -> int | None:
    """Read a time such as `2026-01-31T12:00:00`."""
    found = re.fullmatch(rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)", stamp)
    if not found:
        return None
    try:
        return calendar.timegm((*map(int, found.groups()), 0, 0, 0))
    except ValueError:
        return None


# -- reading -----------------------------------------------------------------------------------------------------------


def read(path: Path, since: float, until: float, marks: Sequence[Mark]) -> tuple[Counts, list[str]]:
    """Count a stretch of the log, and of what was rotated away since it began.

    Returns:
        The counts, and the files that were read.

    Raises:
        AccessLogError: there is no log, or it cannot be read.
    """
    counts, names = Counts(marks), []
    seen: set[tuple[int, int]] = set()
    try:
        for name in _newest_first(path):
            with contextlib.suppress(FileNotFoundError), _open(name) as file:
                status = os.fstat(file.fileno())
                # Renamed between two of these: it was read under its other name.
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                if name != path and status.st_mtime < since - _DISORDER:
                    break
                names.append(file.name)
                counts.add_lines(_lines(file, since, until), since, until)
    except (OSError, EOFError) as error:
        raise AccessLogError(f"{path} cannot be read: {error}") from error
    if not seen:
        raise AccessLogError(f"there is no access log {path}")
    return counts, names


def _newest_first(path: Path) -> Iterator[Path]:
    """Yield the log, then the names of what was rotated away, packed or not.

    They are looked up after the log was read, so that one that was rotated meanwhile is not passed over.
    """
    yield path
    names = {}
    for name in path.parent.glob(f"{path.name}-*"):
        found = _ROTATED.fullmatch(name.name[len(path.name) :])
        if found:
            names[int(found[1])] = name.with_name(name.name.removesuffix(".gz"))
    yield from (name for _number, name in sorted(names.items(), reverse=True))


def _open(name: Path) -> io.BufferedReader:
    """Open a file, or the one that it was packed into; while it is being packed, both are there.

    Raises:
        FileNotFoundError: neither is there.
        OSError: it cannot be read.
    """
    try:
        return name.open("rb")
    except FileNotFoundError:
        return name.with_name(f"{name.name}.gz").open("rb")


def _lines(file: io.BufferedReader, since: float, until: float) -> Iterator[bytes]:
    """Yield whole lines, from somewhat before `since` to somewhat after `until`."""
    if file.name.endswith(".gz"):
        stream: Iterable[bytes] = gzip.GzipFile(fileobj=file)
    else:
        file.seek(find(file, since - _DISORDER))
        stream = file
    for line in stream:
        if not line.endswith(b"\n"):
            return
        second = second_of(line)
        if second is not None and second >= until + _DISORDER:
            return
        yield line


def find(file: io.BufferedReader, since: float) -> int:
    """Return the place of a line before which nothing is of `since` or later, not far from the first one that is."""
    low, high = 0, file.seek(0, io.SEEK_END)
    while high - low > _NEAR:
        middle = (low + high) // 2
        file.seek(middle)
        # The rest of a line.
        file.readline()
        place, second = file.tell(), None
        while place < high:
            second = second_of(file.readline())
            if second is not None:
                break
            place = file.tell()
        if second is None or second >= since:
            high = middle
        else:
            low = place
    return low
