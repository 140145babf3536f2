# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the operator is told of the fleet."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.filter.fleet_status import fleet_status
from ansible_collections.linkrift.platform.plugins.plugin_utils._status import age_in_words
from ansible_collections.linkrift.platform.tests.unit.fleet_fakes import NEW, OLD, host, runs, service, slot

NOW = 1767225600.0 + 3600 + 90
LIVE = {"time": "2026-01-01T00:00:00.000Z", "slot": "blue", "release": OLD, "action": "live", "by": "ops"}
WELL = {"code": 200, "status": "ok", "version": OLD, "error": ""}
GROUPS = {"redirect_hosts": ["app1", "app2"], "worker_hosts": ["app2"], "balancers": ["lb2", "lb1"], "other": ["x"]}
ENTRY = {"release": OLD, "since": "2026-01-01T00:00:00Z", "by": "ops"}
LEASE = {"id": "r1", "purpose": "deploy", "by": "ada@desk", "until": "2026-01-01T02:00:00Z"}


def well(**more: Any) -> dict[str, Any]:
    """Return a service with which nothing is wrong."""
    return runs(OLD, **{"history": [LIVE], "last": LIVE, "health": WELL, **more})


def server(name: str, admin: str, status: str) -> dict[str, Any]:
    takes = admin == "ready" and status == "UP"
    check = (
        {"check_status": "L7OK", "check_detail": ""} if takes else {"check_status": "L4CON", "check_detail": "refused"}
    )
    return {"host": name[:4], "slot": name[5:], "admin": admin, "status": status, "takes_traffic": takes, **check}


def rotation(**states: str) -> dict[str, Any]:
    """Return what rotation_info says, all blue slots in, but for what is given."""
    said = {name: "ready UP" if name.endswith("blue") else "maint MAINT" for name in ("app1_blue", "app2_blue")}
    said |= {"app1_green": "maint MAINT", "app2_green": "maint MAINT", **states}
    servers = {name.replace("_", "-"): server(name, *words.split()) for name, words in said.items()}
    return {"running": True, "rotation": {"redirect": {"servers": servers}}, "differences": []}


@pytest.fixture
def fleet() -> dict[str, dict[str, Any]]:
    """Return the variables of a fleet that is as it should be."""
    balancer = {
        "status_rotation": rotation(),
        "status_record": {"record": {"redirect": ENTRY, "worker": ENTRY}},
        "status_lease": {"lease": None, "held": False},
    }
    return {
        "app1": {"status_looked": host(well())},
        "app2": {"status_looked": host(well(), worker=well())},
        "lb1": balancer,
        "lb2": copy.deepcopy(balancer),
        "x": {},
    }


