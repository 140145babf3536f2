# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a rollout decides to do, on fleets in many states."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.filter.rollout_plan import rollout_plan
from ansible_collections.linkrift.platform.plugins.module_utils._rollout_batches import (
    BatchError,
    batch_size,
    batches,
)
from ansible_collections.linkrift.platform.tests.unit.fleet_fakes import NEW, OLD, OTHER, host, runs, service, slot

HOSTS = ["app1", "app2", "app3"]


def planned(facts: dict[str, Any], **wish: Any) -> dict[str, Any]:
    """Return the plan to bring redirect on some hosts to the new release."""
    given = {"release": NEW, "services": ["redirect"], "groups": {"redirect": list(facts)}, **wish}
    return rollout_plan(facts, given)


def entry(state: dict[str, Any], **wish: Any) -> dict[str, Any]:
    """Return where redirect of one host goes."""
    found: dict[str, Any] = planned({"app1": host(state)}, **wish)["hosts"]["app1"]["redirect"]
    return found


# --- one host ---


def test_a_host_moves_to_its_other_slot_and_an_undo_leads_back() -> None:
    assert entry(runs(OLD, "green")) == {
        "live_slot": "green",
        "live_release": OLD,
        "target_slot": "blue",
        "release": NEW,
        "state": "move",
        "make_room": False,
        "drained": False,
        "back": {"slot": "green", "release": OLD, "warm": True},
        "why": f"{OLD} → {NEW}",
    }


def test_a_host_that_has_the_release_is_done() -> None:
    found = planned({"app1": host(runs(NEW))}, fleet={"redirect": NEW})
    assert (found["changes"], found["stages"], found["record"]) == (False, [], {})
    assert found["why"] == ["everything is as wished: nothing to do"]
    assert found["hosts"]["app1"]["redirect"]["state"] == "done"
    assert found["hosts"]["app1"]["redirect"]["target_slot"] == "blue"


def test_a_bare_host_begins_with_blue_and_has_nothing_to_go_back_to() -> None:
    found = entry(service(None))
    assert (found["state"], found["target_slot"], found["back"]) == ("move", "blue", None)


def test_a_first_candidate_that_was_left_behind_is_gone_on_with() -> None:
    assert entry(service(None, green=slot("candidate", NEW)))["target_slot"] == "green"
    assert entry(service(None, green=slot("idle", NEW)))["target_slot"] == "blue"


def test_new_settings_move_the_same_release() -> None:
    facts = {"app1": host(runs(NEW, rendered="s2"))}
    found = planned(facts, fleet={"redirect": NEW})
    assert found["changes"]
    moved = found["hosts"]["app1"]["redirect"]
    assert (moved["state"], moved["target_slot"]) == ("move", "green")
    assert moved["back"] == {"slot": "blue", "release": NEW, "warm": True}
    assert found["why"] == [f"redirect: {NEW} gets other settings, on app1"]


@pytest.mark.parametrize(
    ("other", "make_room"),
    [
        (slot("idle", OTHER), False),
        (slot("warm", OTHER), True),
        (slot("candidate", OTHER), True),
        (slot("candidate", NEW), False),
        (slot("candidate", NEW, config_digest="yesterday's"), True),
        (slot("warm", NEW), False),
        (slot("warm", NEW, config_digest="yesterday's"), True),
    ],
)
def test_room_is_made_where_something_else_runs(other: dict[str, Any], make_room: bool) -> None:
    assert entry(runs(OLD, other=other))["make_room"] is make_room


def test_a_warm_slot_with_yesterdays_settings_is_no_shortcut() -> None:
    assert entry(runs(OLD, other=slot("warm", NEW), rendered="s2"))["make_room"]
    assert not entry(runs(OLD, other=slot("warm", NEW, config_digest="s2"), rendered="s2"))["make_room"]


def test_settings_that_nobody_can_tell_are_no_reason_to_move() -> None:
    assert entry(runs(NEW, rendered=None))["state"] == "done"
    assert entry(service("blue", slot("live", NEW, config_digest=None), current=NEW))["state"] == "done"


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (runs(NEW, other=slot("warm", OLD)), "no timer will stop it"),
        (runs(NEW, other=slot("candidate", OTHER)), "no timer will stop it"),
        (runs(NEW, other=slot("idle", OLD, enabled=True)), "commit was not finished"),
        (runs(NEW, current=OLD), "commit was not finished"),
        (service("blue", slot("live", NEW, enabled=False), current=NEW), "commit was not finished"),
        (service("blue", slot("live", NEW, active=False), current=NEW), "does not run"),
        (service("blue", slot("live", NEW, admitted=False), current=NEW), "is not admitted"),
    ],
)
def test_what_a_killed_run_left_is_settled(state: dict[str, Any], why: str) -> None:
    found = planned({"app1": host(state)})
    assert found["hosts"]["app1"]["redirect"]["state"] == "settle"
    assert found["stages"][0]["batches"] == [["app1"]]
    assert why in found["why"][0]


