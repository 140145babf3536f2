# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module slot does with its parameters, wherever that runs: an operation's unit, or Ansible's own process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils import _slot
from ansible_collections.linkrift.platform.plugins.module_utils._operation_file import Progress, WorkError
from ansible_collections.linkrift.platform.plugins.module_utils._slot_lock import LockHeldError, only_run
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Gates, Host, SlotError
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import SystemdError


def perform(params: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Bring a slot to its state.

    Args:
        params: the module's parameters.
        progress: told of each step before it is done.

    Raises:
        WorkError: it cannot be done; with evidence where a gate failed.
    """
    host = host_of(params)
    host.progress = progress
    try:
        # What stops a warm slot, and earlier versions of this, know of no unit, but of this lock.
        with only_run(host.lock, f"state={params['state']}", host.by, params["lock_deadline"]):
            return result_of(wish(host, params, check=False))
    except (LockHeldError, SlotError, SystemdError, OSError) as error:
        raise _failure(error) from error


def foresee(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `perform` would; nothing is changed.

    Raises:
        WorkError: it would fail.
    """
    try:
        return result_of(wish(host_of(params), params, check=True))
    except (SlotError, SystemdError, OSError) as error:
        raise _failure(error) from error


def _failure(error: Exception) -> WorkError:
    if isinstance(error, SlotError):
        return WorkError(str(error), **error.evidence)
    if isinstance(error, OSError):
        return WorkError(f"{error}. Correct that, and repeat this: it goes on from here")
    return WorkError(str(error))


def host_of(params: Mapping[str, Any]) -> Host:
    """Return the service's host for the module's parameters."""
    return Host(
        service=params["service"],
        ports={slot: port for slot, port in (params["ports"] or {}).items() if port},
        address=params["address"] or "",
        by=params["by"],
        gates=Gates(
            deadline=params["deadline"],
            successes=params["successes"],
            interval=params["interval"],
            timeout=params["request_timeout"],
            stop_deadline=params["stop_deadline"],
            memory_bound=params["memory_bound"],
            error_rate=params["error_rate"],
        ),
    )


def wish(host: Host, params: Mapping[str, Any], *, check: bool) -> _slot.Outcome:
    """Carry out what the parameters wish for.

    Raises:
        SlotError: it cannot be.
    """
    slot, release = params["slot"], params["release"]
    if params["state"] == "candidate":
        return _slot.candidate(host, release, slot, replace=params["replace"], check=check)
    if params["state"] == "stopped":
        return _slot.stopped(host, slot, release, force=params["force"], undone=params["undone"] or "", check=check)
    if params["state"] == "warm":
        return _slot.warm(host, slot, release, seconds=params["warm_seconds"], check=check)
    wishes = {"admitted": _slot.admitted, "live": _slot.live, "drained": _slot.drained}
    return wishes[params["state"]](host, slot, release, check=check)


def result_of(outcome: _slot.Outcome) -> dict[str, Any]:
    """Return the module's result."""
    before, after = outcome.facts(now=False), outcome.facts(now=True)
    live = next((slot for slot, facts in after.items() if facts["state"] == "live"), None)
    facts = after[outcome.slot]
    return {
        "changed": outcome.record.changed,
        "slot": outcome.slot,
        "state": facts["state"],
        "port": facts["port"],
        "release": facts["release"],
        "config_digest": facts["config_digest"],
        "live": {"slot": live, "release": after[live]["release"]} if live else None,
        "slots": after,
        "settings": outcome.settings,
        "steps": outcome.record.steps,
        "gate": outcome.gates[-1].as_dict() if outcome.gates else {},
        "gates": [gate.as_dict() for gate in outcome.gates],
        "msg": outcome.message,
        "warnings": outcome.warnings,
        "diff": {
            "before_header": outcome.host.service,
            "after_header": outcome.host.service,
            "before": shown(before, []),
            "after": shown(after, outcome.settings if outcome.record.changed else []),
        },
    }


def shown(slots: dict[str, dict[str, Any]], settings: list[str]) -> str:
    """Return slots, and the names of changed settings, as lines for a diff."""
    lines = []
    for slot, facts in slots.items():
        marks = [mark for mark in ("active", "admitted", "enabled") if facts[mark]]
        described = ", ".join([facts["state"], *marks])
        lines.append(f"{slot}: {described}; release {facts['release'] or 'none'}; settings {facts['config_digest']}")
    return "".join(f"{line}\n" for line in [*lines, *settings])
