# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of a rollout: what was done where and when, and what visitors got meanwhile.

Only `id`, `result`, `started` and `ended` are needed. The report of a rollout that failed is made of what there is.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._access_log import Figures
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SLOTS

FORMAT = 1
RESULTS = ("success", "undone", "failed")

# Of one host, so that a report stays readable.
_EVIDENCE = 20_000


class ReportError(ValueError):
    """There is too little to report; the message says what is missing."""


def make(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report.

    Args:
        run: What filter rollout_report describes.

    Raises:
        ReportError: something that is needed is missing, or is no such thing.
    """
    missing = [name for name in ("id", "result", "started", "ended") if run.get(name) in (None, "")]
    if missing:
        raise ReportError(f"the rollout has no {', '.join(missing)}")
    if run["result"] not in RESULTS:
        raise ReportError(f"the result is {run['result']}, which is none of {', '.join(RESULTS)}")
    started, ended = _unix(run["started"]), _unix(run["ended"])
    releases = {service: _way(way) for service, way in sorted((run.get("releases") or {}).items())}
    logs = run.get("logs") or {}
    counted = {name: log for name, log in sorted(logs.items()) if isinstance(log.get("marks"), Mapping)}
    visitors = _Visitors(counted.values())
    return {
        "format": FORMAT,
        "id": str(run["id"]),
        "purpose": str(run.get("purpose") or "rollout"),
        "by": str(run.get("by") or ""),
        "result": str(run["result"]),
        "why": str(run.get("why") or ""),
        "started": _iso(started),
        "ended": _iso(ended),
        "seconds": round(ended - started, 1),
        "releases": releases,
        "hosts": _hosts(run, started, visitors, list(releases)),
        "visitors": visitors.of_all(),
        "services": visitors.of_services(),
        "balancers": list(counted),
        "uncounted": sorted(set(logs) - set(counted)),
        "unreadable": sum(int(log.get("unreadable") or 0) for log in counted.values()),
        "evidence": [_evidence(host, found) for host, found in sorted((run.get("failures") or {}).items()) if found],
        "skipped": [str(line) for line in run.get("skipped") or []],
    }


def _way(way: Any) -> dict[str, str | None]:
    """Where a service comes from and goes to."""
    if isinstance(way, Mapping):
        return {"from": _text(way.get("from")), "to": _text(way.get("to"))}
    return {"from": None, "to": _text(way)}


def _text(value: Any) -> str | None:
    return str(value) if value else None


# -- times -------------------------------------------------------------------------------------------------------------


def _unix(value: Any) -> float:
    """Return seconds since the epoch, of such a number or of a time with its zone.

    Raises:
        ReportError: it is neither.
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        # Python 3.10 does not know the letter.
        when = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError as error:
        raise ReportError(f"{value} is no time") from error
    if when.tzinfo is None:
        raise ReportError(f"{value} has no time zone")
    return when.timestamp()


def _iso(seconds: float) -> str:
    when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- hosts -------------------------------------------------------------------------------------------------------------


def _hosts(
    run: Mapping[str, Any], started: float, visitors: _Visitors, services: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What was done on each host for each service, and what visitors got from it."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for host, ledgers in (run.get("ledgers") or {}).items():
        for service, entries in (ledgers or {}).items():
            found.setdefault((host, service), []).extend(entries)
    for step in run.get("steps") or []:
        found.setdefault((str(step["host"]), str(step["service"])), []).append(step)
    for host, service in visitors.places():
        if service in services:
            found.setdefault((host, service), [])
    hosts: dict[str, dict[str, Any]] = {}
    for (host, service), entries in sorted(found.items()):
        steps = _steps(entries, started)
        slots = [step["slot"] for step in steps if step["what"] == "live" and step["slot"] and not step["failed"]]
        hosts.setdefault(host, {})[service] = {
            "slot": slots[-1] if slots else None,
            "steps": steps,
            "visitors": visitors.of_host(host, service),
        }
    return hosts


def _steps(entries: Iterable[Mapping[str, Any]], started: float) -> list[dict[str, Any]]:
    """Return what was done, in order: lines of a ledger, or others with `what`, `at` and perhaps `seconds`.

    A step that does not say how long it took has the seconds since the one before it; `offset` is when it was done,
    in seconds since the beginning.
    """
    timed = sorted(
        ((_unix(entry.get("at") or entry.get("time")), entry) for entry in entries), key=lambda pair: pair[0]
    )
    steps: list[dict[str, Any]] = []
    before: float | None = None
    for at, entry in timed:
        seconds = entry.get("seconds")
        if seconds is None and before is not None:
            seconds = at - before
        steps.append(
            {
                "what": str(entry.get("what") or entry.get("action") or "step"),
                "at": _iso(at),
                "offset": round(at - started, 3),
                "seconds": None if seconds is None else round(float(seconds), 3),
                "slot": _text(entry.get("slot")),
                "release": _text(entry.get("release")),
                "passed": [str(name) for name in entry.get("passed") or []],
                "failed": str(entry.get("failed") or ""),
            }
        )
        before = at
    return steps


# -- visitors ----------------------------------------------------------------------------------------------------------


class _Visitors:
    """What all balancers counted, by mark."""

    def __init__(self, logs: Iterable[Mapping[str, Any]]) -> None:
        self._all: dict[str, Figures] = {}
        self._services: dict[str, dict[str, Figures]] = {}
        self._hosts: dict[tuple[str, str], dict[str, Figures]] = {}
        for log in logs:
            for mark, counted in log["marks"].items():
                _add(self._all, mark, counted["total"])
                for service, figures in counted["services"].items():
                    _add(self._services.setdefault(service, {}), mark, figures)
                    for server, part in figures["servers"].items():
                        host, dash, slot = server.rpartition("-")
                        # Answers of HAProxy itself belong to no host.
                        if dash and slot in SLOTS:
                            _add(self._hosts.setdefault((host, service), {}), mark, part)

    def places(self) -> Iterable[tuple[str, str]]:
        """Hosts and services that visitors got something from."""
        return self._hosts.keys()

    def of_all(self) -> dict[str, Any]:
        return _told(self._all)

    def of_services(self) -> dict[str, Any]:
        return {service: _told(marks) for service, marks in sorted(self._services.items())}

    def of_host(self, host: str, service: str) -> dict[str, Any]:
        marks = self._hosts.get((host, service), {})
        # A worker has no visitors; a host that had none in a stretch is told as such.
        return _told({mark: marks.get(mark, Figures()) for mark in self._all}) if marks else {}


def _add(marks: dict[str, Figures], mark: str, told: Mapping[str, Any]) -> None:
    marks.setdefault(mark, Figures()).merge(Figures.of(told))


def _told(marks: Mapping[str, Figures]) -> dict[str, Any]:
    told = {mark: figures.as_dict() for mark, figures in marks.items()}
    for figures in told.values():
        del figures["histogram"]
    return told


# -- evidence ----------------------------------------------------------------------------------------------------------


def _evidence(host: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """What failed on a host, why, and what was seen there, as texts."""
    details: list[dict[str, str]] = []
    left = _EVIDENCE
    for title, value in _flat(found):
        text = _as_text(value)
        if text:
            # The end says more than the beginning.
            details.append({"title": title, "text": text if len(text) <= left else "…" + text[len(text) - left :]})
            left = max(left - len(text), 200)
    return {
        "host": host,
        "what": str(found.get("task") or ""),
        "why": str(found.get("message") or ""),
        "details": details,
    }


def _flat(found: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for title, value in found.items():
        if title == "evidence" and isinstance(value, Mapping):
            yield from ((str(part), text) for part, text in value.items())
        elif title not in ("task", "message"):
            yield str(title), value


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (list, tuple)) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str) if value else ""
