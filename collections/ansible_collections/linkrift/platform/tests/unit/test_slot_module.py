# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _slot_steps as steps
from ansible_collections.linkrift.platform.plugins.module_utils import _slot_work as work
from ansible_collections.linkrift.platform.plugins.module_utils._operation import Operation
from ansible_collections.linkrift.platform.plugins.module_utils._paths import write_atomically
from ansible_collections.linkrift.platform.plugins.module_utils._slot_lock import only_run
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Gates, SlotError, survey
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import (
    Completed,
    Systemd,
    SystemdError,
    run_command,
)
from ansible_collections.linkrift.platform.plugins.modules import slot as slot_module
from ansible_collections.linkrift.platform.tests.unit.slot_fakes import NEW, OLD, SECRET, FakeHost, facts, make_host

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return make_host(tmp_path, "redirect", (0, 0))


@pytest.fixture
def run(host: FakeHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module on a host that is not there, and return its result."""
    monkeypatch.setattr(work, "host_of", lambda params: host)
    monkeypatch.setattr("os.umask", lambda mask: 0)

    def start(**arguments: Any) -> dict[str, Any]:
        given = {"service": "redirect", **arguments}
        with patch_module_args(given), pytest.raises(SystemExit):
            slot_module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return start


def test_module_takes_a_release_live(run: Run, host: FakeHost) -> None:
    for state in ("candidate", "admitted", "live"):
        result = run(state=state, **({"release": OLD} if state == "candidate" else {}))
        assert result["changed"], result
    assert (result["state"], result["slot"], result["release"]) == ("live", "blue", OLD)
    assert result["live"] == {"slot": "blue", "release": OLD}
    assert not run(state="candidate", release=OLD)["changed"]


def test_module_in_check_mode_takes_no_lock_and_changes_nothing(run: Run, host: FakeHost) -> None:
    before = facts(host)
    assert run(state="candidate", release=OLD, _ansible_check_mode=True)["changed"]
    assert facts(host) == before
    assert not host.lock.exists()


def test_module_fails_with_evidence(run: Run, host: FakeHost) -> None:
    host.system.behaviours[OLD] = "never ready"
    result = run(state="candidate", release=OLD)
    assert result["failed"]
    assert (result["slot"], result["gate"]["verdict"]) == ("blue", "fail")
    assert result["evidence"]["answer"]["status"] == 503
    assert SECRET not in json.dumps(result)


def test_module_says_who_is_at_work(run: Run, host: FakeHost) -> None:
    with only_run(host.lock, "state=live", "somebody", 1):
        result = run(state="candidate", release=OLD, lock_deadline=0)
    assert result["failed"]
    assert "state=live by somebody" in result["msg"]


def test_module_warns(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = make_host(tmp_path / "worker", "worker", (0, 0))
    monkeypatch.setattr(work, "host_of", lambda params: worker)
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, text: warnings.append(text))
    run(service="worker", state="candidate", release=OLD)
    worker.system.processes["linkrift-worker@blue.service"].behaviour = "silent"
    result = run(service="worker", state="stopped", slot="blue")
    assert result["changed"]
    assert ["was stopped before it had paused" in warning for warning in warnings] == [True]


@pytest.mark.parametrize("error", [SystemdError("no bus"), OSError("disk full")])
def test_module_fails_without_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, host: FakeHost
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(work, "wish", broken)
    result = run(state="live")
    assert result["failed"]
    assert str(error) in result["msg"]


def test_candidate_needs_a_release(run: Run) -> None:
    assert "release" in run(state="candidate")["msg"]


# --- as an operation ---


def operation(**arguments: Any) -> Operation:
    params: dict[str, Any] = {name: spec.get("default") for name, spec in slot_module.ARGUMENTS.items()}
    return slot_module.operation_of({**params, "service": "redirect", "state": "live", "by": "me", **arguments})


def test_operation_is_named_for_its_service_and_says_what_it_is_about() -> None:
    wished = operation(state="candidate", release=OLD, slot="green")
    assert (wished.unit, wished.by) == ("linkrift-op-redirect.service", "me")
    assert wished.purpose == f"redirect candidate green {OLD}"
    # It has to outlast all the waits that it may have.
    assert wished.bound > 2 * (60 + 90) + wished.patience


def test_settings_rendered_anew_make_another_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for rendered in ("as it was", "anew"):
        monkeypatch.setattr(slot_module, "stamp", lambda service, found=rendered: f"{service} {found}")
        asked.append(operation().asked().identity)
    assert len(set(asked)) == 2


def test_who_asks_and_how_patiently_makes_no_other_request() -> None:
    one = operation().asked().identity
    assert operation(by="you", lock_deadline=1).asked().identity == one
    assert operation(state="drained").asked().identity != one
    assert operation(deadline=1).asked().identity != one


def test_stamp_tells_new_settings_from_old(tmp_path: Path) -> None:
    host = make_host(tmp_path, "redirect", (0, 0))
    before = slot_module.stamp("redirect", tmp_path)
    assert slot_module.stamp("redirect", tmp_path) == before
    text = host.layout.rendered_env("redirect").read_text()
    write_atomically(host.layout.rendered_env("redirect"), text + "A=1\n")
    rendered = slot_module.stamp("redirect", tmp_path)
    assert rendered != before
    write_atomically(host.template, "[Service]\n")
    unit = slot_module.stamp("redirect", tmp_path)
    assert unit not in (before, rendered)
    host.template.with_name(f"{host.template.name}.d").mkdir()
    assert slot_module.stamp("redirect", tmp_path) != unit


def test_steps_are_told(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "host_of", lambda params: host)
    told: list[str] = []
    params = operation(state="candidate", release=OLD).request
    result = work.perform(params, told.append)
    assert told == result["steps"] == ["pin", "link", "start", "ledger"]


# --- single steps that the ways above do not take ---


def test_stop_that_leaves_something_running_is_an_error(host: FakeHost) -> None:
    name = host.unit("blue")
    host.system.states[name] = "active"
    host.system.refuse.add(name)
    with pytest.raises(SlotError, match=r"is active \(running\) after it was stopped: something starts it again"):
        steps.stop(host, "blue")


def test_unit_that_systemd_refuses_is_no_candidate(host: FakeHost) -> None:
    host.system.loads["linkrift-redirect@blue.service"] = "masked"
    with pytest.raises(SlotError, match=r"systemd cannot use linkrift-redirect@blue.service \(masked\)"):
        steps.check_unit(host, survey(host)["blue"])


def test_new_unit_file_is_read_before_the_start(host: FakeHost) -> None:
    steps.pin(host, "blue")
    steps.link(host, "blue", OLD)
    host.system.stale = True
    host.system.states[host.unit("blue")] = "failed"
    steps.start(host, "blue", 5)
    assert host.system.calls == ["daemon-reload", "reset-failed", "start"]


def test_release_lock_held_by_pruning_is_waited_for(host: FakeHost) -> None:
    with only_run(host.layout.releases_lock, "prune", "x", 1):
        host.gates = Gates(deadline=0)
        with pytest.raises(SlotError, match="another process has held"):
            steps.link(host, "blue", NEW)


def test_rendered_env_that_breaks_meanwhile_is_not_pinned(host: FakeHost) -> None:
    host.layout.rendered_env("redirect").write_text("A='open\n")
    with pytest.raises(SlotError, match=r"cannot be used: A in line 1 has no closing '"):
        steps.pin(host, "blue")
    assert not host.layout.pinned_env("redirect", "blue").exists()


# --- systemd ---


def test_command_runs_without_a_shell_in_the_c_locale() -> None:
    done = run_command(["/bin/sh", "-c", 'printf %s "$LC_ALL $1"; exit 3', "sh", "$HOME;x"], 10)
    assert (done.status, done.stdout) == (3, "C $HOME;x")


def test_command_ends_at_its_deadline() -> None:
    with pytest.raises(TimeoutError, match="took longer than 0 s"):
        run_command(["/bin/sleep", "5"], 0.1)


def test_missing_program_is_an_error_of_systemd() -> None:
    def missing(command: Any, deadline: float) -> Completed:
        raise FileNotFoundError(2, "No such file", "systemctl")

    with pytest.raises(SystemdError, match="systemctl cannot be run"):
        Systemd(missing).reload()
    assert "the journal cannot be read" in Systemd(missing).journal("x", 0, 1)[0]


def test_empty_journal_says_so() -> None:
    systemd = Systemd(lambda command, deadline: Completed(1, "", "No journal files were found."))
    assert systemd.journal("x", 0, 1) == ["(the journal has nothing: No journal files were found.)"]


def test_journal_begins_no_later_than_asked() -> None:
    [said] = Systemd(lambda command, deadline: Completed(0, " ".join(command), "")).journal("u", 99.9, 7)
    assert "--since=@99 --lines=7 --unit=u" in said


def test_error_leaves_out_where_to_look_on() -> None:
    text = 'Job for x failed.\nSee "systemctl status x" and "journalctl -xeu x" for details.\n'
    with pytest.raises(SystemdError, match=r"^systemctl start x: Job for x failed\.$"):
        Systemd(lambda command, deadline: Completed(1, "", text)).start("x", 1)
    with pytest.raises(SystemdError, match=r"^systemctl start x: exit status 4$"):
        Systemd(lambda command, deadline: Completed(4, "", "")).start("x", 1)
