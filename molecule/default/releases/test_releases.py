"""What visitors and hosts saw of releases (releases.yml): good ones, bad ones, killed ones, two at once."""

from __future__ import annotations

import functools
import json
import re
from typing import Any, cast

import pytest

from tools.testing.lab_hosts import APP_HOSTS, SERVICES, find_lab, status_shown

# What a retry or a broken answer would show, though the visitor got one.
MASKED = ("econ", "eresp", "wretr", "wredis", "hrsp_5xx")
NOT_NOTICED = ("good", "back", "bad", "killed")
# A balancer is reloaded in it: the log has what its counters forgot.
RELOADED = ("back",)
# Who else came while a good one went live.
KINDS = ("head", "brief", "follow", "http2", "post", "long")


@functools.cache
def results() -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((find_lab().directory / "releases.json").read_text(encoding="utf-8")))


def seen(phase: str) -> dict[str, Any]:
    return cast("dict[str, Any]", results()[phase]["seen"])


def said(phase: str, run: str) -> str:
    """Return what a run said, as one line: Ansible breaks long ones."""
    return " ".join(str(seen(phase)["runs"][run]["said"]).split())


def serving(look: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str, str]]:
    """Return by host and service the live slot, its release, and the one that answers there."""
    return {
        (host, service): (found["live"], found["current"], found["answers"])
        for host, services in look["hosts"].items()
        for service, found in services.items()
    }


def releases(look: dict[str, Any]) -> dict[str, set[str]]:
    """Return which releases answer, by service."""
    found = serving(look)
    return {service: {found[host, service][2] for host in APP_HOSTS} for service in SERVICES}


def recorded(look: dict[str, Any]) -> dict[str, str]:
    """Return what the fleet is to run, by service."""
    return {service: entry["release"] for service, entry in look["fleet"]["services"].items()}


def masked(phase: str) -> dict[str, int]:
    """Return how much each counter of all servers grew in a phase; HAProxy's reload begins at 0."""
    found = results()[phase]
    assert found["same_haproxy"] == (phase not in RELOADED)
    grown = dict.fromkeys(MASKED, 0)
    for service, entry in found["after"].items():
        for name, server in entry["servers"].items():
            before = found["before"][service]["servers"][name]["counters"] if found["same_haproxy"] else {}
            for counter in MASKED:
                grown[counter] += server["counters"][counter] - before.get(counter, 0)
    return grown


def status_of(phase: str) -> dict[str, Any]:
    """Return what status.yml said as JSON."""
    return status_shown(seen(phase)["runs"]["status"]["said"])


# --- Visitors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", NOT_NOTICED)
def test_no_visitor_noticed(phase: str) -> None:
    found = results()[phase]
    assert (found["load"]["failed"], found["load"]["failures"]) == (0, {}), found["load"]
    assert found["load"]["requests"] > 2000
    logged = found["logged"]
    # It knows whole seconds, and has what came since the first of them.
    assert logged["requests"] >= found["load"]["requests"] * 0.9
    assert (logged["failed"], logged["retried"], logged["aborted"]) == (0, 0, 0), logged


@pytest.mark.parametrize("phase", NOT_NOTICED)
def test_no_retry_hid_anything(phase: str) -> None:
    assert masked(phase) == dict.fromkeys(MASKED, 0)


