# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter release_findings: what all hosts together say of the next release, in one list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.filter.bundle_manifest import bundle_manifest
from ansible_collections.linkrift.platform.plugins.filter.release_findings import release_findings
from ansible_collections.linkrift.platform.plugins.module_utils._bundle import Manifest
from ansible_collections.linkrift.platform.plugins.module_utils._migrate_plan import Record, State
from ansible_collections.linkrift.platform.plugins.module_utils._pg_info import Room, floor_of, read_room
from ansible_collections.linkrift.platform.plugins.plugin_utils import _release_findings as report
from ansible_collections.linkrift.platform.tests.unit.release_fakes import tiny_bundle

NEW = "1.4.0+3f9c2a71b0de"
SAID = {"schema_level": 4, "schema_floor": 0, "tests": 283, "commit": "c", "dirty": False}
POSTGRESQL = {
    "schema_level": 4,
    "floor": 0,
    "dirty": False,
    "max_connections": 100,
    "reserved_connections": 3,
    "in_use": {"linkrift_api": 12, "exporter": 2},
    "limits": {},
}
SITE = {"name": "go.example.com", "certificate_days": 61}
FLEET: dict[str, Any] = {"fleet": {"api": NEW}, "rows": [{"slot": "blue"}], "findings": [], "notes": [], "leases": []}
LEASE = {"id": "r1", "purpose": "deploy", "by": "alice@control", "until": "2026-01-31T12:15:00Z", "held": True}


def looked(said: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"findings": [], "releases": {NEW: {**SAID, **(said or {})}}, "connections": [], **more}


def lines(hostvars: dict[str, dict[str, Any]], status: dict[str, Any] | None = None, **wish: Any) -> list[str]:
    return [finding["line"] for finding in report.findings(hostvars, status or {}, report.Wish(**wish))]


def test_nothing_is_in_the_way() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "app1": {"release_preflight_looked": looked(), "release_preflight_postgresql": POSTGRESQL},
        "app2": {"release_preflight_looked": looked(), "release_preflight_postgresql": {"skipped": True}},
        "lb1": {"release_preflight_visitors": {"problems": [], "sites": [SITE]}},
        "data1": {},
    }
    assert lines(hostvars, FLEET) == []


def test_what_hosts_found_is_told_host_by_host() -> None:
    full = {"check": "disk", "severity": "error", "message": "too full"}
    hostvars = {
        "app1": {"release_preflight_looked": looked(findings=[full])},
        "app2": {"release_preflight_looked": {"msg": "no such module"}},
        "app3": {"release_preflight_looked": {"unreachable": True, "msg": "timed out"}},
    }
    assert lines(hostvars) == [
        "app1: error: too full",
        "app2: error: cannot be looked at: no such module",
        "app3: error: cannot be reached: timed out. Bring it back, or leave it out with -e without=app3",
    ]


@pytest.mark.parametrize(
    ("said", "require", "expected"),
    [
        ({"tests": None}, False, "release: warning: {} does not say that it was tested"),
        ({"tests": None}, True, "release: error: {} does not say that it was tested"),
        ({"dirty": True}, True, "release: warning: {} was built from changes that are in no commit"),
    ],
)
def test_tests_of_the_bundle_once_for_all_hosts(said: dict[str, Any], require: bool, expected: str) -> None:
    hostvars = {name: {"release_preflight_looked": looked(said)} for name in ("app1", "app2")}
    (line,) = lines(hostvars, require_tests=require)
    assert line.startswith(expected.format(NEW))


@pytest.mark.parametrize(
    ("said", "answer", "expected"),
    [
        (
            {"schema_level": 3},
            {"floor": 4},
            "made for schema level 3, and the database (level 4) serves releases of level 4",
        ),
        ({"schema_level": 3}, {"floor": 3}, ""),
        # Expand migrations are applied on the way.
        ({"schema_level": 6}, {}, ""),
        (
            {"schema_level": 6, "schema_floor": 5},
            {},
            "has a contract migration that is not applied: after it, releases below",
        ),
        ({"schema_level": 6, "schema_floor": 5}, {"schema_level": 6, "floor": 5}, ""),
        ({}, {"dirty": True}, "migration 4 was begun and not finished"),
    ],
)
def test_schema(said: dict[str, Any], answer: dict[str, Any], expected: str) -> None:
    host = {"release_preflight_looked": looked(said), "release_preflight_postgresql": {**POSTGRESQL, **answer}}
    found = lines({"app1": host})
    assert len(found) == bool(expected)
    assert expected in "".join(found)


def test_connections_of_both_slots_of_all_hosts() -> None:
    pools = [
        {"service": "api", "user": "linkrift_api", "connections": 40},
        {"service": "redirect", "user": "linkrift_redirect", "connections": 8},
    ]
    hosts = {name: {"release_preflight_looked": looked(connections=pools)} for name in ("app1", "app2")}
    hosts["app1"]["release_preflight_postgresql"] = POSTGRESQL
    # 100 less 3 reserved less 2 of the exporter.
    (line,) = lines(hosts)
    assert "may open 96 connections, and 95 of 100 are left for them" in line
    assert "(exporter 2, linkrift_api 80, linkrift_redirect 16)" in line
    hosts["app1"]["release_preflight_postgresql"] = {**POSTGRESQL, "max_connections": 101}
    assert lines(hosts) == []
    hosts["app1"]["release_preflight_postgresql"] = {
        **POSTGRESQL,
        "max_connections": 101,
        "limits": {"linkrift_api": 79},
    }
    assert "may open 80 connections as linkrift_api, whose limit is 79" in lines(hosts)[0]


