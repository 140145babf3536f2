# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filters that carry a plan to balancers and hosts."""

from __future__ import annotations

import pytest

from ansible_collections.linkrift.platform.plugins.filter.recorded_releases import recorded_releases
from ansible_collections.linkrift.platform.plugins.filter.rollout_return import rollout_return
from ansible_collections.linkrift.platform.plugins.filter.rollout_room import rollout_room
from ansible_collections.linkrift.platform.plugins.filter.rollout_warm import rollout_warm
from ansible_collections.linkrift.platform.plugins.filter.rotation_moves import rotation_moves

OLD, NEW = "1.0.0+000000000000", "1.1.0+111111111111"


def test_the_newest_entry_of_each_service_counts() -> None:
    here = {"api": {"release": OLD, "since": "2026-01-01T00:00:00Z", "by": "a"}}
    there = {
        "api": {"release": NEW, "since": "2026-01-02T00:00:00Z", "by": "a"},
        "worker": {"release": OLD, "since": "2026-01-01T00:00:00Z", "by": "a"},
    }
    assert recorded_releases([here, {}, there]) == {"api": NEW, "worker": OLD}
    assert recorded_releases([]) == {}


def test_one_slot_comes_and_the_other_goes() -> None:
    states = {"redirect": {"app1-blue": "ready", "app1-green": "maint", "app2-blue": "maint", "app2-green": "ready"}}
    assert rotation_moves(states, {"app2": {"redirect": "green"}, "app1": {"redirect": "green", "worker": "blue"}}) == [
        {"service": "redirect", "host": "app1", "slot": "green", "state": "ready"},
        {"service": "redirect", "host": "app1", "slot": "blue", "state": "maint"},
        {"service": "redirect", "host": "app2", "slot": "green", "state": "ready"},
        {"service": "redirect", "host": "app2", "slot": "blue", "state": "maint"},
    ]
    assert rotation_moves(states, {"app9": {"redirect": "blue"}}) == [], "a host that the balancer does not know"


@pytest.mark.parametrize(
    ("blue", "green", "expected"),
    [("drain", "maint", "drain"), ("drain", "ready", "ready"), ("maint", "maint", "ready")],
)
def test_what_is_drained_stays_drained_in_the_other_slot(blue: str, green: str, expected: str) -> None:
    changes = rotation_moves({"api": {"app1-blue": blue, "app1-green": green}}, {"app1": {"api": "green"}})
    assert [(change["slot"], change["state"]) for change in changes] == [("green", expected), ("blue", "maint")]


def served(file: str = "ready", admin: str = "ready", *, takes: bool = True, requests: int = 0) -> dict[str, object]:
    return {"state": file, "admin": admin, "takes_traffic": takes, "scur": requests}


GONE = served("maint", "maint", takes=False)


@pytest.mark.parametrize(
    ("current", "blue", "green", "done"),
    [
        (True, served(), GONE, True),
        (True, served(takes=False), GONE, False),
        (True, served(), served("maint"), False),
        (True, served("maint"), GONE, False),
        (True, served(admin="drain"), GONE, False),
        (False, served(), GONE, False),
        (True, {}, GONE, False),
        (True, served(requests=3), GONE, True),
        (True, served(), served("maint", "maint", takes=False, requests=1), False),
    ],
    ids=[
        *(
            "done",
            "down",
            "not told",
            "not in the file",
            "drained by hand",
            "not loaded",
            "unknown",
            "busy",
            "waited for",
        ),
    ],
)
def test_nothing_is_changed_where_a_balancer_does_all_of_it(
    current: bool, blue: dict[str, object], green: dict[str, object], done: bool
) -> None:
    states = {"api": {"app1-blue": "ready", "app1-green": "maint"}}
    found = {"current": current, "rotation": {"api": {"servers": {"app1-blue": blue, "app1-green": green}}}}
    changes = rotation_moves(states, {"app1": {"api": "blue"}}, found)
    assert len(changes) == (0 if done else 2), "all of them or none: what is named is checked anew"
    assert len(rotation_moves(states, {"app1": {"api": "blue"}}, {"current": True, "rotation": {}})) == 2, "it is down"
    for old in ([7], None):
        left = rotation_moves(states, {"app1": {"api": "blue"}}, {**found, "old_workers": old})
        assert len(left) == 2, "they may send more, or nobody knows"


def slot(release: str = OLD, state: str = "live", *, admitted: bool = True) -> dict[str, object]:
    enabled = state == "live"
    return {"release": release, "state": state, "active": state != "idle", "admitted": admitted, "enabled": enabled}


IDLE = slot(OLD, "idle", admitted=False)
PLANNED = {
    "state": "move",
    "release": NEW,
    "drained": False,
    "back": {"slot": "blue", "release": OLD, "warm": True},
}


