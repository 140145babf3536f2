"""What bad releases and bad hosts came to that must not get as far as a visitor (faults_staged.yml)."""

from __future__ import annotations

import functools
import json
from typing import Any, cast

import pytest

from tools.testing.lab_hosts import APP_HOSTS, SERVICES, find_lab

MASKED = ("econ", "eresp", "wretr", "wredis", "hrsp_5xx")

# What refuses each candidate, and what its evidence shows.
REFUSED = {
    ("app1", "redirect"): ("release 0.0.0+000000000000 answers, not", "0.0.0+000000000000"),
    ("app1", "api"): ("exit status 78", "LINKRIFT_JWT_SECRET: missing; expected"),
    ("app1", "worker"): ("exit status 3", "this release ends on purpose"),
    ("app2", "worker"): ("lines of level error or worse", "this release complains on purpose"),
    ("app3", "worker"): ("release 0.0.0+000000000000 answers, not", "0.0.0+000000000000"),
}
CAME_UP = {("app2", "api"): "leaks", ("app3", "redirect"): "slow_start", ("app3", "api"): "ignores_sigterm"}


@functools.cache
def phase() -> dict[str, Any]:
    results = json.loads((find_lab().directory / "releases.json").read_text(encoding="utf-8"))
    return cast("dict[str, Any]", results["faults"])


def seen() -> dict[str, Any]:
    return cast("dict[str, Any]", phase()["seen"])


def candidate(place: tuple[str, str]) -> dict[str, Any]:
    host, service = place
    return cast("dict[str, Any]", seen()["slots"][host]["candidates"][service])


def said(run: str) -> str:
    """Return what a run said, as one line: Ansible breaks long ones."""
    return " ".join(str(seen()["runs"][run]["said"]).split())


def test_no_visitor_noticed_and_no_retry_hid_anything() -> None:
    found = phase()
    assert (found["load"]["failed"], found["load"]["failures"]) == (0, {}), found["load"]
    assert found["load"]["requests"] > 2000
    logged = found["logged"]
    assert (logged["failed"], logged["retried"], logged["aborted"]) == (0, 0, 0), logged
    assert found["same_haproxy"]
    for service, entry in found["after"].items():
        for name, server in entry["servers"].items():
            before = found["before"][service]["servers"][name]["counters"]
            grown = {counter: server["counters"][counter] - before[counter] for counter in MASKED}
            assert grown == dict.fromkeys(MASKED, 0), name


# --- Candidates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", REFUSED, ids="-".join)
def test_a_candidate_that_goes_wrong_is_refused_with_its_reason(place: tuple[str, str]) -> None:
    reason, evidence = REFUSED[place]
    answer = candidate(place)
    assert "state" not in answer, "it passed"
    assert reason in answer["msg"]
    assert "is live as before" in answer["msg"]
    assert answer["undo_failed"] == []
    assert evidence in json.dumps(answer["evidence"])


def test_a_candidate_whose_port_is_taken_is_not_even_started() -> None:
    answer = candidate(("app2", "redirect"))
    assert "is taken by systemd (process 1)" in answer["msg"]
    assert "evidence" not in answer


@pytest.mark.parametrize("place", CAME_UP, ids="-".join)
def test_what_goes_wrong_later_or_is_only_slow_passes_the_gate(place: tuple[str, str]) -> None:
    answer = candidate(place)
    assert [gate["verdict"] for gate in answer["gates"]] == ["pass"] * 4
    if place[0] == "app3":
        assert f'"fault": "{CAME_UP[place]}"' in seen()["slots"]["app3"]["journal"]


def test_one_that_grows_is_seen_by_who_watches_it() -> None:
    watched = seen()["slots"]["app2"]["watched"]
    assert "MiB in use, of 922 MiB at most" in watched["msg"]
    figures = watched["services"]["api"]["memory"]
    assert figures["first_mib"] < figures["bound_mib"] < figures["mib"]


def test_one_that_ignores_sigterm_is_killed_and_leaves_nothing_failed() -> None:
    found = seen()["slots"]["app3"]
    assert "stop" in found["stopped"]["api"]["steps"]
    assert "State 'stop-sigterm' timed out. Killing" in found["journal"]
    for host in APP_HOSTS:
        assert seen()["slots"][host]["failed"] == [], host


@pytest.mark.parametrize("host", APP_HOSTS)
def test_nothing_that_is_left_hinders_the_next_one(host: str) -> None:
    assert seen()["slots"][host]["again"] == ["pass"] * 4


def test_live_slots_are_not_touched_and_ledgers_say_what_failed() -> None:
    before, after = seen()["looks"]["before"]["hosts"], seen()["looks"]["slots"]["hosts"]
    for host in APP_HOSTS:
        for service in SERVICES:
            old, new = before[host][service], after[host][service]
            assert all(new[key] == old[key] for key in ("live", "current", "answers")), (host, service)
            assert new["running"] == [new["live"]]
    bad = seen()["releases"]["faulty"]["id"]
    for host, service in REFUSED:
        last = after[host][service]["ledger"][-4:]
        assert [entry for entry in last if entry["release"] == bad and entry.get("failed")], (host, service)


# --- Deploys ----------------------------------------------------------------------------------------------------------

REASONS = {
    "truncated": ["cannot be read", "copy the bundle again"],
    "unstaged": [
        "was built for cp313-x86_64; this host is cp311-x86_64",
        "cannot be fetched (OSError: [Errno 113] No route to host)",
        "No space left on device",
        "Hosts that answer serve what they served before",
    ],
    "migration": ["_fail.up.sql: failed, nothing of it was applied: division by zero"],
}


@pytest.mark.parametrize("run", REASONS)
def test_a_deploy_that_cannot_be_says_why(run: str) -> None:
    assert seen()["runs"][run]["rc"] != 0
    for reason in REASONS[run]:
        assert reason in said(run)


def test_each_host_that_could_not_stage_is_named_with_its_own_reason() -> None:
    verdict = said("unstaged").partition("Task failed: Action failed: deploy")[2].partition("fatal:")[0]
    for host, reason in zip(APP_HOSTS, REASONS["unstaged"][:3], strict=True):
        assert f"{host}: " in verdict
        assert reason in verdict.partition(f"{host}: ")[2].partition("; app")[0], host


def test_a_migration_that_fails_leaves_nothing_in_the_database() -> None:
    # Not dirty, and without the table that the migration made before it failed.
    assert seen()["schema"].strip() == "f|t"


def test_none_of_them_touched_a_slot() -> None:
    looks = seen()["looks"]
    assert looks["after"]["hosts"] == looks["slots"]["hosts"]
    assert looks["after"]["fleet"] == looks["before"]["fleet"]
