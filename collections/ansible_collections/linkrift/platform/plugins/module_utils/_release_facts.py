# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is on a host: its releases and what its slots do with them. Read only, and empty on a bare host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._ledger import good_entries, undone_releases
from ansible_collections.linkrift.platform.plugins.module_utils._paths import (
    SERVICES,
    SLOTS,
    Layout,
    linked_release,
    read_ledger,
)
from ansible_collections.linkrift.platform.plugins.module_utils._release_use import (
    good_releases,
    links_to,
    processes_of,
    read_record,
    releases_on,
)
from ansible_collections.linkrift.platform.plugins.module_utils._slot import slot_facts
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import (
    Host,
    ServiceView,
    SlotError,
    digest_of,
    survey,
    wished_config,
)
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import SystemdError
from ansible_collections.linkrift.platform.plugins.module_utils._timers import cooling_timer, due_times

HISTORY = 100
"""Newest entries of a service's history that are told: ledgers are never shortened, answers are."""


def release_facts(layout: Layout) -> list[dict[str, Any]]:
    """Return each release on the host, sorted by id: whether it is complete, was good, and who uses it."""
    good = good_releases(layout)
    links = links_to(layout)
    processes = processes_of(layout)
    facts = []
    for release in releases_on(layout):
        record = read_record(layout, release)
        facts.append(
            {
                "id": release,
                "path": str(layout.release(release)),
                "complete": record is not None,
                "good": release in good,
                "used_by": links.get(release, []),
                "processes": sorted(processes.get(release, [])),
                "record": record,
            }
        )
    return facts


def service_facts(
    layout: Layout, services: Sequence[str] = SERVICES, make_host: Callable[..., Host] = Host, *, health: bool = False
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return what each service's slots do, and warnings where that could not be found out.

    Args:
        layout: the host.
        services: names of services.
        make_host: gives access to a service on a host.
        health: ask each live slot for its health, too.
    """
    facts: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    for service in services:
        host = make_host(service, layout)
        live = None
        drained = False
        answer = None
        slots: dict[str, Any] = {}
        try:
            view = survey(host)
            until = _warm_until(host)
            slots = {slot: {**slot_facts(host, found), "warm_until": until[slot]} for slot, found in view.slots.items()}
            live = view.live.slot if view.live else None
            drained = view.drained
            answer = _health(host, view) if health else None
        except (SystemdError, OSError) as error:
            warnings.append(f"the slots of {service} cannot be looked at: {error}")
        facts[service] = {
            "live": live,
            "drained": drained,
            "rendered": _rendered(host),
            "slots": slots,
            "current": linked_release(layout.current_link(service)),
            "health": answer,
            **ledger_facts(layout, service),
        }
    return facts, warnings


def ledger_facts(layout: Layout, service: str) -> dict[str, Any]:
    """Return what a service's ledger tells: what was live and good, what was undone, and what happened last."""
    entries = read_ledger(layout.ledger(service))
    good = good_entries(entries)[-HISTORY:]
    return {
        "history": [{name: entry.get(name, "") for name in ("time", "release", "slot")} for entry in good],
        "undone": undone_releases(entries),
        "last": entries[-1] if entries else None,
    }


def _warm_until(host: Host) -> dict[str, int | None]:
    """Return when each slot is stopped by its timer; None without one that runs."""
    timers = {slot: cooling_timer(host.service, slot) for slot in SLOTS}
    due = due_times(host.systemd, list(timers.values()), host.clock)
    return {slot: due.get(timer) for slot, timer in timers.items()}


def _rendered(host: Host) -> str | None:
    """Return the digest of the settings that a candidate would get now; None when there are none to give."""
    try:
        return digest_of(host, wished_config(host))
    except (SlotError, OSError):
        return None


def _health(host: Host, view: ServiceView) -> dict[str, Any] | None:
    """Return what the live slot says of its health; None when nothing is live."""
    if view.live is None:
        return None
    answer = host.ask(view.live.slot, "/health", view.live.variables)
    said = {name: str(answer.body.get(name, "")) for name in ("status", "version")}
    return {"code": answer.status, **said, "error": answer.error}