@pytest.mark.parametrize(
    ("live", "blue", "green", "expected"),
    [
        ("blue", slot(), IDLE, None),
        ("blue", slot(), slot(NEW, "candidate", admitted=False), (False, NEW)),
        ("blue", slot(), slot(NEW, "warm"), (False, NEW)),
        ("green", slot(OLD, "warm"), slot(NEW), (False, NEW)),
        ("green", IDLE, slot(NEW), (True, NEW)),
        ("blue", slot(admitted=False), IDLE, (False, "")),
        ("blue", slot(), slot("0.9.0+999999999999", "warm"), None),
    ],
    ids=["untouched", "gated", "switched", "committed", "its former one stopped", "a worker that handed over", "warm"],
)
def test_what_a_rollout_touched_goes_back(
    live: str, blue: dict[str, object], green: dict[str, object], expected: tuple[bool, str] | None
) -> None:
    now = {"live": live, "current": OLD, "slots": {"blue": blue, "green": green}}
    found = rollout_return({"api": PLANNED}, {"api": now})
    if expected is None:
        assert found == {}
        return
    assert found["api"] == {
        "slot": "blue",
        "release": OLD,
        "start": expected[0],
        "leaves": "green",
        "undone": expected[1],
        "drained": False,
        "settled": live == "blue" and blue == slot(),
    }


@pytest.mark.parametrize(
    ("service", "current", "blue", "green", "settled"),
    [
        ("api", OLD, {}, {}, True),
        ("worker", OLD, {}, {}, False),
        ("api", NEW, {}, {}, False),
        ("api", OLD, {"enabled": False}, {}, False),
        ("api", OLD, {"admitted": False}, {}, False),
        ("api", OLD, {"active": False}, {}, False),
        ("api", OLD, {}, {"enabled": True}, False),
    ],
)
def test_what_never_moved_has_only_to_lose_what_was_begun(
    service: str, current: str, blue: dict[str, object], green: dict[str, object], settled: bool
) -> None:
    slots = {"blue": {**slot(), **blue}, "green": {**slot(NEW, "candidate", admitted=False), **green}}
    found = rollout_return({service: PLANNED}, {service: {"live": "blue", "current": current, "slots": slots}})
    assert found[service]["settled"] is settled


def test_what_was_not_part_of_it_or_had_nothing_before_is_left_alone() -> None:
    now = {"api": {"live": "green", "current": NEW, "slots": {"blue": IDLE, "green": slot(NEW)}}}
    assert rollout_return({"api": {**PLANNED, "state": "done", "live_slot": "blue"}}, now) == {}
    assert rollout_return({"api": {**PLANNED, "back": None}}, now) == {}


def test_what_an_earlier_run_brought_there_goes_back_with_the_others() -> None:
    now = {"api": {"live": "green", "current": NEW, "slots": {"blue": IDLE, "green": slot(NEW)}}}
    found = rollout_return({"api": {**PLANNED, "state": "done", "live_slot": "green"}}, now)
    assert (found["api"]["slot"], found["api"]["release"], found["api"]["start"]) == ("blue", OLD, True)


@pytest.mark.parametrize(
    ("service", "entry", "facts", "expected"),
    [
        ("api", {}, {}, {"app1": {"api": "blue"}}),
        ("api", {}, {"warm_until": 100 + 150}, {"app1": {"api": "blue"}}),
        ("api", {}, {"warm_until": 100 + 90}, {}),
        ("api", {"make_room": True}, {}, {}),
        ("api", {"state": "done"}, {}, {}),
        ("api", {}, {"state": "candidate"}, {}),
        ("api", {}, {"release": NEW}, {}),
        ("worker", {}, {}, {}),
    ],
)
def test_visitors_go_at_once_only_to_what_is_warm_and_stays(
    service: str, entry: dict[str, object], facts: dict[str, object], expected: dict[str, dict[str, str]]
) -> None:
    plan = {"state": "move", "release": OLD, "target_slot": "blue", "make_room": False, **entry}
    blue = {**slot(OLD, "warm"), "warm_until": None, **facts}
    host = {"services": {service: {"slots": {"blue": blue, "green": slot(NEW)}}}}
    assert rollout_warm({"app1": {service: plan}}, {"app1": host}, 100) == expected
    assert not rollout_warm({"app1": {service: plan}}, {"app1": host}, 100, 600) or facts.get("warm_until") is None


def test_visitors_are_on_the_live_slot_before_the_other_one_makes_room() -> None:
    stays, goes = {"make_room": False, "live_slot": "blue"}, {"make_room": True, "live_slot": "green"}
    plan = {"app1": {"api": goes, "redirect": stays}, "app2": {"api": goes}}
    plan["app3"] = {"api": {**goes, "live_slot": None}}
    assert rollout_room(plan, ["app1", "app3", "app4"], ["api", "redirect"]) == {"app1": {"api": "green"}}
    assert rollout_room(plan, ["app1", "app2"], ["redirect"]) == {}