@pytest.mark.parametrize("phase", NOT_NOTICED)
def test_each_click_is_counted_and_none_twice(phase: str) -> None:
    found = json.loads((find_lab().directory / "clicked.json").read_text(encoding="utf-8"))
    assert found["clicks"][found["links"][phase]] == results()[phase]["load"]["statuses"]["302"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_visitor_of_another_kind_noticed(kind: str) -> None:
    found = seen("good")["others"][kind]
    assert (found["failed"], found["failures"]) == (0, {}), found
    assert found["requests"] >= 10


def test_visitors_of_other_kinds_were_what_they_are_meant_to_be() -> None:
    found = seen("good")["others"]
    # Kept through a rolling deploy: nothing has made them connect anew.
    assert [found[kind]["connections"] for kind in ("head", "follow", "http2")] == [1, 1, 1]
    assert found["brief"]["connections"] == found["brief"]["requests"]
    # More than the buffers on the way hold, so that a slot is busy with it while it is read.
    assert found["long"]["bytes"] > 1_000_000


def test_what_breaks_when_visitors_come_is_noticed_on_its_host_only_and_not_for_long() -> None:
    found = results()["late"]
    failed = {name: server["failed"] for name, server in found["servers"].items() if server["failed"]}
    assert {name.partition("-")[0] for name in failed} == {"app2"}, failed
    assert found["load"]["failures"].keys() <= {"status 500"}
    # A third of 200 requests a second, for the seconds until it is seen and undone (4 to 9 here).
    assert 0 < sum(failed.values()) == found["load"]["failed"] <= 200 / 3 * 20, found["load"]


# --- A good release ---------------------------------------------------------------------------------------------------


def test_a_deploy_takes_the_release_live_everywhere() -> None:
    good = seen("good")["releases"]["good"]["id"]
    after = seen("good")["looks"]["after"]
    assert releases(after) == {service: {good} for service in SERVICES}
    assert recorded(after) == dict.fromkeys(SERVICES, good)
    before = serving(seen("good")["looks"]["before"])
    for place, (slot, current, _answer) in serving(after).items():
        assert current == good
        assert slot != before[place][0]


def test_what_served_before_stays_warm_and_workers_stop() -> None:
    before = seen("good")["looks"]["before"]["hosts"]
    for host, services in seen("good")["looks"]["after"]["hosts"].items():
        for service, found in services.items():
            old = before[host][service]["live"]
            warm = [] if service == "worker" else [old]
            assert found["cooling"] == warm, (host, service)
            assert found["running"] == sorted([found["live"], *warm]), (host, service)
            assert found["linked"][old] == before[host][service]["current"]


def test_ledgers_have_each_step() -> None:
    good = seen("good")["releases"]["good"]["id"]
    run = seen("good")["report"]["id"]
    for host, services in seen("good")["looks"]["after"]["hosts"].items():
        for service, found in services.items():
            steps = [entry for entry in found["ledger"] if run in entry["by"]]
            done = [entry["action"] for entry in steps if entry["release"] == good and entry["slot"] == found["live"]]
            assert done == ["candidate", "admitted", "live"], (host, service, steps)
            assert all(entry["by"].startswith("deploy ") for entry in steps)


def test_the_report_has_what_was_done_and_what_visitors_got() -> None:
    report = seen("good")["report"]
    good = seen("good")["releases"]["good"]["id"]
    recorded_before = recorded(seen("good")["looks"]["before"])
    assert (report["result"], report["purpose"]) == ("success", "deploy")
    assert report["releases"] == {service: {"from": recorded_before[service], "to": good} for service in SERVICES}
    assert report["hosts"].keys() == set(APP_HOSTS)
    before, during, after = (report["visitors"][mark] for mark in ("before", "during", "after"))
    assert during["requests"] > max(1000, after["requests"])
    assert min(found["requests"] for found in (before, after)) > 100
    for found in (during, after):
        assert (found["failed"], found["retried"]) == (0, 0)


def test_a_deploy_ends_with_what_visitors_got() -> None:
    words = re.search(
        r"deploy \S+: success in [\d.]+ s\. (\d+) requests meanwhile, (.*?)\. Report: ", said("good", "deploy")
    )
    assert words, said("good", "deploy")[-3000:]
    assert int(words[1]) == seen("good")["report"]["visitors"]["during"]["requests"]
    assert words[2] == "0 failed, 0 retried"


def test_the_operators_own_tasks_run_in_their_places() -> None:
    stages = ("api and worker", "redirect")
    places = ["the whole run", *(stage for stage in stages for _before_and_after in range(2)), "the whole run"]
    assert re.findall(r"hook: ([a-z ]+), deploy", said("good", "deploy")) == places


def test_site_beside_a_deploy_gets_through_and_moves_nothing() -> None:
    # Whether it moved something, the tests of the deploy see: it began with what served before.
    site = seen("good")["site"]
    assert site["rc"] == 0, site["said"][-3000:]
    assert "PLAY [Fleet record]" in site["said"]


def test_settings_that_change_while_a_slot_is_warm_are_told_and_wait_for_a_deploy() -> None:
    changed, back = (seen("good")["runs"][name] for name in ("settings", "settings_back"))
    assert (changed["rc"], back["rc"]) == (0, 0), changed["said"][-3000:]
    pending = re.findall(r"pending: (\w+) still runs with its former settings", said("good", "settings"))
    assert pending == ["redirect"]
    assert "LINKRIFT_LOG_LEVEL changed" in said("good", "settings")
    assert "pending:" not in said("good", "settings_back")


def test_the_same_again_is_nothing_to_do() -> None:
    assert "nothing to do" in said("good", "again")
    assert set(re.findall(r"changed=(\d+)", said("good", "again"))) == {"0"}


@pytest.mark.parametrize(("phase", "look"), [("good", "after"), ("killed", "ended")])
def test_status_tells_the_same(phase: str, look: str) -> None:
    status = status_of(phase)
    truth = seen(phase)["looks"][look]
    rows = {(row["host"], row["service"]): (row["slot"], row["release"]) for row in status["rows"]}
    assert rows == {place: (slot, release) for place, (slot, _current, release) in serving(truth).items()}
    assert status["fleet"] == recorded(truth)
    assert status["findings"] == []
    assert status["leases"] == []


def test_status_tells_what_is_warm_and_for_how_long() -> None:
    truth = seen("good")["looks"]["after"]["hosts"]
    for row in status_of("good")["rows"]:
        found = truth[row["host"]][row["service"]]
        expected = [
            rf"{slot} \({re.escape(found['linked'][slot])}\) is warm until [-\d]+ [:\d]+Z" for slot in found["cooling"]
        ]
        assert len(row["notes"]) == len(expected), row
        assert all(map(re.fullmatch, expected, row["notes"])), row


# --- Back, at one moment, two at once ---------------------------------------------------------------------------------


def test_a_rollback_leads_to_the_release_before() -> None:
    before = seen("good")["looks"]["before"]
    back = seen("back")["looks"]["back"]
    assert releases(back) == releases(before)
    assert recorded(back) == recorded(before)
    # Api and redirect were warm: nothing of them was started anew, and what is left is warm in turn.
    for host, services in back["hosts"].items():
        for service in ("api", "redirect"):
            assert services[service]["live"] == before["hosts"][host][service]["live"]
            assert services[service]["running"] == ["blue", "green"]
            assert services[service]["cooling"] == sorted({"blue", "green"} - {services[service]["live"]})


def test_all_hosts_at_one_moment() -> None:
    good = seen("good")["releases"]["good"]["id"]
    first = recorded(seen("back")["looks"]["back"])
    found = seen("back")["looks"]["blue_green"]
    assert seen("back")["first"]["rc"] == 0
    assert releases(found) == {"api": {good}, "redirect": {good}, "worker": {first["worker"]}}
    assert recorded(found) == {"api": good, "redirect": good, "worker": first["worker"]}


def test_balancers_that_were_reloaded_and_upgraded_in_the_middle_send_visitors_to_the_same_slots() -> None:
    assert seen("back")["other_reloaded"], "its package did not reload it"
    first, other = seen("back")["balancers"]
    assert first == other
    # Which is what their files say: they do it, too.
    assert seen("back")["differences"] == []


def test_what_is_confirmed_is_not_warm_any_more() -> None:
    assert seen("back")["runs"]["confirm"]["rc"] == 0
    blue_green, confirmed = (serving(seen("back")["looks"][look]) for look in ("blue_green", "confirmed"))
    assert confirmed == blue_green
    for services in seen("back")["looks"]["confirmed"]["hosts"].values():
        for found in services.values():
            assert (found["running"], found["cooling"]) == ([found["live"]], [])
    assert set(re.findall(r"changed=(\d+)", said("back", "confirm_again"))) == {"0"}


def test_of_two_at_once_the_second_is_refused_and_told_who_is_first() -> None:
    lease = seen("back")["lock"]
    second = said("back", "second")
    assert seen("back")["midway"], "the first one was over before"
    assert seen("back")["runs"]["second"]["rc"] != 0
    assert "the fleet is being changed" in second
    assert f"deploy {lease['id']} by {lease['by']}" in second
    assert set(re.findall(r"changed=(\d+)", second)) == {"0"}
    # It was to take the workers live.
    for services in seen("back")["looks"]["blue_green"]["hosts"].values():
        last = services["worker"]["ledger"][-1]
        assert last["by"].startswith("rollback "), last


# --- Bad ones ---------------------------------------------------------------------------------------------------------

REASONS = {
    ("bad", "candidates"): ["exit", "never ready, on purpose", "500"],
    ("bad", "complains"): ["lines of level error or worse"],
    ("bad", "refused"): ["the operator's own look at api and worker says no"],
    ("bad", "altered"): ["SHA256SUMS"],
    ("late", "late"): ["visitors notice", "app2-", "hrsp_5xx"],
}


@pytest.mark.parametrize(("phase", "run"), REASONS)
def test_a_bad_release_is_refused_with_its_reason(phase: str, run: str) -> None:
    assert seen(phase)["runs"][run]["rc"] != 0
    for reason in REASONS[phase, run]:
        assert reason in said(phase, run)


@pytest.mark.parametrize(
    ("phase", "look"),
    [("bad", "candidates"), ("bad", "complains"), ("bad", "refused"), ("bad", "after"), ("late", "late")],
)
def test_after_a_bad_release_every_host_serves_what_it_served(phase: str, look: str) -> None:
    before, after = seen(phase)["looks"]["before"], seen(phase)["looks"][look]
    assert serving(after) == serving(before)
    assert recorded(after) == recorded(before)
    bad = seen(phase)["releases"]["faulty"]["id"]
    for services in after["hosts"].values():
        for service, found in services.items():
            other = {"blue": "green", "green": "blue"}[found["live"]]
            assert found["linked"].get(other) != bad or other not in found["running"], service


def test_a_damaged_bundle_touches_no_slot() -> None:
    before, after = seen("bad")["looks"]["refused"], seen("bad")["looks"]["after"]
    assert after["hosts"] == before["hosts"]


def what_became_of(phase: str, look: str, host: str, service: str) -> list[str]:
    """Return what was done with the bad release in the run that was looked at afterwards, in order."""
    ledger = seen(phase)["looks"][look]["hosts"][host][service]["ledger"]
    bad = seen(phase)["releases"]["faulty"]["id"]
    run = ledger[-1]["by"]
    return [entry["action"] for entry in ledger if entry["release"] == bad and entry["by"] == run]


@pytest.mark.parametrize(
    ("phase", "look", "service", "hosts"),
    [
        ("late", "late", "redirect", ("app1", "app2")),
        # By then the API and the worker had it on every host, and redirect on the first.
        ("bad", "complains", "api", APP_HOSTS),
        ("bad", "complains", "worker", APP_HOSTS),
        ("bad", "complains", "redirect", ("app1",)),
        ("bad", "refused", "worker", APP_HOSTS),
    ],
)
def test_what_was_live_for_a_moment_is_noted_as_undone(
    phase: str, look: str, service: str, hosts: tuple[str, ...]
) -> None:
    for host in hosts:
        done = what_became_of(phase, look, host, service)
        assert "live" in done, (host, done)
        assert "undone" in done[done.index("live") :], (host, done)


def test_where_it_never_went_live_nothing_was_undone() -> None:
    assert "live" not in what_became_of("bad", "complains", "app3", "redirect")


def test_what_the_operators_tasks_refuse_goes_no_further() -> None:
    before, after = (seen("bad")["looks"][look]["hosts"] for look in ("complains", "refused"))
    # Its stage comes after the one that they refused.
    assert {host: found["redirect"] for host, found in after.items()} == {
        host: found["redirect"] for host, found in before.items()
    }


def test_the_operators_tasks_after_a_failure_run() -> None:
    words = said("bad", "refused")
    assert re.findall(r"hook: ([a-z ]+), deploy", words) == ["the whole run"]
    assert words.index("says no") < words.index("hook: the whole run")


# --- Who wants to know ------------------------------------------------------------------------------------------------


def told(phase: str, release: str) -> list[str]:
    """Return what somebody was told of a release until the end of a phase."""
    found = seen(phase)["told"]
    assert {entry["type"] for entry in found} == {"application/json"}
    texts = [str(entry["message"]["text"]) for entry in found]
    return [text for text in texts if seen(phase)["releases"][release]["id"] in text]


def test_who_wants_to_know_is_told_of_a_good_release() -> None:
    begun, done = told("good", "good")
    assert "deploy has begun: " in begun
    assert re.search(r"deploy is done after \d+ s: ", done)
    last = seen("good")["told"][-1]["message"]["attachments"][0]
    assert {"title": "Run", "value": seen("good")["report"]["id"], "short": True} in last["fields"]


def test_who_wants_to_know_is_told_why_a_bad_one_was_undone() -> None:
    texts = told("bad", "faulty")
    reasons = ("status 3", "of level error", "says no")
    assert len(texts) == 2 * len(reasons)
    for begun, undone, reason in zip(texts[::2], texts[1::2], reasons, strict=True):
        assert "deploy has begun: " in begun
        assert "and every host is as it was: " in undone
        assert reason in undone


def test_what_is_sent_is_what_slack_takes() -> None:
    colours = []
    for entry in seen("bad")["told"]:
        message = entry["message"]
        assert message.keys() == {"text", "attachments"}
        # More is cut off there.
        assert 0 < len(message["text"]) <= 3000
        (attachment,) = message["attachments"]
        assert attachment.keys() == {"color", "fallback", "fields"}
        assert attachment["fallback"] == message["text"]
        colours.append(attachment["color"])
        for field in attachment["fields"]:
            assert {name: type(value) for name, value in field.items()} == {"title": str, "value": str, "short": bool}
    # One that was done, three that were undone.
    assert colours == ["#2f6fdb", "good", *["#2f6fdb", "danger"] * 3]


def test_somebody_who_does_not_answer_keeps_no_release() -> None:
    first = seen("back")["first"]
    assert first["rc"] == 0
    warned = " ".join(first["warned"].split())
    for event in ("start", "success"):
        assert warned.count(f"127.0.0.1 was not told of this {event}: ") == 2, event


# --- Killed -----------------------------------------------------------------------------------------------------------


def test_a_run_that_was_killed_leaves_every_host_serving() -> None:
    # The host that had been left out of the deploy before has what all had before that.
    known = {seen("killed")["first"], *(seen("good")["releases"][name]["id"] for name in ("good", "faulty"))}
    first, second = (kill["rc"] for kill in seen("killed")["kills"])
    # The first one may have left so little that the second one came to its end.
    assert (first, second) in {(None, None), (None, 0)}, f"the seed {seen('killed')['seed']} killed nothing"
    for index in range(2):
        found = serving(seen("killed")["looks"][f"killed {index}"])
        assert len(found) == len(APP_HOSTS) * len(SERVICES)
        for _slot, current, answer in found.values():
            assert current == answer
            assert answer in known


def test_the_same_run_again_ends_it() -> None:
    first = seen("killed")["first"]
    ended = seen("killed")["looks"]["ended"]
    assert releases(ended) == {service: {first} for service in SERVICES}
    assert recorded(ended) == dict.fromkeys(SERVICES, first)
    for services in ended["hosts"].values():
        for found in services.values():
            assert found["running"] == [found["live"]]
            assert found["cooling"] == []
