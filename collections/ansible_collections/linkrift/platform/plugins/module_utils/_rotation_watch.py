# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Watch what visitors get from some servers, by HAProxy's own counters.

A worker that a reload brings begins at nothing, and takes over no counts. So the growth is added up from look to look;
what the old worker counted between the last look at it and its end is not in it. The access log has that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import (
    COUNTERS,
    Haproxy,
    HaproxyError,
    Key,
    ServerView,
    View,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import is_ours, service_of

BOUNDED = ("hrsp_5xx", "econ", "eresp", "wretr", "wredis")
"""Counters of what a visitor noticed, or would have without a second attempt."""

_SILENCE = 10.0
"""Seconds that HAProxy may give no answer, as while it is reloaded or restarted."""


class RotationWatchError(Exception):
    """What shall be watched cannot be; the message says why."""


@dataclass(frozen=True)
class Baseline:
    """What HAProxy had counted, and the process that had: another one begins at nothing.

    Attributes:
        down: servers of the rotation that took no traffic already, such as those of a host that is left out.
    """

    pid: int | None
    counters: Mapping[Key, Mapping[str, int]]
    down: frozenset[Key] = frozenset()

    @classmethod
    def of_view(cls, view: View) -> Baseline:
        """Take it from HAProxy as it is now."""
        down = frozenset(key for key, server in view.servers.items() if _is_down(server))
        return cls(view.pid, {key: server.counters for key, server in view.servers.items()}, down)

    @classmethod
    def of_result(cls, result: Mapping[str, Any]) -> Baseline:
        """Take it from the result of the modules rotation or rotation_info.

        Raises:
            RotationWatchError: it is none.
        """
        counters: dict[Key, dict[str, int]] = {}
        down = set()
        try:
            for entry in result["rotation"].values():
                for name, server in entry["servers"].items():
                    found = {str(counter): int(value) for counter, value in server["counters"].items()}
                    key = (str(entry["backend"]), str(name))
                    counters[key] = found
                    if server["admin"] == "ready" and not server["takes_traffic"] and server["check_status"]:
                        down.add(key)
            pid = result["pid"]
            return cls(None if pid is None else int(pid), counters, frozenset(down))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = f"baseline is no result of rotation or rotation_info ({type(error).__name__}: {error})"
            raise RotationWatchError(msg) from error


def _is_down(server: ServerView) -> bool:
    """Tell whether a server is to take traffic and, by its checks, does not."""
    return server.admin == "ready" and not server.takes_traffic and bool(server.check_status)


@dataclass
class Seen:
    """A server, and what was seen of it."""

    growth: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    server: ServerView | None = None


@dataclass
class Watch:
    """Adds up what was counted since the baseline.

    Attributes:
        keys: the servers; empty: those that are ready at the first look.
        bounds: by how much a counter of a server may grow; 0 where it is not named.
        baseline: where counting begins; None: at the first look.
        down: servers that have been down since before the baseline, which is no news.
    """

    keys: Sequence[Key]
    bounds: Mapping[str, int]
    baseline: Baseline | None
    down: frozenset[Key] = frozenset()
    seen: dict[Key, Seen] = field(default_factory=dict)
    looks: int = 0
    reloads: int = 0

    def look(self, view: View) -> str:
        """Take in what HAProxy says now; return what is wrong, or an empty text.

        Raises:
            RotationWatchError: HAProxy does not know one of the servers.
        """
        if not self.looks:
            ready = [key for key, server in view.servers.items() if is_ours(key[0]) and server.admin == "ready"]
            self.seen = {key: Seen() for key in sorted(self.keys or ready)}
            self.down = self.baseline.down if self.baseline else self.down
        self.looks += 1
        before = self.baseline or Baseline.of_view(view)
        again = before.pid != view.pid
        self.reloads += again
        for key, found in self.seen.items():
            server = view.servers.get(key)
            if server is None:
                known = ", ".join(sorted(word(other) for other in view.servers if is_ours(other[0]))) or "none"
                msg = f"HAProxy does not know {word(key)} (it knows: {known})"
                raise RotationWatchError(msg)
            found.server = server
            former = {} if again else before.counters.get(key, {})
            for name, now in server.counters.items():
                # Less than before: somebody cleared the counters.
                was = former.get(name, 0)
                found.growth[name] = found.growth.get(name, 0) + (now - was if now >= was else now)
        self.baseline = Baseline.of_view(view)
        self.down &= self.baseline.down
        return "; ".join(reason for key in self.seen for reason in self._wrong(key))

    def _wrong(self, key: Key) -> Iterable[str]:
        found = self.seen[key]
        for name in BOUNDED:
            bound = self.bounds.get(name, 0)
            if found.growth.get(name, 0) > bound:
                yield f"{word(key)}: {name} grew by {found.growth[name]} ({bound} allowed)"
        server = found.server
        if server and _is_down(server) and key not in self.down:
            yield f"{word(key)} is in the rotation, but {server.status} ({server.last_check()})"

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return what was seen of each server, for results."""
        return {
            word(key): {
                "admin": found.server.admin if found.server else None,
                "status": found.server.status if found.server else None,
                "requests": found.growth.get("stot", 0),
                **{name: found.growth.get(name, 0) for name in COUNTERS if name != "stot"},
            }
            for key, found in self.seen.items()
        }


def run(
    watch: Watch,
    haproxy: Haproxy,
    *,
    seconds: float,
    interval: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> str:
    """Look until the time is up or something is wrong; return what is wrong, or an empty text.

    Args:
        watch: what to look at.
        haproxy: whom to ask.
        seconds: how long; 0: once.
        interval: seconds between two looks.
        clock: seconds that only grow.
        sleep: waits.

    Raises:
        RotationWatchError: HAProxy gives no answer, or does not know a server.
    """
    end = clock() + seconds
    while True:
        reason = watch.look(_ask(haproxy, interval, clock, sleep))
        if reason or clock() + interval > end:
            return reason
        sleep(interval)


def _ask(haproxy: Haproxy, interval: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> View:
    """Ask the worker that serves, past the moment of a reload in which none answers."""
    end = clock() + _SILENCE
    while True:
        problem = "only an old worker answers"
        try:
            view = haproxy.view()
            if not view.stopping:
                return view
        except HaproxyError as error:
            problem = str(error)
        if clock() >= end:
            msg = f"HAProxy does not answer since {_SILENCE:g} s: {problem}"
            raise RotationWatchError(msg)
        sleep(min(interval, 0.2))


def word(key: Key) -> str:
    """Name a server as operators do: `redirect/app1-blue`."""
    return f"{service_of(key[0])}/{key[1]}"
