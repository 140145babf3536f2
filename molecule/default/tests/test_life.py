"""What visitors and balancers saw of the life of application hosts (life.yml), and what is left of it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, cast

import pytest

from tools.testing.lab_hosts import ALL_HOSTS, APP_HOSTS, SERVICES, Lab, find_lab, get_host, run_json, variables

# What a retry or a broken answer would show, though the visitor got one.
MASKED = ("econ", "eresp", "wretr", "wredis", "hrsp_5xx")


@functools.cache
def results() -> dict[str, Any]:
    path = find_lab().directory / "life.json"
    return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))


def masked(phase: dict[str, Any]) -> dict[str, int]:
    """Return how much each counter of all servers grew in a phase; HAProxy's reload begins at 0."""
    grown = dict.fromkeys(MASKED, 0)
    for service, entry in phase["after"].items():
        for name, server in entry["servers"].items():
            before: dict[str, Any] = phase["before"][service]["servers"].get(name, {}) if phase["same_haproxy"] else {}
            for counter in MASKED:
                grown[counter] += server["counters"][counter] - before.get("counters", {}).get(counter, 0)
    return grown


@pytest.mark.parametrize("phase", ["patch", "dies", "add_remove"])
def test_no_visitor_noticed_and_no_retry_hid_anything(phase: str) -> None:
    found = results()[phase]
    assert found["load"]["failed"] == 0, found["load"]
    assert found["load"]["requests"] > 2000
    assert masked(found) == dict.fromkeys(MASKED, 0)
    # A reload takes its worker's counters with it, so the log has the last word.
    logged = found["logged"]
    # It knows whole seconds, and has what came since the first of them.
    assert logged["requests"] >= found["load"]["requests"] * 0.9, logged
    assert (logged["failed"], logged["retried"]) == (0, 0), logged


def test_what_was_spoilt_by_hand_was_seen_by_the_checks() -> None:
    # That site.yml repaired it is what the same checks say, which run again beside this one.
    assert results()["add_remove"]["seen"]["overlooked"] == []


def test_a_host_lost_while_it_served_cost_only_what_it_was_answering() -> None:
    load = results()["replace"]["load"]
    # Eight connections send one request at a time, and its checks take it out within 3 s; retries go to another host.
    assert load["failed"] <= 8, load


def test_an_haproxy_restarted_by_hand_cost_only_its_own_moment() -> None:
    load = results()["restart"]["load"]
    assert load["failed"] <= load["requests"] / 20, load


def test_every_host_was_rebooted_in_one_patch_run() -> None:
    lines = results()["dies"]["seen"]["lines"]
    rebooted = [host for host in APP_HOSTS for line in lines if host in line and "rebooted" in line]
    # The second one died: it has booted anew since the run began, and is not rebooted once more.
    assert rebooted == ["app1", "app3"], lines
    assert results()["patch"]["same_haproxy"]


def test_an_upgrade_without_a_reboot_starts_the_slots_anew() -> None:
    seen = results()["patch"]["seen"]
    assert seen["version"] == "1.1"
    assert len(seen["upgrade"]) == 1
    assert "1 packages" in seen["upgrade"][0]
    assert "rebooted" not in seen["upgrade"][0]
    before, after = ({pid for pid in seen["processes"][when] if pid not in {"", "0"}} for when in ("before", "after"))
    assert (len(before), len(after)) == (1, 1)
    assert before != after


def test_patch_stopped_at_the_host_that_died_and_went_on_with_it() -> None:
    seen = results()["dies"]["seen"]
    first, first_boot = seen["stopped"]["app1"]
    third, third_boot = seen["stopped"]["app3"]
    run = json.loads(first)["run"]
    assert json.loads(first)["state"] == "finished"
    assert json.loads(third).get("run") != run, "the rest is untouched"
    ended = {host: (json.loads(record), boot) for host, (record, boot) in seen["ended"].items()}
    assert {host: (record["run"], record["state"]) for host, (record, _boot) in ended.items()} == dict.fromkeys(
        APP_HOSTS, (run, "finished")
    ), "running it again is the same run"
    assert ended["app1"][1] == first_boot, "what was done is not done again"
    assert ended["app3"][1] != third_boot


def test_a_restarted_haproxy_kept_the_drain() -> None:
    seen = results()["restart"]["seen"]
    assert not results()["restart"]["same_haproxy"]
    assert seen["midway"], "the drain was through before the restart"
    assert seen["attempts"] <= 10, "within 5 s"
    for service in ("api", "redirect"):
        assert "drain" in (seen["right"][service]["app1-blue"], seen["right"][service]["app1-green"])
        servers = seen["drained"][service]["servers"].values()
        assert not [server for server in servers if server["host"] == "app1" and server["takes_traffic"]]
        assert {server["host"] for server in servers if server["takes_traffic"]} == {"app2", "app3"}


def test_a_host_came_and_went() -> None:
    seen = results()["add_remove"]["seen"]
    added = {server["host"] for server in seen["added"]["redirect"]["servers"].values() if server["takes_traffic"]}
    assert added == {*APP_HOSTS, "app4"}
    # site.yml, which added it, left the others' live slots alone.
    before = results()["add_remove"]["before"]
    for service in ("api", "redirect"):
        serving = [
            {name for name, server in found[service]["servers"].items() if server["takes_traffic"]}
            for found in (before, seen["added"])
        ]
        assert {name for name in serving[1] if not name.startswith("app4-")} == serving[0]
    assert "app4-blue" not in seen["removed"]["redirect"]["servers"]
    assert seen["left"] == []


@pytest.mark.parametrize("host", [name for name in ALL_HOSTS if name not in (*APP_HOSTS, "client1")])
def test_nobody_knows_the_host_that_left(host: str) -> None:
    results()
    address = variables("lb1")["linkrift_address"].rsplit(".", 1)[0] + ".24"
    known = get_host(host).run(
        "{ nft list ruleset; cat /etc/hosts /etc/haproxy/*.cfg /etc/postgresql/*/*/pg_hba.conf"
        " /etc/clickhouse-server/users.d/* /etc/ufw/*.rules; } 2> /dev/null | grep -wF %s",
        address,
    )
    assert known.stdout == ""


def test_all_hosts_serve_again_and_the_replaced_one_runs_what_the_fleet_runs(lab: Lab) -> None:
    results()
    record = run_json(get_host("lb1"), "cat /var/lib/linkrift/fleet.json")
    for host in APP_HOSTS:
        for service in SERVICES:
            current = get_host(host).file(f"/opt/linkrift/{service}/current").linked_to
            assert Path(current).name == record["services"][service]["release"]
            assert not get_host(host).file(f"/var/lib/linkrift/{service}/drained").exists
    rotation = results()["replace"]["after"]["redirect"]["servers"].values()
    assert {server["host"] for server in rotation if server["takes_traffic"]} == set(APP_HOSTS)


def test_redirects_spool_is_the_services_own() -> None:
    spool = get_host("app1").file("/var/lib/linkrift/redirect-spool")
    assert (spool.user, spool.group, spool.mode) == ("linkrift", "linkrift", 0o750)
