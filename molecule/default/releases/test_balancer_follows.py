"""What a balancer does that was away while what is live changed (balancer_follows.yml): it follows the hosts."""

from __future__ import annotations

import functools
import json
from typing import Any, cast

from tools.testing.lab_hosts import find_lab

SERVICES = ("api", "redirect")


@functools.cache
def phase() -> dict[str, Any]:
    found = json.loads((find_lab().directory / "releases.json").read_text(encoding="utf-8"))
    return cast("dict[str, Any]", found["follows"])


def seen() -> dict[str, Any]:
    return cast("dict[str, Any]", phase()["seen"])


def expected() -> dict[str, dict[str, str]]:
    """Return by service the state that each server must have, by what the hosts say is live."""
    states: dict[str, dict[str, str]] = {service: {} for service in SERVICES}
    for host, services in seen()["looks"]["after"]["hosts"].items():
        for service in SERVICES:
            for slot in ("blue", "green"):
                live = services[service]["live"] == slot
                states[service][f"{host}-{slot}"] = "ready" if live else "maint"
    return states


def test_visitors_elsewhere_did_not_notice() -> None:
    assert phase()["load"]["failed"] == 0, phase()["load"]


def test_from_its_first_answer_on_it_sends_to_what_is_live() -> None:
    visitor = seen()["visitor"]
    hosts = seen()["looks"]["after"]["hosts"].values()
    live = {services["redirect"]["current"] for services in hosts}
    assert visitor["failed"] == 0, visitor
    assert visitor["requests"] == 400
    assert set(visitor["versions"]) == live, visitor


def test_it_has_the_rotation_that_it_was_not_told() -> None:
    for name, balancer in seen()["balancers"].items():
        assert balancer["states"] == expected(), name
        assert balancer["differences"] == [], name


def test_it_says_what_it_did_before_haproxy_began() -> None:
    journal = seen()["journal"]
    done = [line.partition("]: ")[2].split(" takes visitors now: ")[0] for line in journal if "takes visitors" in line]
    changed = {
        f"{service}/{server}"
        for service, servers in expected().items()
        for server, state in servers.items()
        if state == "ready"
    }
    assert set(done) == changed
    followed = max(index for index, line in enumerate(journal) if "takes visitors" in line)
    assert followed < min(index for index, line in enumerate(journal) if "Starting haproxy.service" in line)
