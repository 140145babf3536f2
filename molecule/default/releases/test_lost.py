"""What visitors and hosts saw of a host that was lost in the middle of a deploy (lost.yml)."""

from __future__ import annotations

import datetime
import functools
import json
from typing import Any, cast

from tools.testing.lab_hosts import find_lab, status_shown

LOST = "app3"
OTHERS = ("app1", "app2")
# Seconds, of the deploy that left the host out.
WARM = 8


@functools.cache
def result() -> dict[str, Any]:
    text = (find_lab().directory / "releases.json").read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text)["lost"])


def failed_over() -> set[str]:
    """Return the hosts whose servers failed a request, or lost one to another server."""
    hosts = set()
    for service, entry in result()["after"].items():
        for name, server in entry["servers"].items():
            before = result()["before"][service]["servers"][name]["counters"]
            if any(server["counters"][counter] > before[counter] for counter in ("econ", "eresp", "wretr", "wredis")):
                hosts.add(name.partition("-")[0])
    return hosts


def test_only_what_the_lost_host_was_answering_failed() -> None:
    found = result()
    # Eight connections send one request at a time, and its checks take it out within 3 s; retries go to another host.
    assert found["load"]["failed"] <= 8, found["load"]
    assert failed_over() <= {LOST}


def test_the_others_go_back_and_it_is_named() -> None:
    found = result()["seen"]
    verdict = " ".join(found["said"].split())
    assert f"{LOST} could not be reached" in verdict
    assert f"-e without={LOST}" in verdict
    before, lost = found["looks"]["before"], found["looks"]["lost"]
    for host in OTHERS:
        assert lost["hosts"][host]["redirect"]["answers"] == before["hosts"][host]["redirect"]["answers"]
        assert lost["hosts"][host]["redirect"]["running"] == [lost["hosts"][host]["redirect"]["live"]]
    assert lost["fleet"]["services"]["redirect"]["release"] == before["fleet"]["services"]["redirect"]["release"]


def test_a_deploy_to_a_host_that_is_missing_changes_nothing_and_says_how_to_go_on() -> None:
    text = " ".join(result()["seen"]["runs"]["missing"]["said"].split())
    assert "Nothing was changed" in text
    assert f"-e without={LOST}" in text


def test_what_was_warm_is_ended_by_its_host_without_anybody_s_help() -> None:
    for host in OTHERS:
        found = result()["seen"]["looks"]["after"]["hosts"][host]["redirect"]
        (old,) = {"blue", "green"} - {found["live"]}
        assert (found["running"], found["cooling"]) == ([found["live"]], []), host
        live, stopped = found["ledger"][-2:]
        assert (live["action"], live["slot"]) == ("live", found["live"]), host
        assert (stopped["action"], stopped["slot"], stopped["by"]) == ("stopped", old, "warm timer"), host
        # Not before its time.
        began, ended = (datetime.datetime.fromisoformat(entry["time"]) for entry in (live, stopped))
        assert (ended - began).total_seconds() >= WARM, host


def test_status_tells_that_nothing_is_warm_any_more_and_who_saw_to_that() -> None:
    status = status_shown(result()["seen"]["runs"]["status"]["said"])
    rows = {row["host"]: row for row in status["rows"] if row["service"] == "redirect"}
    for host in OTHERS:
        assert (rows[host]["findings"], rows[host]["notes"]) == ([], []), rows[host]
        assert (rows[host]["last"]["action"], rows[host]["last"]["by"]) == ("stopped", "warm timer"), rows[host]


def test_status_tells_that_who_was_left_out_differs() -> None:
    found = result()["seen"]
    status = status_shown(found["runs"]["status"]["said"])
    differs = {(row["host"], row["service"]): row["findings"] for row in status["rows"] if row["findings"]}
    assert differs == {(LOST, "redirect"): [f"the fleet record says {found['releases']['faulty']['id']}"]}


def test_left_out_the_others_go_on_without_it() -> None:
    found = result()
    release = found["seen"]["releases"]["faulty"]["id"]
    before, after = (found["seen"]["looks"][look] for look in ("before", "after"))
    for host, services in after["hosts"].items():
        for service, slot in services.items():
            # The one that was left out comes back with what it had.
            moved = host in OTHERS and service == "redirect"
            answers = release if moved else before["hosts"][host][service]["answers"]
            assert slot["answers"] == answers, (host, service)
            assert slot["running"] == [slot["live"]], (host, service)
    assert after["fleet"]["services"]["redirect"]["release"] == release
    assert LOST in " ".join(found["seen"]["runs"]["without"]["said"].split())
