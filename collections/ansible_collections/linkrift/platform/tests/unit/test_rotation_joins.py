"""Which slots a balancer takes in when site.yml runs, and which it drains and takes back."""

from __future__ import annotations

from typing import Any

from ansible_collections.linkrift.platform.plugins.filter.rotation_joins import rotation_joins
from ansible_collections.linkrift.platform.plugins.filter.rotation_leaves import rotation_leaves
from ansible_collections.linkrift.platform.plugins.filter.rotation_missing import rotation_missing
from ansible_collections.linkrift.platform.plugins.filter.rotation_returns import rotation_returns

SLOTS = {"app1": {"redirect": {"slot": "blue"}}, "app2": {"redirect": {"slot": "green"}, "worker": {"slot": "blue"}}}


def test_serving_slots_join_a_new_balancer() -> None:
    states = {"redirect": {f"{host}-{slot}": "maint" for host in ("app1", "app2") for slot in ("blue", "green")}}
    assert rotation_joins(states, SLOTS) == [
        {"service": "redirect", "host": "app1", "slot": "blue", "state": "ready"},
        {"service": "redirect", "host": "app2", "slot": "green", "state": "ready"},
    ]


def test_one_that_is_ready_or_drained_stays_as_it_is() -> None:
    states = {"redirect": {"app1-blue": "ready", "app1-green": "maint", "app2-green": "drain"}}
    assert rotation_joins(states, SLOTS) == []


def test_hosts_that_nobody_looked_at_and_services_without_a_balancer_are_left_out() -> None:
    assert rotation_joins({"api": {"app3-blue": "maint"}}, {"app3": None, "app4": {}, **SLOTS}) == []


def test_a_host_built_anew_joins_in_its_new_slot() -> None:
    states = {"redirect": {"app1-blue": "maint", "app1-green": "ready"}}
    new = {"app1": {"redirect": {"slot": "blue", "new": True}}}
    assert rotation_joins(states, new) == [
        {"service": "redirect", "host": "app1", "slot": "blue", "state": "ready"},
        {"service": "redirect", "host": "app1", "slot": "green", "state": "maint"},
    ]


def test_visitors_whom_a_rollout_has_moved_meanwhile_are_left_alone() -> None:
    states = {"redirect": {"app1-blue": "maint", "app1-green": "ready"}}
    assert rotation_joins(states, {"app1": {"redirect": {"slot": "blue", "new": False}}}) == []


def test_a_host_that_was_drained_before_it_was_built_anew_stays_drained() -> None:
    states = {"redirect": {"app1-blue": "maint", "app1-green": "drain"}}
    assert [(change["slot"], change["state"]) for change in rotation_joins(states, SLOTS)] == [
        ("blue", "drain"),
        ("green", "maint"),
    ]


def test_a_drained_host_joins_a_new_balancer_drained() -> None:
    states = {"redirect": {"app1-blue": "maint", "app1-green": "maint"}}
    slots = {"app1": {"redirect": {"slot": "blue", "drained": True}}}
    assert [(change["slot"], change["state"]) for change in rotation_joins(states, slots)] == [("blue", "drain")]


def test_all_slots_of_a_host_leave_and_drained_ones_are_named_again() -> None:
    states = {
        "redirect": {"app1-blue": "ready", "app1-green": "drain", "app2-blue": "ready"},
        "api": {"app1-blue": "maint", "app1-green": "ready"},
    }
    assert rotation_leaves(states, "app1") == [
        {"service": "api", "host": "app1", "slot": "green", "state": "drain"},
        {"service": "redirect", "host": "app1", "slot": "blue", "state": "drain"},
        {"service": "redirect", "host": "app1", "slot": "green", "state": "drain"},
    ]
    assert rotation_leaves(states, "app9") == []


def test_live_slots_of_a_host_return_and_the_others_rest() -> None:
    states = {"redirect": {"app1-blue": "drain", "app1-green": "drain"}, "api": {"app1-blue": "ready"}}
    assert rotation_returns(states, "app1", {"redirect": "green", "api": "blue", "worker": "blue"}) == [
        {"service": "api", "host": "app1", "slot": "blue", "state": "ready"},
        {"service": "redirect", "host": "app1", "slot": "green", "state": "ready"},
        {"service": "redirect", "host": "app1", "slot": "blue", "state": "maint"},
    ]


def test_servers_that_should_serve_and_do_not_are_named() -> None:
    def server(host: str, state: str, takes: bool) -> dict[str, Any]:
        return {
            "host": host,
            "state": state,
            "takes_traffic": takes,
            "status": "UP" if takes else "DOWN",
            "check_status": "L4TOUT",
            "check_detail": "",
        }

    rotation = {
        "redirect": {
            "servers": {
                "app1-blue": server("app1", "ready", False),
                "app2-blue": server("app2", "ready", True),
                "app3-blue": server("app3", "drain", False),
            }
        }
    }
    assert rotation_missing(rotation) == ["redirect/app1-blue is DOWN (L4TOUT)"]
    assert rotation_missing(rotation, "app1") == []
