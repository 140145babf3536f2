# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The state of the whole fleet: each service of each host, the balancers, who changes it, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES
from ansible_collections.linkrift.platform.plugins.plugin_utils._status_balancers import (
    Balancer,
    balancer_of,
    disagreements,
    fleet_of,
)
from ansible_collections.linkrift.platform.plugins.plugin_utils._status_hosts import Row, row_of

_COLUMNS = ("HOST", "SERVICE", "SLOT", "RELEASE", "AGE", "HEALTH", "ROTATION", "LAST")


def status(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]], now: float
) -> dict[str, Any]:
    """Return rows, findings and notes, and all that as lines of text.

    Args:
        groups: hosts by group.
        hostvars: variables by host; `status_looked` is the result of module release_info, and of balancers
            `status_rotation`, `status_record`, `status_lease`. Hosts without them were not looked at, and are left out.
        now: seconds since the epoch.
    """
    balancers = [
        balancer_of(name, hostvars[name])
        for name in sorted(groups.get("balancers") or ())
        if "status_rotation" in hostvars[name]
    ]
    fleet = fleet_of(balancers)
    unrecorded = "" if any(balancer.record is not None for balancer in balancers) else None
    rows = [
        row_of(host, service, hostvars[host]["status_looked"], balancers, fleet.get(service, unrecorded), now)
        for service in SERVICES
        for host in groups.get(f"{service}_hosts") or ()
        if "status_looked" in hostvars[host]
    ]
    findings = [
        *_told((row.host, row.service, finding) for row in rows for finding in row.findings),
        *(f"{balancer.name}: {finding}" for balancer in balancers for finding in balancer.findings),
        *disagreements(balancers),
    ]
    leases = {lease["id"]: lease for balancer in balancers if (lease := balancer.lease)}
    notes = [
        *_told((row.host, row.service, note) for row in rows for note in row.notes),
        *(_held(lease) for lease in leases.values()),
    ]
    return {
        "rows": [dict(vars(row)) for row in rows],
        "balancers": [dict(vars(balancer)) for balancer in balancers],
        "fleet": fleet,
        "leases": list(leases.values()),
        "findings": findings,
        "notes": notes,
        "lines": [*table(rows, balancers), *_listed("worth knowing", notes), *_listed("wrong", findings)],
    }


def _told(found: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return sentences about services of hosts; what is the same for several services of a host is said once."""
    same: dict[tuple[str, str], list[str]] = {}
    for host, service, said in found:
        same.setdefault((host, said), []).append(service)
    return [f"{host} {', '.join(services)}: {said}" for (host, said), services in same.items()]


def table(rows: Sequence[Row], balancers: Sequence[Balancer]) -> list[str]:
    """Return the rows as lines of equal columns, the first one with the columns' names. `!` marks what is wrong."""
    lines = [_COLUMNS, *(_cells(row, balancers) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cells(row: Row, balancers: Sequence[Balancer]) -> tuple[str, ...]:
    last = f"{row.last['action']} {row.last['slot']} {row.last['time']}" if row.last else "-"
    if row.last and row.last.get("failed"):
        last += " (failed)"
    return (
        row.host,
        row.service,
        row.slot or "-",
        row.release or "-",
        "-" if row.age is None else age_in_words(row.age),
        row.health or "-",
        " ".join(f"{balancer.name}={_slots(row, balancer)}" for balancer in balancers) if row.rotation else "-",
        last + (" !" if row.findings else ""),
    )


def _slots(row: Row, balancer: Balancer) -> str:
    serving = row.rotation[balancer.name]
    return "?" if serving is None else "+".join(serving) or "none"


def age_in_words(seconds: int) -> str:
    """Return a time span with its two largest units: `3d 4h`, `4h 10min`, `5min 2s`."""
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, length)
        if number or (unit == "s" and not parts):
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])


def _held(lease: Mapping[str, Any]) -> str:
    if lease["held"]:
        return f"the fleet is held by {lease['by']} for {lease['purpose']} ({lease['id']}), until {lease['until']}"
    return f"{lease['purpose']} ({lease['id']}) of {lease['by']} ended without freeing the fleet; the next run takes it"


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"{title}:", *(f"- {line}" for line in lines)] if lines else []
