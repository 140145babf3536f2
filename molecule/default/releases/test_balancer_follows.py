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
    return cast("dict[str, Any]", found["balancer_lost"])


def seen() -> dict[str, Any]:
    return cast("dict[str, Any]", phase()["seen"]["follows"])


def hosts(look: str) -> dict[str, dict[str, Any]]:
    return cast("dict[str, dict[str, Any]]", phase()["seen"]["looks"][look]["hosts"])


def expected() -> dict[str, dict[str, str]]:
    """Return by service the state that each server must have, by what the hosts say is live."""
    states: dict[str, dict[str, str]] = {service: {} for service in SERVICES}
    for host, services in hosts("after").items():
        for service in SERVICES:
            for slot in ("blue", "green"):
                live = services[service]["live"] == slot
                states[service][f"{host}-{slot}"] = "ready" if live else "maint"
    return states


def test_from_its_first_answer_on_it_sends_to_what_is_live() -> None:
    visitor = seen()["visitor"]
    live = {services["redirect"]["current"] for services in hosts("after").values()}
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
    assert set(done) == {f"redirect/{server}" for server, state in expected()["redirect"].items() if state == "ready"}
    followed = max(index for index, line in enumerate(journal) if "takes visitors" in line)
    assert followed < min(index for index, line in enumerate(journal) if "Starting haproxy.service" in line)


def test_it_is_told_again_like_the_others() -> None:
    runs = phase()["seen"]["runs"]
    assert (runs["without"]["rc"], runs["emergency"]["rc"]) == (0, 0)
    good = phase()["seen"]["releases"]["good"]["id"]
    assert {services["redirect"]["answers"] for services in hosts("emergency").values()} == {good}
    assert "watching the slots, and what visitors get from them" in " ".join(str(runs["emergency"]["said"]).split())
