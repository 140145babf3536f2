# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a service does on a host, and whether that is what balancers, ledger and fleet record say."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import SLOTS, other_slot
from ansible_collections.linkrift.platform.plugins.plugin_utils._status_balancers import Balancer, what_failed


@dataclass
class Row:
    """A service of a host. Times are in UTC.

    Attributes:
        host: name of the host.
        service: name of the service.
        slot: the live one; empty without one.
        release: what it runs.
        since: when it became live last.
        age: seconds since then; None when the ledger does not know.
        health: what it says of its health, in a word or a few.
        rotation: the slots that get visitors, by balancer; None where the balancer cannot be asked.
        last: the newest entry of the ledger.
        findings: what is wrong, in words.
        notes: what is worth knowing and meant to be so.
    """

    host: str
    service: str
    slot: str = ""
    release: str = ""
    since: str = ""
    age: int | None = None
    health: str = ""
    rotation: dict[str, list[str] | None] = field(default_factory=dict)
    last: Mapping[str, Any] | None = None
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def row_of(
    host: str,
    service: str,
    looked: Mapping[str, Any],
    balancers: Sequence[Balancer],
    recorded: str | None,
    now: float,
) -> Row:
    """Return what there is to say of a service of a host.

    Args:
        host: name of the host.
        service: name of the service.
        looked: the result of module release_info there, whatever became of it.
        balancers: all balancers.
        recorded: the fleet record's release of the service; empty where it has none, None where nobody could read it.
        now: seconds since the epoch.
    """
    row = Row(host, service, rotation=_rotation(host, service, balancers))
    state = (looked.get("services") or {}).get(service) or {}
    if not state.get("slots"):
        # With systemd out of reach the module succeeds, and warns.
        warnings = [str(warning) for warning in looked.get("warnings") or () if f" {service} " in str(warning)]
        row.findings.append(what_failed({"msg": "; ".join(warnings), **looked}))
        return row
    row.last = state["last"]
    live = state["slots"].get(state["live"])
    if live is None:
        row.findings.append("nothing is live")
        return row
    row.slot, row.release = state["live"], live["release"] or ""
    drained = bool(state["drained"])
    row.health = _health(state["health"], drained=drained)
    row.findings += [
        *_of_ledger(row, state, now),
        *_of_record(row, recorded),
        *_of_slot(row, state, live, drained=drained),
        *_of_other(row, state, now),
        *_of_rotation(row, balancers, drained=drained),
    ]
    if drained:
        row.notes.append("drained")
    if state.get("rendered") and live.get("config_digest") not in (None, state["rendered"]):
        # Such as which balancers it believes when they say where visitors come from.
        row.notes.append(
            f"{row.slot} began before its settings changed; deploy.yml with the same release brings the new ones"
        )
    return row


def seconds_of(time: str) -> float | None:
    """Return a ledger's time in seconds since the epoch; None when it is none."""
    try:
        return datetime.datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def clock_time(seconds: float) -> str:
    """Return a time as operators read it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")


def _rotation(host: str, service: str, balancers: Iterable[Balancer]) -> dict[str, list[str] | None]:
    """Return the slots of a host that get visitors, by balancer. Workers get none, so there is nothing to tell."""
    if service == "worker":
        return {}
    return {
        balancer.name: None
        if balancer.rotation is None
        else [slot for slot in SLOTS if (balancer.server(service, host, slot) or {}).get("takes_traffic")]
        for balancer in balancers
    }


def _health(answer: Mapping[str, Any] | None, *, drained: bool) -> str:
    """Return what the live slot said, in a word or a few."""
    if answer is None:
        return "not asked"
    if answer["code"] is None:
        return f"no answer: {answer['error']}"
    if answer["code"] == 200:
        return "ok"
    if answer["code"] == 404:
        return "standby" if drained else "standby, though live"
    return f"{answer['status'] or 'not ok'} ({answer['code']})"


def _of_ledger(row: Row, state: Mapping[str, Any], now: float) -> Iterable[str]:
    """Find the live slot in the ledger."""
    newest = state["history"][-1] if state["history"] else None
    if newest and (newest["slot"], newest["release"]) == (row.slot, row.release):
        row.since = newest["time"]
        since = seconds_of(row.since)
        row.age = None if since is None else max(0, int(now - since))
    elif newest:
        yield f"{row.slot} is live, the ledger says {newest['slot']} ({newest['release']})"
    else:
        yield "the ledger does not know that it is live"


def _of_record(row: Row, recorded: str | None) -> Iterable[str]:
    if recorded and recorded != row.release:
        yield f"the fleet record says {recorded}"
    elif recorded == "":
        yield "no fleet record has it"


def _of_slot(row: Row, state: Mapping[str, Any], live: Mapping[str, Any], *, drained: bool) -> Iterable[str]:
    """See whether the live slot works."""
    answer = state["health"]
    if not live["active"]:
        yield "the live slot does not run"
    elif not live["admitted"] and not drained:
        yield "the live slot is not admitted"
    elif row.health not in ("ok", "not asked", "standby"):
        yield f"its health is: {row.health}"
    elif answer and answer["version"] and answer["version"] != row.release:
        yield f"it answers as {answer['version']}"
    if not live["enabled"]:
        yield "it does not come back after a reboot"
    if state["current"] != row.release:
        yield f"current leads to {state['current'] or 'nothing'}"


def _of_other(row: Row, state: Mapping[str, Any], now: float) -> Iterable[str]:
    """See what the slot does that is not live."""
    name = other_slot(row.slot)
    other = state["slots"][name]
    if other["state"] == "idle":
        return
    until = other.get("warm_until")
    if until and until > now:
        row.notes.append(f"{name} ({other['release']}) is warm until {clock_time(until)}")
    else:
        yield f"{name} ({other['release']}) runs beside it as {other['state']}, and no timer will stop it"


def _of_rotation(row: Row, balancers: Iterable[Balancer], *, drained: bool) -> Iterable[str]:
    """Compare what balancers do with what is live."""
    for balancer in balancers:
        serving = row.rotation.get(balancer.name)
        if serving is None:
            continue
        others = [slot for slot in serving if slot != row.slot]
        if others:
            yield f"{balancer.name} sends visitors to {', '.join(others)}"
        if drained and row.slot in serving:
            yield f"{balancer.name} sends it visitors, though it is drained"
        elif not drained and row.slot not in serving:
            server = balancer.server(row.service, row.host, row.slot)
            check = (
                " ".join(str(server[name]) for name in ("check_status", "check_detail") if server[name])
                if server
                else ""
            )
            said = f"{server['admin']}, {server['status']}" if server else "it does not know the host"
            yield f"{balancer.name} sends it no visitors: {said}" + (f" ({check})" if check else "")
