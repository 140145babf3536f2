"""Which slots a balancer takes in when site.yml runs."""

from __future__ import annotations

from ansible_collections.linkrift.platform.plugins.filter.rotation_joins import rotation_joins

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
    assert rotation_joins(states, SLOTS) == [
        {"service": "redirect", "host": "app1", "slot": "blue", "state": "ready"},
        {"service": "redirect", "host": "app1", "slot": "green", "state": "maint"},
    ]


def test_a_host_that_was_drained_before_it_was_built_anew_stays_drained() -> None:
    states = {"redirect": {"app1-blue": "maint", "app1-green": "drain"}}
    assert [(change["slot"], change["state"]) for change in rotation_joins(states, SLOTS)] == [
        ("blue", "drain"),
        ("green", "maint"),
    ]