def test_a_database_that_does_not_answer() -> None:
    (line,) = lines({"app1": {"release_preflight_postgresql": {"failed": True, "msg": "cannot connect"}}})
    assert line == "postgresql: error: it cannot be asked from app1: cannot be looked at: cannot connect"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"findings": ["app2 redirect: the fleet record says x"]},
            "fleet: error: app2 redirect: the fleet record says x. Re",
        ),
        ({"findings": ["app2 redirect: cannot be reached: timed out"]}, ""),
        ({"notes": ["app2 api, redirect: drained"]}, "fleet: warning: app2 api, redirect: drained: bring it back"),
        ({"notes": ["app2 redirect: green (x) is warm until 12:00"]}, ""),
        (
            {"leases": [LEASE]},
            "fleet: error: alice@control is changing the fleet (deploy r1), until 2026-01-31T12:15:00Z",
        ),
        ({"leases": [{**LEASE, "id": "dead"}]}, "fleet: warning: deploy dead died while it changed the fleet"),
        ({"leases": [{**LEASE, "held": False}]}, ""),
        # Nothing is installed yet.
        ({"fleet": {}, "rows": [{"slot": ""}], "findings": ["lb1: HAProxy does not run"]}, ""),
    ],
)
def test_what_is_live_and_who_is_at_work(change: dict[str, Any], expected: str) -> None:
    found = lines({}, {**FLEET, **change}, abandoned=["dead"])
    assert len(found) == bool(expected)
    assert "".join(found).startswith(expected)


def test_what_visitors_get() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "lb1": {
            "release_preflight_visitors": {
                "problems": ["/ping answers 503"],
                "sites": [{**SITE, "certificate_days": 9}],
            }
        },
        "lb2": {"release_preflight_visitors": {"msg": "no such file"}},
    }
    assert lines(hostvars) == [
        "lb1: error: /ping answers 503",
        "lb1: warning: the certificate that visitors of go.example.com are shown ends in 9 days: renew it",
        "lb2: error: what visitors get cannot be looked at: no such file",
    ]


def test_filter_looks_at_the_fleet_or_not(tmp_path: Path) -> None:
    groups = {"all": ["app1", "lb1"], "balancers": ["lb1"], "api_hosts": ["app1"]}
    slots: dict[str, dict[str, Any]] = {
        name: {"state": state, "release": NEW} for name, state in (("blue", "live"), ("green", "idle"))
    }
    app = {"services": {"api": {"live": "blue", "drained": False, "slots": slots, "history": [], "last": None,
                                "health": None, "current": NEW}}}  # fmt: skip
    slots["blue"] |= {"active": True, "admitted": True, "enabled": True}
    record = {"record": {"api": {"release": "1.3.0+aaaaaaaaaaaa", "since": "", "by": ""}}}
    hostvars: dict[str, dict[str, Any]] = {
        "app1": {"status_looked": app, "release_preflight_looked": looked({"tests": None})},
        "lb1": {
            "status_rotation": {"running": True, "rotation": {}, "differences": []},
            "status_record": record,
            "status_lease": {"held": False, "lease": None},
        },
    }
    found = [finding["line"] for finding in release_findings(groups, hostvars)]
    assert "fleet: error: app1 api: the fleet record says 1.3.0+aaaaaaaaaaaa. Repeat" in found[1]
    # Errors first.
    assert found[-1].startswith("release: warning")
    assert [finding["check"] for finding in release_findings(groups, hostvars, fleet=False)] == ["tests"]
    broken = bundle_manifest(str(tmp_path / f"linkrift-{NEW}.tar.gz"))
    assert "there is no bundle at" in release_findings(groups, {"app1": {}, "lb1": {}}, bundles=[broken])[0]["line"]


def test_what_a_bundle_says(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    archive = bundle.archive(tmp_path / f"linkrift-{bundle.release}.tar.gz", inside=bundle.release)
    said = bundle_manifest(str(archive))
    assert (said["id"], said["error"]) == (bundle.release, "")
    assert said["manifest"]["schema_level"] == 1
    other = archive.rename(tmp_path / f"linkrift-{NEW}.tar.gz")
    assert bundle_manifest(str(other))["error"]
    other.write_bytes(b"x")
    assert "cannot be read" in bundle_manifest(str(other))["error"]
    assert Manifest.parse((bundle.tree / "manifest.json").read_bytes()).tests is None
    (bundle.tree / "manifest.json").write_text('{"schema_floor": 99}')
    assert "altered" in bundle_manifest(str(bundle.archive(archive, inside=bundle.release)))["error"]


def test_what_postgresql_says() -> None:
    answers: dict[str, list[tuple[Any, ...]]] = {
        "max_connections": [(300, 3)],
        "pg_stat_activity": [("linkrift_api", 12), ("linkrift_owner", 1)],
        "current_user": [("linkrift_owner",)],
        "pg_roles": [("linkrift_api", 50)],
    }
    room = read_room(lambda query: next(rows for words, rows in answers.items() if words in query))
    # Whoever asks does not count.
    assert room == Room(300, 3, {"linkrift_api": 12}, {"linkrift_api": 50})


def test_the_floor_of_a_database() -> None:
    records = (Record(1, "a", "", None), Record(2, "b", "", 1), Record(3, "c", "", 2))
    assert floor_of(State(2, records=records)) == 1
    assert floor_of(State()) == 0
