"""Module firewall, with a program in ufw's place that notes what it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.modules import firewall

SSH = {"name": "ssh", "ports": [22], "sources": ["any"]}
DATABASE = {"name": "postgresql", "ports": [5432], "sources": ["192.0.2.11", "2001:db8::11"]}
READY = 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="ACCEPT"\nDEFAULT_FORWARD_POLICY="DROP"\n'

UFW = """\
#!/bin/sh
case "$1 $2" in
    "show added") cat "$(dirname "$0")/added" ;;
    "--dry-run allow") test ! -e "$(dirname "$0")/old" ;;
    "status ") cat "$(dirname "$0")/status" ;;
    *) echo "$*" >> "$(dirname "$0")/calls" ;;
esac
"""

Run = Callable[..., dict[str, Any]]


class Host:
    """A host's firewall: its rules, whether it is active, its defaults, and what was changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.defaults = directory / "defaults"
        self.state = directory / "ufw.conf"
        (directory / "ufw").write_text(UFW)
        (directory / "ufw").chmod(0o755)
        self.state.write_text("ENABLED=yes\nLOGLEVEL=low\n")
        self.set(["allow 22/tcp comment 'ssh'"])

    def set(self, rules: list[str], *, active: bool = True, defaults: str = READY) -> None:
        (self.directory / "added").write_text("Added user rules:\n" + "".join(f"ufw {rule}\n" for rule in rules))
        (self.directory / "status").write_text(f"Status: {'active' if active else 'inactive'}\n")
        self.defaults.write_text(defaults)

    @property
    def calls(self) -> list[str]:
        path = self.directory / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(firewall, "DEFAULTS", made.defaults)
    monkeypatch.setattr(firewall, "STATE", made.state)
    return made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def _run(*rules: dict[str, Any], check: bool = False, **params: Any) -> dict[str, Any]:
        capsys.readouterr()
        args = {"rules": list(rules), "_ansible_check_mode": check, **params}
        with patch_module_args(args), pytest.raises(SystemExit):
            firewall.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return _run


def test_nothing_to_do(host: Host, run: Run) -> None:
    answer = run(SSH)
    assert (answer["changed"], answer["added"], answer["deleted"], answer["settings"]) == (False, [], [], [])
    assert host.calls == []


def test_refusals_are_logged_sparingly(host: Host, run: Run) -> None:
    host.state.write_text("ENABLED=yes\nLOGLEVEL=full\n")
    assert run(SSH)["settings"] == ["refusals logged"]
    assert host.calls == ["logging low"]


def test_a_new_host(host: Host, run: Run) -> None:
    host.set([], active=False, defaults='IPV6=no\nDEFAULT_INPUT_POLICY="ACCEPT"\n')
    answer = run(SSH, DATABASE)
    assert answer["changed"]
    assert host.calls == [
        "allow 22/tcp comment ssh",
        "allow from 192.0.2.11 to any port 5432 proto tcp comment postgresql",
        "allow from 2001:db8::11 to any port 5432 proto tcp comment postgresql",
        "default deny incoming",
        "default allow outgoing",
        "default deny routed",
        "--force enable",
        "reload",
    ]
    assert host.defaults.read_text().startswith("IPV6=yes\n")
    assert "IPV6=no" not in host.defaults.read_text()


def test_new_rules_come_before_old_ones_go(host: Host, run: Run) -> None:
    host.set(["allow 22/tcp comment 'ssh'", "allow from 192.0.2.99 to any port 5432 proto tcp comment 'postgresql'"])
    answer = run(SSH, {**DATABASE, "sources": ["192.0.2.11"]})
    assert host.calls == [
        "allow from 192.0.2.11 to any port 5432 proto tcp comment postgresql",
        "--force delete allow from 192.0.2.99 to any port 5432 proto tcp",
    ]
    assert answer["deleted"] == ["allow from 192.0.2.99 to any port 5432 proto tcp"]
    assert "192.0.2.99" in answer["diff"]["before"]
    assert "192.0.2.99" not in answer["diff"]["after"]


def test_check_mode_changes_nothing(host: Host, run: Run) -> None:
    host.set([], active=False, defaults="IPV6=no\n")
    assert run(SSH, check=True)["changed"]
    assert host.calls == []
    assert host.defaults.read_text() == "IPV6=no\n"


def test_a_host_without_ufw(host: Host, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.get_bin_path", lambda *_: None)
    foreseen = run(SSH, check=True)
    assert foreseen["changed"]
    assert foreseen["added"] == ["allow 22/tcp comment 'ssh'"]
    assert "firewall enabled" in foreseen["settings"]
    assert run(SSH)["msg"] == "ufw is not installed on this host"


def test_rules_that_would_lock_operators_out_are_refused(host: Host, run: Run) -> None:
    answer = run(DATABASE)
    assert answer["failed"]
    assert answer["msg"] == "these rules would close port 22, which must stay open; nothing was changed"
    assert run({**SSH, "sources": []})["failed"]
    assert run(DATABASE, keep_open=[2222])["msg"].startswith("these rules would close port 2222")
    assert host.calls == []


def test_a_ufw_that_does_not_know_vrrp(host: Host, run: Run) -> None:
    vrrp = {"name": "shared address", "protocol": "vrrp", "ports": [], "sources": ["192.0.2.12"]}
    (host.directory / "old").touch()
    for check in (True, False):
        answer = run(SSH, vrrp, check=check)
        assert answer["failed"]
        assert "takes 0.36.2 or newer; nothing was changed" in answer["msg"]
    assert host.calls == []
    (host.directory / "old").unlink()
    assert run(SSH, vrrp)["added"] == ["allow from 192.0.2.12 proto vrrp comment 'shared address'"]
    assert host.calls == ["allow from 192.0.2.12 proto vrrp comment shared address"]


def test_a_rule_that_cannot_be(host: Host, run: Run) -> None:
    assert "neither an address" in run(SSH, {**DATABASE, "sources": ["app1"]})["msg"]
    assert host.calls == []
