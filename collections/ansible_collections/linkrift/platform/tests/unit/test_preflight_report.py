"""Filter preflight_findings: one list of everything, with what the inventory says itself, and no secret in it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.linkrift.platform.plugins.filter.preflight_findings import preflight_findings
from ansible_collections.linkrift.platform.plugins.plugin_utils import _preflight_report as report

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def certificate(
    *,
    begin: datetime.datetime = NOW - DAY,
    end: datetime.datetime = NOW + 90 * DAY,
    names: tuple[str, ...] = (),
    authority: bool = False,
    signs: bool = True,
) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=signs,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            True,
        )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("pem", "names", "expected"),
    [
        (certificate(names=("go.a.test", "api.a.test")), ["go.a.test"], []),
        (certificate(names=("*.a.test",)), ["go.a.test"], []),
        (certificate(names=("*.a.test",)), ["a.test"], ["does not carry a.test"]),
        (certificate(names=("b.test",)), ["a.test", "b.test"], ["does not carry a.test"]),
        (certificate(names=("a.test",), end=NOW - DAY), ["a.test"], ["ended on 2026-05-31"]),
        (certificate(names=("a.test",), begin=NOW + DAY), ["a.test"], ["begins on 2026-06-02 00:00 UTC"]),
        (certificate(names=("a.test",), end=NOW + 20 * DAY), ["a.test"], ["ends in 20 days, on 2026-06-21"]),
        (certificate(authority=True), [], []),
        (certificate(authority=True, signs=False), [], ["lacks keyUsage keyCertSign"]),
        (certificate(names=("a.test",)), [], ["is no authority's certificate"]),
        ("", ["a.test"], ["there is none"]),
        ("nonsense", ["a.test"], ["no certificate in PEM form"]),
    ],
)
def test_certificates(pem: str, names: list[str], expected: list[str]) -> None:
    found = report.certificate_findings({"public": pem}, {"public": names}, NOW, 21)
    assert len(found) == len(expected)
    for finding, words in zip(found, expected, strict=True):
        assert words in finding["message"]
        assert finding["severity"] == ("warning" if "ends in" in words else "error")


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
        ({"preflight_reached": {"rc": 0}, "preflight_looked": {"failed": True, "msg": "boom"}}, "looked at: boom"),
        ({"preflight_reached": {"rc": 0}, "preflight_looked": {"findings": []}}, ""),
        (
            {
                "preflight_reached": {"rc": 0},
                "preflight_looked": {"findings": [{"check": "disk", "severity": "error", "message": "full"}]},
            },
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
    found = report.host_findings(["h"], {"h": {"preflight_certificates": {"certificates": [certificate]}}}, 21)
    assert bool(found) is bool(expected)
    assert expected in "".join(finding["line"] for finding in found)


def test_errors_come_first() -> None:
    looked = [
        {"check": "clock", "severity": "warning", "message": "w"},
        {"check": "disk", "severity": "error", "message": "e"},
    ]
    hostvars = {"h": {"preflight_reached": {"rc": 0}, "preflight_looked": {"findings": looked}}}
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
