from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from linkrift.environment import ConfigurationError, Environment


def findings(environment: Environment) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        environment.finish()
    return caught.value.findings


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("5s", 5.0), ("1m", 60.0), ("24h", 86400.0), ("7d", 604800.0)]
)
def test_durations(text: str, seconds: float) -> None:
    environment = Environment({"X": text})
    assert environment.duration("X", 1.0) == seconds
    environment.finish()


@pytest.mark.parametrize("text", ["5", "1 s", "-5s", "5S", "s", "1.5s", "0s", "99999d", "\u0665s"])
def test_what_is_no_duration(text: str) -> None:
    environment = Environment({"X": text})
    environment.duration("X", 1.0)
    (finding,) = findings(environment)
    assert finding.startswith("X: expected a duration such as 500ms")


@pytest.mark.parametrize("text", ["", "0", "65536", "80a", "-1", "1e3", "\u0668\u0660", "9" * 20])
def test_what_is_no_port(text: str) -> None:
    environment = Environment({"X": text} if text else {})
    environment.port("X")
    (finding,) = findings(environment)
    assert finding.startswith("X: ")
    assert "a whole number from 1 to 65535" in finding


def test_a_value_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("geheim\n")
    environment = Environment({"X_FILE": str(path)})
    assert environment.secret("X", "a secret") == "geheim"
    environment.finish()


def test_a_value_and_a_file_contradict_each_other(tmp_path: Path) -> None:
    environment = Environment({"X": "a", "X_FILE": str(tmp_path / "secret")})
    environment.secret("X", "a secret")
    assert findings(environment) == ["X: set together with X_FILE; expected only one of them"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    environment = Environment({"X_FILE": str(tmp_path / "none"), "Y_FILE": str(binary)})
    environment.secret("X", "a secret")
    environment.secret("Y", "a secret")
    assert findings(environment) == [
        "X_FILE: expected a file that can be read (No such file or directory)",
        "Y_FILE: expected a file that can be read (not UTF-8)",
    ]


def test_all_findings_come_at_once_and_tell_no_value(tmp_path: Path) -> None:
    environment = Environment(
        {
            "SECRET": "hunter2",
            "HOST": "a b",
            "CHOICE": "hunter2",
            "PATH_": "hunter2",
            "NETWORKS": "10.0.0.0/8,hunter2",
            "ORIGIN": "https://hunter2@example.org",
            "TEXT": "hunter2\x07",
            "FILE": str(tmp_path / "none"),
        }
    )
    environment.secret("SECRET", "a secret of at least 32 characters", minimum=32)
    environment.host("HOST")
    environment.choice("CHOICE", ("a", "b"), "a")
    environment.path("PATH_")
    environment.networks("NETWORKS")
    environment.origin("ORIGIN")
    environment.text("TEXT", "a name")
    environment.readable_file("FILE")
    environment.readable_file("MISSING", required_because="it is needed")
    environment.secret("NONE", "a password")
    found = findings(environment)
    assert [finding.partition(":")[0] for finding in found] == [
        *("SECRET", "HOST", "CHOICE", "PATH_", "NETWORKS", "ORIGIN", "TEXT", "FILE", "MISSING", "NONE")
    ]
    assert "hunter2" not in "".join(found)
    assert found[-1] == "NONE: missing; expected a password"


def test_networks() -> None:
    environment = Environment({"X": "198.51.100.0/24, 2001:db8::/32,192.0.2.1", "Y": ""})
    assert environment.networks("X") == (
        ipaddress.ip_network("198.51.100.0/24"),
        ipaddress.ip_network("2001:db8::/32"),
        ipaddress.ip_network("192.0.2.1/32"),
    )
    assert environment.networks("Y") == ()
    environment.finish()


@pytest.mark.parametrize(
    "text",
    ["ftp://example.org", "example.org", "https://", "https://example.org/path", "https://x:99999", "https://[::"],
)
def test_what_is_no_origin(text: str) -> None:
    environment = Environment({"X": text})
    environment.origin("X")
    assert findings(environment) == ["X: expected an origin such as https://go.example.com (no path, no credentials)"]


def test_an_origin_loses_its_slash() -> None:
    environment = Environment({"X": "https://go.example.org:8443/"})
    assert environment.origin("X") == "https://go.example.org:8443"
    environment.finish()