def test_a_warm_slot_with_a_timer_is_left_in_peace() -> None:
    assert entry(runs(NEW, other=slot("warm", OLD, warm_until=1)))["state"] == "done"


def test_two_workers_are_one_too_many_even_with_a_timer() -> None:
    facts = {"app1": host(worker=runs(NEW, other=slot("candidate", OLD, warm_until=1)))}
    found = planned(facts, services=["worker"], groups={"worker": ["app1"]})
    assert found["hosts"]["app1"]["worker"]["state"] == "settle"
    assert "a second worker" in found["why"][0]


@pytest.mark.parametrize(
    ("states", "why"),
    [
        ({"app1-blue": "maint", "app1-green": "ready"}, "lb2 does not send to it"),
        ({"app1-blue": "drain", "app1-green": "ready"}, "lb2 does not send to it"),
        ({"app1-blue": "ready", "app1-green": "ready"}, "lb2 sends to its other slot, too"),
    ],
)
def test_a_balancer_that_missed_a_rollout_is_told_of_it(states: dict[str, str], why: str) -> None:
    right = {"redirect": {"app1-blue": "ready", "app1-green": "maint"}}
    found = entry(runs(NEW), rotation={"lb1": right, "lb2": {"redirect": states}})
    assert (found["state"], found["why"]) == ("settle", why)
    assert entry(runs(NEW), rotation={"lb1": right, "lb2": {"api": states}})["state"] == "done"
    assert entry(runs(NEW), drained=["app1"], rotation={"lb2": {"redirect": states}})["state"] == "done"


def test_a_drained_host_is_moved_and_stays_drained() -> None:
    state = service("blue", slot("live", OLD, admitted=False), drained=True)
    assert (entry(state)["state"], entry(state)["drained"]) == ("move", True)
    assert "stays so" in planned({"app1": host(state)})["why"][0]
    assert planned({"app1": host(state), "app2": host(runs(OLD))})["drained"] == ["app1"]
    done = service("blue", slot("live", NEW, admitted=False), drained=True)
    assert entry(done)["state"] == "done"
    assert entry(runs(OLD), drained=["app1"])["drained"]


HALF = {
    "lb1": {"redirect": {"app1-blue": "drain", "app1-green": "maint", "app2-blue": "ready", "app2-green": "maint"}},
    "lb2": {"redirect": {"app1-blue": "ready", "app1-green": "maint", "app2-blue": "ready", "app2-green": "maint"}},
}
"""A drain of app1 was killed after the first balancer, and before app1 knew of it."""


def test_a_drain_that_was_killed_half_way_is_a_drain() -> None:
    found = planned({"app1": host(runs(OLD)), "app2": host(runs(OLD))}, rotation=HALF)
    assert found["drained"] == ["app1"]
    assert not found["hosts"]["app2"]["redirect"]["drained"]
    other = {"lb1": {"redirect": {"app1-blue": "maint", "app1-green": "drain"}}}
    assert entry(runs(OLD), rotation=other)["drained"]
    # One slot that drains beside another one that is ready is a switch, and no drain.
    switch = {"lb1": {"redirect": {"app1-blue": "drain", "app1-green": "ready"}}}
    assert not entry(runs(OLD), rotation=switch)["drained"]
    assert not entry(runs(OLD), rotation={"lb1": {"api": HALF["lb1"]["redirect"]}})["drained"]


def test_a_drain_that_was_killed_half_way_blocks_nobody_when_there_is_nothing_to_do() -> None:
    found = planned({"app1": host(runs(NEW)), "app2": host(runs(OLD))}, rotation=HALF)
    assert (found["drained"], found["stages"][0]["batches"]) == ([], [["app2"]])
    # It is not settled again and again, since no rollout does settle it.
    assert found["hosts"]["app1"]["redirect"]["state"] == "done"
    assert not planned({"app1": host(runs(NEW))}, rotation=HALF, fleet={"redirect": NEW})["changes"]


