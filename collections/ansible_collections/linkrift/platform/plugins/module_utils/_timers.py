# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When systemd's timers run out, such as those that stop warm slots."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence

from ansible_collections.linkrift.platform.plugins.module_utils._gate import Clock
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Systemd

_SECONDS = {
    "y": 31557600.0,
    "month": 2629800.0,
    "w": 604800.0,
    "d": 86400.0,
    "h": 3600.0,
    "min": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(y|month|w|d|h|min|s|ms|us)")


def cooling_timer(service: str, slot: str) -> str:
    """Return the timer that stops a slot when it has been warm for long enough."""
    return f"linkrift-cool-{service}-{slot}.timer"


def due_times(systemd: Systemd, names: Sequence[str], clock: Clock) -> dict[str, int]:
    """Return when timers run out, in seconds since the epoch. Those that do not run are left out.

    Raises:
        SystemdError: the manager cannot be asked.
    """
    found = systemd.properties(names, ("ActiveState", "NextElapseUSecRealtime", "NextElapseUSecMonotonic"))
    times = {name: _due(timer, clock) for name, timer in found.items() if timer.get("ActiveState") == "active"}
    return {name: round(time) for name, time in times.items() if time is not None}


def _due(timer: Mapping[str, str], clock: Clock) -> float | None:
    """Return when one runs out: it counts by the calendar, or by the time since the host started."""
    # Such as `Sun 2026-11-22 00:00:00 UTC`: commands run with times in UTC.
    words = timer.get("NextElapseUSecRealtime", "").split()
    if len(words) == 4:
        return datetime.datetime.strptime(f"{' '.join(words[1:3])} +0000", "%Y-%m-%d %H:%M:%S %z").timestamp()
    # Such as `2d 3h 12min 5.123456s`; `infinity` or 0 when there is none.
    parts = _SPAN.findall(timer.get("NextElapseUSecMonotonic", ""))
    if not parts:
        return None
    return clock.time() - clock.monotonic() + sum(float(number) * _SECONDS[unit] for number, unit in parts)
