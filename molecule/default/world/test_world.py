"""What visitors and hosts saw of releases while the world went wrong (world.yml)."""

from __future__ import annotations

import functools
import json
from typing import Any, cast

import pytest

from tools.testing.lab_hosts import APP_HOSTS, find_lab

MASKED = ("econ", "eresp", "wretr", "wredis", "hrsp_5xx")


@functools.cache
def results() -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((find_lab().directory / "releases.json").read_text(encoding="utf-8")))


def seen(phase: str) -> dict[str, Any]:
    return cast("dict[str, Any]", results()[phase]["seen"])


def answers(look: dict[str, Any], service: str) -> dict[str, str]:
    """Return which release answers, by host."""
    return {host: services[service]["answers"] for host, services in look["hosts"].items()}


def grown(phase: str) -> dict[str, dict[str, int]]:
    """Return how much each server's counters of failures and retries grew, of those that did."""
    found = results()[phase]
    assert found["same_haproxy"], "its counters began anew"
    servers = {}
    for service, entry in found["after"].items():
        for name, server in entry["servers"].items():
            before = found["before"][service]["servers"][name]["counters"]
            counters = {counter: server["counters"][counter] - before[counter] for counter in MASKED}
            if any(counters.values()):
                servers[f"{service} {name}"] = counters
    return servers


@pytest.mark.parametrize("phase", ["crossed"])
def test_no_visitor_noticed_and_no_retry_hid_anything(phase: str) -> None:
    found = results()[phase]
    assert (found["load"]["failed"], found["load"]["failures"]) == (0, {}), found["load"]
    assert found["load"]["requests"] > 2000
    assert (found["logged"]["failed"], found["logged"]["retried"]) == (0, 0), found["logged"]
    assert grown(phase) == {}


# --- Killed between switch and commit, then another release -----------------------------------------------------------


def test_it_was_killed_with_visitors_on_what_is_not_committed() -> None:
    found = seen("crossed")
    assert (found["kill"]["rc"], found["kill"]["watched"]) == (None, True)
    before, killed = found["looks"]["before"]["hosts"], found["looks"]["killed"]["hosts"]
    live = before["app1"]["redirect"]["live"]
    assert killed["app1"]["redirect"]["live"] == live, "it was committed"
    candidate = {"blue": "green", "green": "blue"}[live]
    states = found["states"]["redirect"]
    assert states[f"app1-{candidate}"] == "ready"
    assert states[f"app1-{live}"] != "ready"


def test_another_release_goes_live_after_it() -> None:
    found = seen("crossed")
    other = found["releases"]["faulty"]["id"]
    look = found["looks"]["other"]
    assert answers(look, "redirect") == dict.fromkeys(APP_HOSTS, other)
    assert look["fleet"]["services"]["redirect"]["release"] == other
    for host, services in look["hosts"].items():
        assert services["redirect"]["running"] == [services["redirect"]["live"]], host
        assert services["redirect"]["cooling"] == []