def test_a_host_that_an_interrupted_run_moved_goes_back_with_the_others() -> None:
    moved = runs(NEW, "green", other=slot("warm", OLD))
    assert entry(moved, fleet={"redirect": OLD})["back"] == {"slot": "blue", "release": OLD, "warm": True}
    cold = runs(NEW, "green", other=slot("idle", OLD))
    assert entry(cold, fleet={"redirect": OLD})["back"] == {"slot": "blue", "release": OLD, "warm": False}
    assert entry(moved)["back"] == {"slot": "green", "release": NEW, "warm": True}, "nobody knows of another one"


def test_a_host_that_missed_a_rollout_goes_back_to_what_it_is() -> None:
    found = entry(runs(OTHER), fleet={"redirect": OLD})
    assert found["back"] == {"slot": "blue", "release": OTHER, "warm": True}


# --- the fleet ---


def test_the_record_that_a_killed_run_did_not_write_is_a_change() -> None:
    found = planned({"app1": host(runs(NEW))}, fleet={"redirect": OLD})
    assert (found["changes"], found["stages"], found["record"]) == (True, [], {"redirect": NEW})
    assert "fleet record" in found["why"][0]
    assert planned({"app1": host(runs(NEW))}, fleet={"redirect": None})["record"] == {"redirect": NEW}


def test_stages_come_in_order_and_hold_who_has_something_to_do() -> None:
    facts = {
        "app1": host(runs(OLD), api=runs(NEW), worker=runs(OLD)),
        "app2": host(runs(OLD), api=runs(OLD)),
        "app3": host(runs(NEW)),
    }
    groups = {"redirect": ["app2", "app1", "app3"], "api": ["app1", "app2"], "worker": ["app1"]}
    found = rollout_plan(facts, {"release": NEW, "groups": groups})
    assert found["stages"] == [
        {"name": "api and worker", "services": ["api", "worker"], "batches": [["app1"], ["app2"]]},
        {"name": "redirect", "services": ["redirect"], "batches": [["app2"], ["app1"]]},
    ]
    assert found["why"] == [
        f"api: {OLD} → {NEW}, on app2",
        f"redirect: {OLD} → {NEW}, on app2, app1",
        f"worker: {OLD} → {NEW}, on app1",
    ]
    one = rollout_plan(facts, {"release": {"api": NEW}, "services": ["api"], "groups": groups})
    assert [stage["services"] for stage in one["stages"]] == [["api"]]


def test_own_stages() -> None:
    facts = {"app1": host(runs(OLD), api=runs(OLD))}
    stages = [{"name": "all", "services": ["redirect", "api"]}]
    wish = {"release": NEW, "services": ["api", "redirect"], "stages": stages}
    found = rollout_plan(facts, {**wish, "groups": {"api": ["app1"], "redirect": ["app1"]}})
    assert found["stages"] == [{"name": "all", "services": ["redirect", "api"], "batches": [["app1"]]}]


def test_blue_green_moves_all_at_once() -> None:
    facts = {name: host(runs(OLD)) for name in HOSTS}
    found = planned(facts, strategy="blue_green", batch=1)
    assert found["stages"][0]["batches"] == [HOSTS]


def test_rolling_never_moves_all_that_serve() -> None:
    facts = {name: host(runs(OLD)) for name in HOSTS}
    assert planned(facts, batch="100%")["stages"][0]["batches"] == [["app1", "app2"], ["app3"]]
    assert planned(facts, batch="34%")["stages"][0]["batches"] == [["app1", "app2"], ["app3"]]
    assert planned(facts, batch="33%")["stages"][0]["batches"] == [["app1"], ["app2"], ["app3"]]
    # Those that do not serve are no reserve.
    facts["app3"]["services"]["redirect"]["drained"] = True
    facts["app4"] = host(service(None))
    assert planned(facts, batch=4)["stages"][0]["batches"] == [["app1"], ["app2", "app3", "app4"]]


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        ({"release": ""}, "no release was given for redirect"),
        ({"release": {"api": NEW}}, "no release was given for redirect"),
        ({"release": "latest"}, "is no release id"),
        ({"services": ["web"], "groups": {"web": ["app1"]}}, "web: services are"),
        ({"stages": [{"name": "a", "services": ["api"]}]}, "exactly one stage"),
        ({"strategy": "canary"}, "rolling or blue_green"),
        ({"batch": "half"}, "such as 25%"),
        ({"batch": 0}, "such as 25%"),
        ({"groups": {}}, "no host has any of redirect"),
        ({"groups": {"redirect": ["app9"]}}, "nobody could look at redirect on app9"),
        ({"relaese": NEW}, "no relaese"),
    ],
)
def test_what_makes_no_sense_is_refused(wish: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AnsibleFilterError, match=complaint):
        planned({"app1": host(runs(OLD))}, **wish)


