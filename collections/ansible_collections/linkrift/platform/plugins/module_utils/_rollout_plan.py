# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a rollout has to do: from what the hosts are and what they are to be. Decides, and touches nothing.

What was begun by a run that was killed is part of what the hosts are: the same wish again leads on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import (
    SERVICES,
    SLOTS,
    check_release_id,
    other_slot,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rollout_batches import batch_size, batches

STRATEGIES = ("rolling", "blue_green")
STAGES = (
    {"name": "api and worker", "services": ("api", "worker")},
    {"name": "redirect", "services": ("redirect",)},
)
"""Visitors' redirects come last: when they move, what they depend on has been watched already."""

Facts = Mapping[str, Any]


class PlanError(ValueError):
    """No plan can be made; the message says why and what to do."""


@dataclass(frozen=True)
class Wish:
    """What a rollout is to come to."""

    targets: Mapping[str, str]
    """Release by service."""
    groups: Mapping[str, Sequence[str]]
    """The hosts of each service that take part, in the order in which they are moved."""
    strategy: str = "rolling"
    batch: int | str = 1
    fleet: Mapping[str, str | None] = field(default_factory=dict)
    """What the fleet record says before: where an undo leads to."""
    drained: frozenset[str] = frozenset()
    """Hosts that are drained, whatever they say themselves; those that a balancer has drained are, too."""
    rotation: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    """What each balancer does: state by service and server (`<host>-<slot>`)."""
    stages: Sequence[Mapping[str, Any]] = STAGES


def wish_of(given: Mapping[str, Any]) -> Wish:
    """Return a wish as it was given, checked.

    Raises:
        PlanError: something in it makes no sense.
    """
    unknown = set(given) - {
        "release",
        "services",
        "groups",
        "strategy",
        "batch",
        "fleet",
        "drained",
        "stages",
        "rotation",
    }
    services = list(given.get("services") or SERVICES)
    release = given.get("release") or ""
    targets = dict(release) if isinstance(release, Mapping) else dict.fromkeys(services, str(release))
    stages = given.get("stages") or STAGES
    staged = [service for stage in stages for service in stage["services"]]
    strategy = given.get("strategy") or "rolling"
    wrong = [service for service in services if service not in SERVICES or staged.count(service) != 1]
    if unknown:
        msg = f"a wish has no {', '.join(sorted(unknown))}"
    elif wrong:
        msg = f"{', '.join(wrong)}: services are {', '.join(SERVICES)}, and each belongs to exactly one stage"
    elif strategy not in STRATEGIES:
        msg = f"strategy is {strategy!r}: expected {' or '.join(STRATEGIES)}"
    elif missing := [service for service in services if not targets.get(service)]:
        msg = f"no release was given for {', '.join(missing)}"
    else:
        try:
            wished = {service: check_release_id(str(targets[service])) for service in services}
            batch_size(given.get("batch", 1), 1)
        except ValueError as error:
            raise PlanError(str(error)) from error
        return Wish(
            targets=wished,
            groups={service: list((given.get("groups") or {}).get(service) or ()) for service in services},
            strategy=strategy,
            batch=given.get("batch", 1),
            fleet=given.get("fleet") or {},
            drained=frozenset(given.get("drained") or ()),
            rotation=given.get("rotation") or {},
            stages=stages,
        )
    raise PlanError(msg)


def plan(facts: Mapping[str, Facts | None], wish: Wish) -> dict[str, Any]:
    """Return what a rollout does, stage by stage, and for each host where it goes and where an undo leads to.

    Args:
        facts: what `release_info` returned, by host.
        wish: what it is to come to.

    Raises:
        PlanError: a host was not looked at, or no host takes part.
    """
    if not any(wish.groups.values()):
        msg = f"no host has any of {', '.join(wish.targets)}: see the groups of the inventory"
        raise PlanError(msg)
    hosts: dict[str, dict[str, Any]] = {}
    for service, members in wish.groups.items():
        for host in members:
            hosts.setdefault(host, {})[service] = _move(_state(facts, host, service), host, service, wish)
    record = {
        service: release
        for service, release in wish.targets.items()
        if service in wish.fleet and wish.fleet[service] != release and wish.groups[service]
    }
    stages = [stage for given in wish.stages if (stage := _stage(given, hosts, wish))["batches"]]
    return {
        "stages": stages,
        "hosts": hosts,
        "drained": [host for host, moves in hosts.items() if any(_works(m) and m["drained"] for m in moves.values())],
        "record": record,
        "changes": bool(stages or record),
        "why": [*_told(hosts, wish), *_recorded(record, wish)] or ["everything is as wished: nothing to do"],
    }


def _state(facts: Mapping[str, Facts | None], host: str, service: str) -> dict[str, Any]:
    """Return what a host says of a service, with whether settings are pending."""
    found = facts.get(host) or {}
    state = (found.get("services") or {}).get(service) or {}
    if not state.get("slots"):
        msg = f"nobody could look at {service} on {host}: see why, or leave the host out"
        raise PlanError(msg)
    live = state["slots"][state["live"]] if state["live"] else None
    rendered = state.get("rendered")
    pending = live is not None and rendered is not None and live["config_digest"] not in (None, rendered)
    return {**state, "pending": pending}


def _move(state: Facts, host: str, service: str, wish: Wish) -> dict[str, Any]:
    """Return where a service of a host goes."""
    release, slots, live_slot = wish.targets[service], state["slots"], state["live"]
    live = slots[live_slot] if live_slot else None
    drained = bool(state.get("drained")) or host in wish.drained or _leaving(wish.rotation, host, service)
    moves = live is None or live["release"] != release or state["pending"]
    target = _target(slots, live_slot, release) if moves else live_slot
    left = [] if moves else _left(state, service, drained=drained)
    if not (moves or drained):
        left += _astray(wish.rotation, host, service, live_slot)
    if not moves:
        why = "; ".join(left)
    elif live is None:
        why = f"nothing is live, {release} comes"
    elif live["release"] == release:
        why = f"{release} gets other settings"
    else:
        why = f"{live['release']} → {release}"
    return {
        "live_slot": live_slot,
        "live_release": live["release"] if live else None,
        "target_slot": target,
        "release": release,
        "state": "move" if moves else "settle" if left else "done",
        "make_room": bool(moves and _in_the_way(slots[target], release, state.get("rendered"))),
        "drained": drained,
        "back": _back(state, target, wish.fleet.get(service)),
        "why": why,
    }


def _target(slots: Facts, live_slot: str | None, release: str) -> str:
    """Return the slot that gets the release; with nothing live, the one that runs it already, if one does."""
    if live_slot:
        return other_slot(live_slot)
    return next(
        (slot for slot in SLOTS if slots[slot]["release"] == release and slots[slot]["state"] != "idle"), SLOTS[0]
    )


def _in_the_way(slot: Facts, release: str, rendered: str | None) -> bool:
    """Tell whether a slot has to be stopped before it can run a release with today's settings."""
    if slot["state"] == "idle":
        return False
    if slot["release"] != release:
        return True
    return bool(rendered is not None and slot["config_digest"] != rendered)


def _left(state: Facts, service: str, *, drained: bool) -> list[str]:
    """Return what a run that was killed left of a service whose live release is right, in words."""
    slots, live_slot = state["slots"], state["live"]
    live, other = slots[live_slot], slots[other_slot(live_slot)]
    left = []
    if other["state"] != "idle" and service == "worker":
        left.append(f"a second worker ({other['release']}) still runs")
    elif other["state"] != "idle" and not other.get("warm_until"):
        left.append(f"{other['release']} still runs beside it, and no timer will stop it")
    if not live["active"]:
        left.append("the live slot does not run")
    elif not live["admitted"] and not drained:
        left.append("the live slot is not admitted")
    if other["enabled"] or not live["enabled"] or state.get("current") != live["release"]:
        left.append("its commit was not finished")
    return left


def _leaving(rotation: Mapping[str, Mapping[str, Mapping[str, str]]], host: str, service: str) -> bool:
    """Tell whether a balancer has a host drained, such as after a drain that was killed before the host knew of it.

    A rollout keeps what is drained that way (see the filter rotation_moves), so it could not settle it either.
    """
    found = [{(services.get(service) or {}).get(f"{host}-{slot}") for slot in SLOTS} for services in rotation.values()]
    return any("drain" in states and "ready" not in states for states in found)


def _astray(
    rotation: Mapping[str, Mapping[str, Mapping[str, str]]], host: str, service: str, live_slot: str
) -> Iterable[str]:
    """Yield what balancers do other than send a host's visitors to its live slot, in words.

    Such as one that was down when the host was moved.
    """
    for balancer, services in sorted(rotation.items()):
        servers = services.get(service) or {}
        state, other = servers.get(f"{host}-{live_slot}"), servers.get(f"{host}-{other_slot(live_slot)}")
        if state is not None and (state != "ready" or other == "ready"):
            yield f"{balancer} does not send to it" if state != "ready" else f"{balancer} sends to its other slot, too"


def _back(state: Facts, target: str, recorded: str | None) -> dict[str, Any] | None:
    """Return where an undo leads to: the fleet's release as recorded, or what is live; None where nothing was.

    `warm` says that it runs already in that slot, so that traffic can go back at once.
    """
    slots, live_slot = state["slots"], state["live"]
    if not live_slot:
        return None
    now = slots[live_slot]["release"]
    # A host that has moved already goes back to its other slot; what never moved stays where it is, and what it is.
    moved = bool(target == live_slot and recorded and now != recorded)
    slot, release = (other_slot(live_slot), recorded) if moved else (live_slot, now)
    return {"slot": slot, "release": release, "warm": bool(slots[slot]["active"] and slots[slot]["release"] == release)}


def _stage(given: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], wish: Wish) -> dict[str, Any]:
    """Return a stage with the hosts that have something to do in it."""
    services = [service for service in given["services"] if service in wish.targets]
    members = dict.fromkeys(host for service in services for host in wish.groups[service])
    moving = [host for host in members if any(_works(hosts[host].get(service)) for service in services)]
    if wish.strategy == "blue_green":
        found = [moving] if moving else []
    else:
        serving = {
            service: [host for host in wish.groups[service] if _serves(hosts[host][service])] for service in services
        }
        found = batches(moving, batch_size(wish.batch, len(members)), serving)
    return {"name": given["name"], "services": services, "batches": found}


def _works(entry: Facts | None) -> bool:
    return entry is not None and entry["state"] != "done"


def _serves(entry: Facts) -> bool:
    return entry["live_slot"] is not None and not entry["drained"]


def _told(hosts: Mapping[str, Mapping[str, Facts]], wish: Wish) -> Iterable[str]:
    """Yield what is done and why, one line for hosts of which the same is to be said."""
    for service, members in wish.groups.items():
        same: dict[tuple[str, bool], list[str]] = {}
        for host in members:
            entry = hosts[host][service]
            if _works(entry):
                same.setdefault((entry["why"], entry["drained"]), []).append(host)
        for (why, drained), names in same.items():
            yield f"{service}: {why}, on {', '.join(names)}" + (" (drained, and stays so)" if drained else "")


def _recorded(record: Mapping[str, str], wish: Wish) -> Iterable[str]:
    for service, release in record.items():
        yield f"{service}: the fleet record says {wish.fleet[service] or 'nothing'}, and will say {release}"