def said(fleet: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return fleet_status(GROUPS, fleet, NOW)


def mine(fleet: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what app1 says of redirect, to be changed."""
    state: dict[str, Any] = fleet["app1"]["status_looked"]["services"]["redirect"]
    return state


def test_a_fleet_that_is_well(fleet: dict[str, dict[str, Any]]) -> None:
    found = said(fleet)
    assert (found["findings"], found["notes"], found["leases"]) == ([], [], [])
    assert found["fleet"] == {"redirect": OLD, "worker": OLD}
    assert found["rows"][0] == {
        "host": "app1",
        "service": "redirect",
        "slot": "blue",
        "release": OLD,
        "since": "2026-01-01T00:00:00.000Z",
        "age": 3690,
        "health": "ok",
        "rotation": {"lb1": ["blue"], "lb2": ["blue"]},
        "last": LIVE,
        "findings": [],
        "notes": [],
    }
    assert found["lines"] == [
        "HOST  SERVICE   SLOT  RELEASE             AGE      HEALTH  ROTATION           LAST",
        f"app1  redirect  blue  {OLD}  1h 1min  ok      lb1=blue lb2=blue  live blue 2026-01-01T00:00:00.000Z",
        f"app2  redirect  blue  {OLD}  1h 1min  ok      lb1=blue lb2=blue  live blue 2026-01-01T00:00:00.000Z",
        f"app2  worker    blue  {OLD}  1h 1min  ok      -                  live blue 2026-01-01T00:00:00.000Z",
    ]


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        ({"live": None}, "nothing is live"),
        ({"history": []}, "the ledger does not know that it is live"),
        ({"history": [{**LIVE, "slot": "green"}]}, f"blue is live, the ledger says green ({OLD})"),
        ({"current": NEW}, f"current leads to {NEW}"),
        ({"health": {**WELL, "code": 503, "status": "draining"}}, "its health is: draining (503)"),
        ({"health": {**WELL, "code": 404}}, "its health is: standby, though live"),
        ({"health": {**WELL, "code": None, "error": "refused"}}, "its health is: no answer: refused"),
        ({"health": {**WELL, "version": NEW}}, f"it answers as {NEW}"),
        (runs(OLD, other=slot("warm", NEW)), f"green ({NEW}) runs beside it as warm, and no timer will stop it"),
        (runs(OLD, other=slot("warm", NEW, warm_until=NOW - 9)), f"green ({NEW}) runs beside it as warm"),
        (service("blue", slot("live", OLD, active=False)), "the live slot does not run"),
        (service("blue", slot("live", OLD, admitted=False)), "the live slot is not admitted"),
        (service("blue", slot("live", OLD, enabled=False)), "it does not come back after a reboot"),
    ],
)
def test_what_is_wrong_with_a_slot(fleet: dict[str, dict[str, Any]], changed: dict[str, Any], finding: str) -> None:
    kept = {name: mine(fleet)[name] for name in ("history", "last", "health")}
    mine(fleet).update({**changed, **({} if changed.keys() & kept.keys() and len(changed) == 1 else kept)})
    found = said(fleet)
    assert f"app1 redirect: {finding}" in found["findings"][0]
    assert found["lines"][1].endswith("!")


def test_a_host_that_differs_from_the_record(fleet: dict[str, dict[str, Any]]) -> None:
    entry = {**ENTRY, "release": NEW, "since": "2026-01-02T00:00:00Z"}
    for name in ("lb1", "lb2"):
        fleet[name]["status_record"]["record"]["redirect"] = entry
    assert said(fleet)["findings"] == [f"{name} redirect: the fleet record says {NEW}" for name in ("app1", "app2")]
    for name in ("lb1", "lb2"):
        del fleet[name]["status_record"]["record"]["redirect"]
    assert said(fleet)["findings"] == [f"{name} redirect: no fleet record has it" for name in ("app1", "app2")]


def test_settings_that_a_slot_does_not_have_yet(fleet: dict[str, dict[str, Any]]) -> None:
    mine(fleet)["rendered"] = "s2"
    found = said(fleet)
    assert found["notes"] == [
        "app1 redirect: blue began before its settings changed; deploy.yml with the same release brings the new ones"
    ]
    assert found["findings"] == []


def test_a_warm_slot_and_a_drained_host_are_meant(fleet: dict[str, dict[str, Any]]) -> None:
    mine(fleet)["slots"]["green"].update(slot("warm", NEW, warm_until=int(NOW) + 60))
    looked = fleet["app2"]["status_looked"]["services"]
    looked["redirect"].update(drained=True, health={**WELL, "code": 404})
    looked["redirect"]["slots"]["blue"]["admitted"] = False
    for name in ("lb1", "lb2"):
        fleet[name]["status_rotation"] = rotation(app2_blue="drain UP")
    found = said(fleet)
    assert found["findings"] == []
    assert found["notes"] == [
        f"app1 redirect: green ({NEW}) is warm until 2026-01-01 01:02:30Z",
        "app2 redirect: drained",
    ]
    assert found["rows"][1]["health"] == "standby"
    assert "lb1=none lb2=none" in found["lines"][2]


@pytest.mark.parametrize(
    ("states", "drained", "finding"),
    [
        ({"app1_blue": "maint MAINT"}, False, "lb1 sends it no visitors: maint, MAINT (L4CON refused)"),
        ({"app1_blue": "ready DOWN"}, False, "lb1 sends it no visitors: ready, DOWN (L4CON refused)"),
        ({"app1_green": "ready UP"}, False, "lb1 sends visitors to green"),
        ({}, True, "lb1 sends it visitors, though it is drained"),
    ],
)
def test_a_rotation_unlike_the_hosts(
    fleet: dict[str, dict[str, Any]], states: dict[str, str], drained: bool, finding: str
) -> None:
    fleet["lb1"]["status_rotation"] = rotation(**states)
    mine(fleet)["drained"] = drained
    found = said(fleet)["findings"]
    assert f"app1 redirect: {finding}" in found
    differ = [line for line in found if line.startswith("the balancers differ in who gets visitors of redirect: lb1:")]
    assert len(differ) == (0 if drained else 1)


def test_a_balancer_that_does_not_know_a_host(fleet: dict[str, dict[str, Any]]) -> None:
    del fleet["lb1"]["status_rotation"]["rotation"]["redirect"]["servers"]["app1-blue"]
    assert "app1 redirect: lb1 sends it no visitors: it does not know the host" in said(fleet)["findings"]


def test_what_cannot_be_asked_is_told_and_the_rest_as_well(fleet: dict[str, dict[str, Any]]) -> None:
    gone = {"unreachable": True, "msg": "Task failed: no route\nto host"}
    fleet["app2"]["status_looked"] = gone
    fleet["lb1"] = {"status_rotation": gone, "status_record": {"skipped": True}, "status_lease": {"skipped": True}}
    found = said(fleet)
    assert found["findings"] == [
        "app2 redirect, worker: cannot be reached: no route to host",
        "lb1: cannot be reached: no route to host",
    ]
    assert "lb1=? lb2=blue" in found["lines"][1]
    assert found["rows"][1]["rotation"] == {"lb1": None, "lb2": ["blue"]}, "the other balancer knows"
    assert found["fleet"] == {"redirect": OLD, "worker": OLD}


def test_a_balancer_that_is_also_a_host_out_of_reach(fleet: dict[str, dict[str, Any]]) -> None:
    # Nobody waited for it a second time.
    fleet["lb1"] = {name: {"skipped": True} for name in ("status_rotation", "status_record", "status_lease")}
    assert said(fleet)["findings"] == ["lb1: cannot be reached"]


def test_modules_that_failed(fleet: dict[str, dict[str, Any]]) -> None:
    fleet["app1"]["status_looked"] = {"module_stderr": "python3: not found\nmore", "msg": "MODULE FAILURE"}
    fleet["lb1"]["status_record"] = {"msg": "fleet.json is damaged"}
    fleet["lb1"]["status_lease"] = {}
    fleet["lb2"]["status_rotation"] = {"running": False, "rotation": {}, "differences": []}
    assert said(fleet)["findings"] == [
        "app1 redirect: cannot be looked at: python3: not found",
        "lb1: its fleet record cannot be looked at: fleet.json is damaged",
        "lb1: its lease cannot be looked at: it gave no answer",
        "lb2: HAProxy does not run",
    ]


def test_a_host_without_systemd_says_so(fleet: dict[str, dict[str, Any]]) -> None:
    mine(fleet)["slots"] = {}
    fleet["app1"]["status_looked"]["warnings"] = ["the slots of redirect cannot be seen", "the slots of api neither"]
    assert said(fleet)["findings"] == ["app1 redirect: cannot be looked at: the slots of redirect cannot be seen"]


def test_balancers_that_tell_two_stories(fleet: dict[str, dict[str, Any]]) -> None:
    fleet["lb2"]["status_record"]["record"]["worker"] = {**ENTRY, "release": NEW, "since": "2025-01-01T00:00:00Z"}
    fleet["lb2"]["status_lease"] = {"lease": LEASE, "held": True}
    fleet["lb1"]["status_rotation"]["differences"] = ["redirect/app1-green: ready, the file says maint"]
    found = said(fleet)
    assert found["findings"] == [
        "lb1: HAProxy does otherwise than its file says: redirect/app1-green: ready, the file says maint",
        f"the balancers differ in the fleet record of worker: lb1: {OLD}; lb2: {NEW}",
        "the balancers differ in who holds the fleet: lb1: nobody; lb2: deploy r1",
    ]
    assert found["notes"] == ["the fleet is held by ada@desk for deploy (r1), until 2026-01-01T02:00:00Z"]


def test_a_lease_that_ended_is_no_obstacle(fleet: dict[str, dict[str, Any]]) -> None:
    fleet["lb1"]["status_lease"] = {"lease": LEASE, "held": False}
    found = said(fleet)
    assert found["findings"] == []
    assert "ended without freeing the fleet" in found["notes"][0]
    assert found["lines"][-2:] == ["worth knowing:", f"- {found['notes'][0]}"]


def test_hosts_that_nobody_looked_at_are_left_out(fleet: dict[str, dict[str, Any]]) -> None:
    only = {name: variables if name == "app1" else {} for name, variables in fleet.items()}
    found = said(only)
    assert [(row["host"], row["rotation"]) for row in found["rows"]] == [("app1", {})]
    assert found["findings"] == [], "no balancer was asked, so nobody knows what the fleet is to run"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0s"), (59, "59s"), (61, "1min 1s"), (3600, "1h"), (90061, "1d 1h"), (86405, "1d 5s")]
)
def test_ages_are_told_roughly(seconds: int, words: str) -> None:
    assert age_in_words(seconds) == words
