"""The modules of role base as Ansible calls them, with programs in the place of the host's own."""

from __future__ import annotations

import grp
import json
import os
import pwd
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _kernel, _sshd_guard
from ansible_collections.linkrift.platform.plugins.module_utils._connection import Connection
from ansible_collections.linkrift.platform.plugins.module_utils._host_files import Owner
from ansible_collections.linkrift.platform.plugins.module_utils._sshd import Layout
from ansible_collections.linkrift.platform.plugins.module_utils._system_user import Account
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed
from ansible_collections.linkrift.platform.plugins.modules import host_info, kernel_settings, sshd, system_user, units

Run = Callable[..., dict[str, Any]]
OPERATOR = Connection("192.0.2.9", 50000, 22)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def _run(module: Any, check: bool = False, **params: Any) -> dict[str, Any]:
        capsys.readouterr()
        with patch_module_args({**params, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return _run


class Host:
    """A host's programs: what they answer, by a piece of the command; and what was called."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.calls: list[str] = []

    def __call__(self, command: Sequence[str], deadline: float) -> Completed:
        line = " ".join(command)
        self.calls.append(line)
        for piece, answer in self.answers.items():
            if piece in line:
                return Completed(1, "", answer[1:]) if answer.startswith("!") else Completed(0, answer, "")
        return Completed(0, "", "")


# -- sshd --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    layout = Layout(tmp_path)
    layout.drop_ins.mkdir(parents=True)
    layout.main.write_text("Include /etc/ssh/sshd_config.d/*.conf\n")
    made.answers = {
        "sshd -T": "permitrootlogin no\nlistenaddress 0.0.0.0:22\n",
        "ActiveState,Accept": "ActiveState=inactive\nAccept=no\n",
        "is-active": "inactive\n",
        "MainPID": "0\n",
    }
    monkeypatch.setattr(sshd, "LAYOUT", layout)
    monkeypatch.setattr(sshd, "RUN_DIRECTORY", tmp_path / "run")
    monkeypatch.setattr(sshd, "run_command", made)
    monkeypatch.setattr(sshd, "find_connection", lambda: OPERATOR)
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.get_bin_path", lambda *_words: None)
    monkeypatch.setattr(sshd._sshd, "has_new_sockets", lambda *_words: True)
    monkeypatch.setattr(sshd._sshd, "greets", lambda *_words: True)
    return made


WISH = {"options": {"PermitRootLogin": "no"}, "port": 22}


def test_a_change_waits_for_its_confirmation(host: Host, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = run(sshd, **WISH)
    assert (answer["changed"], answer["pending"]) == (True, True)
    assert "PermitRootLogin no" in sshd.LAYOUT.ours.read_text()
    armed = next(number for number, call in enumerate(host.calls) if call.startswith("systemd-run"))
    assert armed < host.calls.index("systemctl reload ssh.service")
    assert "not a fresh one" in run(sshd, state="confirmed")["msg"]
    monkeypatch.setattr(sshd, "find_connection", lambda: Connection("192.0.2.9", 50001, 22))
    assert run(sshd, state="confirmed")["changed"]
    assert "systemctl stop linkrift-sshd-guard.timer" in host.calls
    assert "no change waits" in run(sshd, state="confirmed")["msg"]
    again = run(sshd, **WISH)
    assert (again["changed"], again["pending"]) == (False, False)


def test_a_dry_run_of_the_server(host: Host, run: Run) -> None:
    answer = run(sshd, check=True, **WISH)
    assert (answer["changed"], answer["pending"]) == (True, False)
    assert "PermitRootLogin no" in answer["diff"][0]["after"]
    assert not sshd.LAYOUT.ours.exists()
    assert not [call for call in host.calls if call.startswith("systemd-run")]
    # Without its directory sshd would check nothing; a dry run does not make it.
    assert not sshd.RUN_DIRECTORY.exists()
    assert not [call for call in host.calls if "sshd -t" in call]
    sshd.RUN_DIRECTORY.mkdir()
    assert run(sshd, check=True, **WISH)["changed"]
    assert [call for call in host.calls if "sshd -t" in call]


@pytest.mark.parametrize("trouble", ["reload", "sockets", "greeting"])
def test_a_server_that_does_not_come_back_is_restored_at_once(
    host: Host, run: Run, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(_sshd_guard, "run", " ".join)
    monkeypatch.setattr(sshd._sshd, "wait_for", lambda condition, _seconds: condition())
    if trouble == "reload":
        host.answers["reload ssh.service"] = "!no such job"
    elif trouble == "sockets":
        monkeypatch.setattr(sshd._sshd, "has_new_sockets", lambda *_words: False)
    else:
        monkeypatch.setattr(sshd._sshd, "greets", lambda *_words: False)
    answer = run(sshd, **WISH)
    assert answer["failed"]
    assert "Taken back" in answer["msg"]
    assert not sshd.LAYOUT.ours.exists()


def test_what_was_taken_back_is_told(host: Host, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sshd_guard, "run", " ".join)
    assert run(sshd, state="reverted")["reverted"] == []
    run(sshd, **WISH)
    answer = run(sshd, state="reverted")
    assert answer["changed"]
    assert answer["why"] == "the fresh connection failed"
    assert answer["reverted"][0].endswith("00-linkrift.conf removed")
    assert not answer["confirmed"]
    later = run(sshd, state="reverted")
    assert (later["changed"], later["reverted"]) == (False, answer["reverted"])


def test_a_change_that_was_confirmed_is_not_taken_back(host: Host, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run(sshd, state="reverted")["confirmed"]
    run(sshd, **WISH)
    monkeypatch.setattr(sshd, "find_connection", lambda: Connection("192.0.2.9", 50001, 22))
    run(sshd, state="confirmed")
    answer = run(sshd, state="reverted")
    assert (answer["changed"], answer["reverted"], answer["confirmed"]) == (False, [], True)
    assert "PermitRootLogin no" in sshd.LAYOUT.ours.read_text()
    # An earlier confirmation says nothing about a later change.
    monkeypatch.setattr(_sshd_guard, "run", " ".join)
    run(sshd, options={"PermitRootLogin": "no", "UseDNS": "no"}, port=22)
    assert not run(sshd, state="reverted")["confirmed"]
    assert not run(sshd, state="reverted")["confirmed"]


def test_the_new_port_is_opened_before_and_closed_again(
    host: Host, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[list[str]] = []

    def told(_module: Any, command: list[str], **_options: Any) -> tuple[int, str, str]:
        calls.append(command)
        return 0, "", ""

    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.get_bin_path", lambda *_words: "/usr/sbin/ufw")
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.run_command", told)
    monkeypatch.setattr(_sshd_guard, "run", " ".join)
    assert "would listen on 0.0.0.0:22 instead of port 2222" in run(sshd, options={}, port=2222)["msg"]
    assert not sshd.LAYOUT.ours.exists()
    host.answers["sshd -T"] = "listenaddress 0.0.0.0:2222\n"
    host.answers |= {"ufw status": "Status: active\n", "ufw show added": "ufw allow 22/tcp comment 'ssh'\n"}
    run(sshd, options={}, port=2222, networks=["192.0.2.0/24"])
    assert calls == [
        ["ufw", "allow", "from", "192.0.2.0/24", "to", "any", "port", "2222", "proto", "tcp", "comment", "ssh"]
    ]
    assert run(sshd, state="reverted")["reverted"][-1].startswith("ufw --force delete allow from 192.0.2.0/24")


def test_an_earlier_change_that_was_taken_back_first_is_said(
    host: Host, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sshd_guard, "run", " ".join)
    said: list[str] = []
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.warn", lambda _module, text: said.append(text))
    run(sshd, **WISH)
    assert said == []
    # Its timer was lost with a reboot.
    run(sshd, **WISH)
    assert ["nobody had confirmed, was taken back first" in text for text in said] == [True]


def test_a_local_connection_needs_no_confirmation(host: Host, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshd, "find_connection", lambda: None)
    answer = run(sshd, **WISH)
    assert (answer["changed"], answer["pending"]) == (True, False)
    assert not (sshd.LAYOUT.guard / "change.json").exists()


def test_options_that_sshd_refuses(host: Host, run: Run) -> None:
    host.answers = {"sshd -t": "!Bad configuration option", **host.answers}
    assert "Bad configuration option" in run(sshd, **WISH)["msg"]
    assert not sshd.LAYOUT.ours.exists()


# -- the others --------------------------------------------------------------------------------------------------------


def test_units_as_a_module(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Host()
    program.answers["systemctl show"] = (
        "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n"
        "ConditionResult=yes\nConditionTimestampMonotonic=1\n"
    )
    monkeypatch.setattr(units, "run_command", program)
    assert run(units, check=True, units=[{"name": "a.service"}])["changes"] == ["a.service: started"]
    assert len(program.calls) == 1
    assert run(units, units=[{"name": "a.service"}])["changed"]
    assert program.calls[-1] == "systemctl start -- a.service"
    program.answers = {"systemctl show": "!no bus"}
    assert "no bus" in run(units, units=[{"name": "a.service"}])["msg"]


def test_kernel_settings_as_a_module(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    me = Owner(pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name, 0o644)
    monkeypatch.setattr(kernel_settings, "Owner", lambda *_words: me)
    (tmp_path / "net").mkdir()
    (tmp_path / "net/a").write_text("1\n")
    monkeypatch.setattr(kernel_settings, "compare", lambda settings: _kernel.compare(settings, tmp_path))
    monkeypatch.setattr(kernel_settings, "put", lambda setting: _kernel.put(setting, tmp_path))
    wish = {"path": str(tmp_path / "90.conf"), "settings": {"net.a": 2, "net.b": 1}}
    foreseen = run(kernel_settings, check=True, **wish)
    assert (foreseen["changed"], foreseen["set"]) == (True, ["net.a"])
    assert not (tmp_path / "90.conf").exists()
    answer = run(kernel_settings, **wish)
    assert answer["set"] == ["net.a"]
    assert [setting["name"] for setting in answer["refused"]] == ["net.b"]
    assert (tmp_path / "net/a").read_text() == "2\n"
    again = run(kernel_settings, **wish)
    assert (again["changed"], again["set"]) == (False, [])
    assert "cannot be written" in run(kernel_settings, path=wish["path"], settings={"a b": 1})["msg"]


def test_the_services_user_as_a_module(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[list[str]] = []
    listing = ["User svc may run the following commands on host:\n (ALL) ALL\n"]

    def program(_module: Any, command: list[str], **_options: Any) -> tuple[int, str, str]:
        told.append(command)
        return 0, listing[0], ""

    account = Account(998, "svc", "/srv", "/usr/sbin/nologin", "", ("sudo",), locked=True)
    (tmp_path / "group").write_text("svc:x:997:\n")
    (tmp_path / "sudoers.d").mkdir()
    (tmp_path / "sudoers.d/mine").write_text("svc ALL=ALL\n")
    monkeypatch.setattr(system_user, "GROUPS", tmp_path / "group")
    monkeypatch.setattr(system_user, "SUDOERS", tmp_path / "sudoers.d")
    monkeypatch.setattr(system_user, "read_account", lambda _name: account)
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.run_command", program)
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.get_bin_path", lambda *_words: "/usr/bin/sudo")
    foreseen = run(system_user, check=True, name="svc", home="/srv")
    assert foreseen["mended"] == ["taken out of groups sudo", f"rules taken out of {tmp_path}/sudoers.d/mine"]
    assert (tmp_path / "sudoers.d/mine").exists()
    answer = run(system_user, name="svc", home="/srv")
    assert ["usermod", "--groups", "", "svc"] in told
    assert not (tmp_path / "sudoers.d/mine").exists()
    # Something else still allows it.
    assert "may still use sudo" in answer["msg"]
    listing[0] = "User svc is not allowed to run sudo on host.\n"
    assert run(system_user, name="svc", home="/srv")["changed"]
    # Where nothing is to mend, one look is enough; what sudo allows otherwise is found by it.
    account = replace(account, supplementary=())
    told.clear()
    assert not run(system_user, name="svc", home="/srv")["changed"]
    assert told == [["/usr/bin/sudo", "-n", "-l", "-U", "svc"]]
    listing[0] = "User svc may run the following commands on host:\n (ALL) ALL\n"
    assert "may still use sudo" in run(system_user, name="svc", home="/srv")["msg"]


def test_what_a_host_says_of_itself(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = Host()
    block = (
        "LoadState={}\nActiveState=active\nUnitFileState=enabled\nConditionResult=yes\nConditionTimestampMonotonic=1\n"
    )
    states = ["not-found", "not-found", "not-found", "not-found", "loaded"]
    program.answers = {
        "systemctl show": "\n".join(map(block.format, states)),
        "timedatectl": "yes\n",
        "detect-virt": "!",
    }
    monkeypatch.setattr(host_info, "run_command", program)
    monkeypatch.setattr(host_info, "find_connection", lambda: OPERATOR)
    (tmp_path / "jail").write_text("linkrift_operators = 192.0.2.8\n")
    answer = run(host_info, operators_file=str(tmp_path / "jail"))
    assert answer["operators"] == ["192.0.2.8", "192.0.2.9"]
    assert answer["time"] == {"daemon": "systemd-timesyncd", "kept_by": "host", "synchronized": True}
    states[0] = "masked"
    program.answers["systemctl show"] = "\n".join(map(block.format, states))
    assert run(host_info, operators_file="/x")["time"]["daemon"] == "systemd-timesyncd"
    assert "does not appear to be" in run(host_info, operators_file="/x", known=["nonsense"])["msg"]
