"""Filter preflight_findings: one list of everything, with what the inventory says itself, and no secret in it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.filter.preflight_findings import preflight_findings
from ansible_collections.linkrift.platform.plugins.plugin_utils import _preflight_report as report
from ansible_collections.linkrift.platform.tests.unit.certificate_fakes import NOW, make

# A host of which nothing is to be said.
FINE: dict[str, Any] = {
    "preflight_reached": {"rc": 0},
    "preflight_looked": {"findings": []},
    "preflight_certificates": {"certificates": []},
}


def day(days: int) -> str:
    return f"{NOW + datetime.timedelta(days=days, minutes=5):%Y-%m-%d}"


@pytest.mark.parametrize(
    ("pem", "names", "expected"),
    [
        (make(names=("go.a.test", "api.a.test")).pem, ["go.a.test"], ""),
        (make(names=("*.a.test",)).pem, ["go.a.test"], ""),
        (make(names=("GO.A.test",)).pem, ["go.a.Test"], ""),
        (make(names=("*.a.test",)).pem, ["a.test"], "error: public: it does not carry a.test"),
        (make(names=("b.test",)).pem, ["a.test", "b.test"], "error: public: it does not carry a.test"),
        (make("a.test", days=-1, since=-9).pem, ["a.test"], f"error: public: it ended on {day(-1)}"),
        (make("a.test", since=1).pem, ["a.test"], "error: public: it begins on"),
        (make("a.test", days=20).pem, ["a.test"], f"warning: public: it ends in 20 days, on {day(20)}"),
        (make(authority=True).pem, [], ""),
        (make(authority=True, signs=False).pem, [], "error: public: it lacks keyUsage keyCertSign"),
        (make("a.test").pem, [], "error: public: it is no authority's certificate"),
        ("", ["a.test"], "error: public: there is none"),
        ("nonsense", ["a.test"], "error: public: it is no certificate in PEM form"),
    ],
)
def test_certificates(pem: str, names: list[str], expected: str) -> None:
    found = report.certificate_findings({"public": pem}, {"public": names}, NOW, 21)
    assert len(found) == bool(expected)
    assert expected in "".join(finding["line"] for finding in found)


def test_secrets_are_named_and_never_shown() -> None:
    secrets = {"a": "x" * 20, "b": "x" * 20, "c": "short", "unused": ""}
    found = report.secret_findings(secrets, {"a": 12, "b": 12, "c": 12, "d": 12})
    lines = [finding["line"] for finding in found]
    assert [line.split("linkrift_secrets: ")[1].split(":")[0] for line in lines] == [
        "c has 5 characters and needs 12",
        "d is missing",
        "a and b are the same",
    ]
    assert "xxx" not in str(lines)
    assert "short" not in str(lines)


def test_groups() -> None:
    groups = {"balancers": ["lb1"], "redis_hosts": [], "postgresql_hosts": ["db1", "db2"]}
    needed = {"balancers": "x", "redis_hosts": "caches"}
    found = report.group_findings(groups, needed, ["postgresql_hosts", "clickhouse_hosts"])
    lines = [finding["line"] for finding in found]
    assert lines[0] == "inventory: error: group redis_hosts has no host: caches"
    assert lines[1].startswith("inventory: error: group postgresql_hosts has db1, db2, but linkrift_external says")
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ""),
        ({"preflight_reached": {"unreachable": True, "msg": "timed out\n"}}, "h: error: cannot be reached: timed out"),
        ({"preflight_reached": {"rc": 127, "stderr": "warning\npython3: not found\n"}}, "python3: not found"),
        ({"preflight_reached": {"rc": 1, "stdout": "sudo: a password is required"}}, "a password is required"),
        # With `failed_when: false` a module that failed says so nowhere but by what is missing.
        ({"preflight_reached": {"rc": 0}, "preflight_looked": {"failed": False, "msg": "boom"}}, "looked at: boom"),
        ({"preflight_reached": {"rc": 0}, "preflight_looked": {"unreachable": True}}, "looked at: it gave no answer"),
        ({"preflight_reached": {"rc": 0}, "preflight_looked": {"findings": []}}, "certificates cannot be looked at"),
        ({**FINE, "preflight_certificates": {"failed": False, "msg": "no openssl"}}, "looked at: no openssl"),
        (FINE, ""),
        (
            {**FINE, "preflight_looked": {"findings": [{"check": "disk", "severity": "error", "message": "full"}]}},
            "h: error: full",
        ),
    ],
)
def test_hosts(variables: dict[str, Any], expected: str) -> None:
    found = report.host_findings(["h"], {"h": variables}, 21)
    assert bool(found) is bool(expected)
    assert expected in "".join(finding["line"] for finding in found)


@pytest.mark.parametrize(
    ("left", "error", "expected"),
    [
        (22, None, ""),
        (20, None, "h: warning: /a.pem ends on 2026-12-04"),
        (-1, None, "h: error: /a.pem ended on 2026-12-04"),
        (None, "no certificate", "h: error: /a.pem: no certificate"),
    ],
)
def test_certificates_on_hosts(left: int | None, error: str | None, expected: str) -> None:
    certificate = {"path": "/a.pem", "days_left": left, "not_after": "2026-12-04", "error": error}
    found = report.host_findings(["h"], {"h": {**FINE, "preflight_certificates": {"certificates": [certificate]}}}, 21)
    assert bool(found) is bool(expected)
    assert expected in "".join(finding["line"] for finding in found)


def test_errors_come_first() -> None:
    looked = [
        {"check": "clock", "severity": "warning", "message": "w"},
        {"check": "disk", "severity": "error", "message": "e"},
    ]
    hostvars = {"h": {**FINE, "preflight_looked": {"findings": looked}}}
    found = preflight_findings(
        ["h"],
        hostvars,
        groups={},
        needed_groups={},
        secrets={},
        needed_secrets={},
        certificates={},
        needed_certificates={},
    )
    assert [finding["severity"] for finding in found] == ["error", "warning"]