def test_a_host_whose_slots_cannot_be_seen_is_no_bare_one() -> None:
    with pytest.raises(AnsibleFilterError, match="on app1"):
        planned({"app1": host({"live": None, "slots": {}})})
    with pytest.raises(AnsibleFilterError, match="on app1"):
        planned({"app1": None})


# --- killed anywhere ---


class KilledError(Exception):
    """The control node is gone."""


def carry_out(facts: dict[str, Any], wish: dict[str, Any], fleet: dict[str, str | None], steps: int) -> None:
    """Do what a plan says to redirect on model hosts, in the order of the role, and be killed after some steps."""
    left = iter(range(steps))

    def step(change: dict[str, Any], **more: Any) -> None:
        if next(left, None) is None:
            raise KilledError
        change.update(more)

    found = rollout_plan(facts, {**wish, "fleet": fleet})
    for name in (name for stage in found["stages"] for batch in stage["batches"] for name in batch):
        entry, state = found["hosts"][name]["redirect"], facts[name]["services"]["redirect"]
        target = state["slots"][entry["target_slot"]]
        former = state["slots"][entry["live_slot"]] if entry["state"] == "move" else None
        if entry["make_room"]:
            step(target, **slot("idle", target["release"]))
        if entry["state"] == "move":
            if not target["active"]:
                step(target, **slot("candidate", entry["release"]))
            step(target, state="warm", admitted=True)
            step(target, enabled=True)
        step(state, live=entry["target_slot"])
        target["state"] = "live"
        if former:
            former["state"] = "warm"
            step(state, current=entry["release"])
            step(former, enabled=False)
        step(state, current=entry["release"])
        step(target, enabled=True)
        other = state["slots"]["blue" if entry["target_slot"] == "green" else "green"]
        step(other, enabled=False)
    for facts_of in facts.values():
        for name, other in facts_of["services"]["redirect"]["slots"].items():
            if name != live_of(facts_of) and other["state"] != "idle":
                step(other, warm_until=1)
    step(fleet, **found["record"])


@pytest.mark.parametrize("steps", range(35))
def test_killed_anywhere_the_same_wish_leads_on_and_an_undo_back(steps: int) -> None:
    facts = {"app1": host(runs(OLD)), "app2": host(runs(OLD, "green", other=slot("warm", OTHER)))}
    wish = {"release": NEW, "services": ["redirect"], "groups": {"redirect": ["app1", "app2"]}}
    fleet: dict[str, str | None] = {"redirect": OLD}
    with contextlib.suppress(KilledError):
        carry_out(facts, wish, fleet, steps)
    undone, undone_fleet = copy.deepcopy((facts, fleet))
    carry_out(facts, wish, fleet, 1000)
    carry_out(undone, {**wish, "release": OLD}, undone_fleet, 1000)
    for found, release, record in ((facts, NEW, fleet), (undone, OLD, undone_fleet)):
        final = rollout_plan(found, {**wish, "release": release, "fleet": record})
        assert (final["changes"], record) == (False, {"redirect": release}), final["why"]
        assert all(
            state["services"]["redirect"]["slots"][live_of(state)]["release"] == release for state in found.values()
        )


def live_of(state: dict[str, Any]) -> str:
    live: str = state["services"]["redirect"]["live"]
    return live


# --- batches ---


@pytest.mark.parametrize(
    ("wished", "hosts", "size"), [(2, 9, 2), ("3", 9, 3), ("25%", 9, 3), ("1%", 9, 1), ("100%", 9, 9), ("50%", 0, 1)]
)
def test_shares_are_rounded_up(wished: int | str, hosts: int, size: int) -> None:
    assert batch_size(wished, hosts) == size


@pytest.mark.parametrize("wished", [0, -1, "0%", "101%", "1.5", "", "25 %"])
def test_a_batch_is_a_number_or_a_share(wished: int | str) -> None:
    with pytest.raises(BatchError, match="expected a number"):
        batch_size(wished, 3)


def test_each_service_of_a_batch_keeps_somebody() -> None:
    serving = {"api": ["app1", "app2"], "worker": ["app3"]}
    assert batches(HOSTS, 3, serving) == [["app1"], ["app2", "app3"]]
    assert batches([], 3, serving) == []
    assert batches(["app3"], 1, serving) == [["app3"]]
