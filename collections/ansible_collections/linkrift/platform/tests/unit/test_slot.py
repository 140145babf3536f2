# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _slot
from ansible_collections.linkrift.platform.plugins.module_utils import _slot_work as work
from ansible_collections.linkrift.platform.plugins.module_utils._paths import other_slot, read_ledger, unit_name
from ansible_collections.linkrift.platform.plugins.module_utils._slot_port import listener, taken_by
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import SlotError, survey
from ansible_collections.linkrift.platform.plugins.module_utils._slot_steps import link
from ansible_collections.linkrift.platform.plugins.modules import slot as slot_module
from ansible_collections.linkrift.platform.tests.unit.slot_fakes import (
    NEW,
    OLD,
    SECRET,
    Crash,
    FakeHost,
    facts,
    install,
    make_host,
    render_env,
)
from tools.testing.process import free_port

MakeHost = Callable[..., FakeHost]


@pytest.fixture
def free_ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def host(tmp_path: Path, free_ports: tuple[int, int]) -> FakeHost:
    return make_host(tmp_path, "redirect", free_ports)


@pytest.fixture
def worker(tmp_path: Path, free_ports: tuple[int, int]) -> FakeHost:
    return make_host(tmp_path, "worker", free_ports)


def bring_up(host: FakeHost, release: str = OLD) -> str:
    """Take a release live, as a rollout does, and return its slot."""
    slot = _slot.candidate(host, release).slot
    _slot.admitted(host, slot)
    _slot.live(host, slot)
    return slot


def actions(host: FakeHost) -> list[str]:
    return [entry["action"] for entry in read_ledger(host.layout.ledger(host.service))]


# --- candidate ---


def test_first_candidate_goes_into_blue_and_is_gated(host: FakeHost) -> None:
    outcome = _slot.candidate(host, OLD)
    assert outcome.slot == "blue"
    assert outcome.record.steps == ["pin", "link", "start", "ledger"]
    gate = outcome.gates[0]
    assert (gate.verdict, gate.successes, gate.answers) == ("pass", 3, 3)
    view = survey(host)["blue"]
    assert (view.state, view.release, view.admitted, view.unit.enabled) == ("candidate", OLD, False, False)


def test_pinned_env_is_the_rendered_one_and_the_slots_lines(host: FakeHost) -> None:
    _slot.candidate(host, OLD)
    path = host.layout.pinned_env("redirect", "blue")
    text = path.read_text()
    assert text.startswith(host.layout.rendered_env("redirect").read_text().rstrip())
    assert path.stat().st_mode & 0o777 == 0o600
    variables = survey(host)["blue"].variables
    assert variables["LINKRIFT_REDIRECT_PORT"] == str(host.port("blue"))
    assert variables["LINKRIFT_SLOT"] == "blue"
    assert variables["LINKRIFT_ADMISSION_FILE"] == str(host.layout.admission_file("redirect", "blue"))
    assert variables["LINKRIFT_LIVE_LINK"] == str(host.live_link)


def test_second_run_changes_nothing(host: FakeHost) -> None:
    _slot.candidate(host, OLD)
    before = facts(host)
    outcome = _slot.candidate(host, OLD)
    assert not outcome.record.changed
    assert facts(host) == before


def test_release_that_is_live_with_the_same_settings_is_left_alone(host: FakeHost) -> None:
    bring_up(host)
    before, entries = facts(host), actions(host)
    outcome = _slot.candidate(host, OLD)
    assert (outcome.record.changed, outcome.slot) == (False, "blue")
    assert work.result_of(outcome)["state"] == "live"
    assert (facts(host), actions(host)) == (before, entries)


def test_new_release_goes_into_the_other_slot(host: FakeHost) -> None:
    bring_up(host)
    outcome = _slot.candidate(host, NEW)
    assert outcome.slot == "green"
    view = survey(host)
    assert (view["blue"].state, view["green"].state) == ("live", "candidate")


def test_changed_setting_is_a_new_candidate_named_but_not_shown(host: FakeHost) -> None:
    bring_up(host)
    render_env(host.layout, "redirect", LINKRIFT_DB_PASSWORD="another-one", LINKRIFT_LOG_LEVEL="info")
    outcome = _slot.candidate(host, OLD)
    assert outcome.slot == "green"
    assert outcome.settings == ["LINKRIFT_DB_PASSWORD changed", "LINKRIFT_LOG_LEVEL added"]
    shown = json.dumps(work.result_of(outcome))
    assert "another-one" not in shown
    assert SECRET not in shown


def test_changed_unit_is_a_new_candidate_but_its_comments_are_not(host: FakeHost) -> None:
    bring_up(host)
    host.template.write_text(f"# A better word.\n\n{host.template.read_text()}")
    assert not _slot.candidate(host, OLD).record.changed
    host.template.write_text(f"{host.template.read_text()}MemoryMax=1G\n")
    outcome = _slot.candidate(host, OLD)
    assert (outcome.slot, outcome.settings) == ("green", ["unit file changed"])


def test_changed_drop_in_for_both_slots_is_a_new_candidate(host: FakeHost) -> None:
    bring_up(host)
    drop_in = host.template.with_name(f"{host.template.name}.d") / "local.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nNice=5\n")
    assert _slot.candidate(host, OLD).settings == ["unit file changed"]


def test_live_slot_is_never_a_candidate(host: FakeHost) -> None:
    bring_up(host)
    before = facts(host)
    with pytest.raises(SlotError, match="blue is the live slot of redirect: a candidate goes into green"):
        _slot.candidate(host, NEW, "blue")
    assert facts(host) == before


def test_live_slot_that_is_down_is_not_taken_for_running(host: FakeHost) -> None:
    bring_up(host)
    host.system.crash_process(unit_name("redirect", "blue"))
    assert _slot.candidate(host, OLD).slot == "green"


def test_live_slot_that_starts_again_and_again_is_not_taken_for_running(host: FakeHost) -> None:
    bring_up(host)
    host.system.states[unit_name("redirect", "blue")] = "activating"
    assert _slot.candidate(host, OLD).slot == "green"


def test_warm_slot_that_does_not_pass_is_not_stopped_since_visitors_may_be_on_it(host: FakeHost) -> None:
    bring_up(host)
    bring_up(host, NEW)
    host.system.processes[unit_name("redirect", "blue")].behaviour = "never ready"
    before = facts(host)
    with pytest.raises(SlotError, match="The slot stays as it is, since it is admitted"):
        _slot.candidate(host, OLD)
    assert facts(host) == before


def test_other_candidate_in_the_slot_is_replaced(host: FakeHost) -> None:
    bring_up(host)
    _slot.candidate(host, NEW)
    other = "1.2.0+cccccccccccc"
    install(host.layout, other)
    outcome = _slot.candidate(host, other)
    assert outcome.record.steps == ["stop", "pin", "link", "start", "ledger"]
    assert survey(host)["green"].release == other


def test_warm_slot_is_not_replaced_since_visitors_may_be_on_it(host: FakeHost) -> None:
    bring_up(host)
    bring_up(host, NEW)
    other = "1.2.0+cccccccccccc"
    install(host.layout, other)
    before = facts(host)
    with pytest.raises(SlotError, match=r"blue still runs 1\.0\.0.* take it out of rotation, stop it"):
        _slot.candidate(host, other)
    assert facts(host) == before


def test_warm_slot_with_the_wished_release_is_gated_and_stays_admitted(host: FakeHost) -> None:
    bring_up(host)
    bring_up(host, NEW)
    outcome = _slot.candidate(host, OLD)
    assert (outcome.slot, outcome.record.changed) == ("blue", False)
    assert survey(host)["blue"].state == "warm"


def test_admission_left_from_earlier_is_withdrawn_before_the_start(host: FakeHost) -> None:
    bring_up(host)
    stale = host.layout.admission_file("redirect", "green")
    stale.write_text("{}")
    outcome = _slot.candidate(host, NEW)
    assert outcome.record.steps[0] == "withdraw"
    assert not stale.exists()


def test_first_installation_with_another_release_replaces_what_was_admitted(host: FakeHost) -> None:
    _slot.admitted(host, _slot.candidate(host, OLD).slot)
    outcome = _slot.candidate(host, NEW)
    assert outcome.record.steps == ["withdraw", "stop", "pin", "link", "start", "ledger"]
    assert survey(host)["blue"].release == NEW


def test_slow_candidate_passes_once_it_has_been_right_three_times_in_a_row(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "slow"
    gate = _slot.candidate(host, OLD).gates[0]
    assert (gate.verdict, gate.answers) == ("pass", 7)


@pytest.mark.parametrize(
    ("behaviour", "reason", "verdict"),
    [
        ("exits", "did not start: .*exited with error code.*exit status 78", ""),
        ("hangs", "took longer than 60 s", ""),
        ("never ready", r"answers 503; not well: database \(after 9\.8 s, 40 questions\)", "fail"),
        ("wrong version", "release 9.9.9.999999999999 answers", "fail"),
        ("silent", "gives no answer .ConnectionRefusedError", "inconclusive"),
        ("flaps", r"right \d times in a row, 3 are needed|answers 503", "fail"),
    ],
)
def test_candidate_that_does_not_pass_is_undone(host: FakeHost, behaviour: str, reason: str, verdict: str) -> None:
    bring_up(host)
    before = facts(host)
    host.system.behaviours[NEW] = behaviour
    with pytest.raises(SlotError, match=reason) as failure:
        _slot.candidate(host, NEW)
    assert facts(host) == before
    assert survey(host)["blue"].state == "live"
    evidence: Any = failure.value.evidence
    assert evidence["slot"] == "green"
    assert evidence["gate"].get("verdict", "") == verdict
    assert "blue (1.0.0+aaaaaaaaaaaa) is live as before" in str(failure.value)
    newest = read_ledger(host.layout.ledger("redirect"))[-1]
    assert (newest["action"], newest["release"], newest["passed"]) == ("candidate", NEW, [])
    assert newest["failed"]


def test_evidence_holds_no_secret(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "never ready"
    with pytest.raises(SlotError) as failure:
        _slot.candidate(host, OLD)
    evidence: Any = failure.value.evidence["evidence"]
    assert evidence["journal"] == ["started", "connecting with password ********"]
    assert evidence["answer"]["body"]["checks"]["database"]["error"] == "password=******** refused"
    assert SECRET not in json.dumps(failure.value.evidence) + str(failure.value)


def test_candidate_that_ends_during_its_gate_fails_before_the_deadline(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "silent"
    name = unit_name("redirect", "blue")
    host.when_asked[3] = lambda: host.system.crash_process(name)
    with pytest.raises(SlotError, match=r"linkrift-redirect@blue\.service ended: failed"):
        _slot.candidate(host, OLD)
    assert host.asked < 5
    assert host.system.states[name] == "inactive"


def test_rerun_after_a_failed_candidate_passes_when_the_cause_is_gone(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "exits"
    with pytest.raises(SlotError):
        _slot.candidate(host, OLD)
    del host.system.behaviours[OLD]
    assert _slot.candidate(host, OLD).record.changed


def test_candidate_that_cannot_even_be_stopped_says_so(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "never stops"
    _slot.candidate(host, OLD)
    host.system.processes[unit_name("redirect", "blue")].release = "9.9.9+999999999999"
    with pytest.raises(SlotError, match="could not be undone") as failure:
        _slot.candidate(host, OLD)
    assert failure.value.evidence["undo_failed"]


# --- obstacles, said before anything changes ---


def remove_release(host: FakeHost) -> None:
    (host.layout.release(NEW) / "release.json").unlink()


def foreign_release(host: FakeHost) -> None:
    (host.layout.release(NEW) / "release.json").write_text('{"id": "9.9.9+999999999999"}')


def torn_release(host: FakeHost) -> None:
    (host.layout.release(NEW) / "release.json").write_text('{"id": ')


def remove_program(host: FakeHost) -> None:
    (host.layout.release(NEW) / "venv/bin/linkrift-redirect").chmod(0o644)


def remove_env(host: FakeHost) -> None:
    host.layout.rendered_env("redirect").unlink()


def break_env(host: FakeHost) -> None:
    host.layout.rendered_env("redirect").write_text('LINKRIFT_DB_PASSWORD="hunter2-hunter2\n')


def remove_unit(host: FakeHost) -> None:
    host.template.unlink()


@pytest.mark.parametrize(
    ("obstacle", "message"),
    [
        (
            remove_release,
            r"release 1\.1\.0.* is not installed here \(complete ones: 1\.0\.0\+aaaaaaaaaaaa\): install it",
        ),
        (foreign_release, "holds release 9.9.9"),
        (torn_release, "cannot be read"),
        (remove_program, "has no program .*linkrift-redirect"),
        (remove_env, r"redirect\.env is missing: run the role"),
        (break_env, "LINKRIFT_DB_PASSWORD in line 1 has no closing"),
        (remove_unit, r"linkrift-redirect@\.service is missing: run the role"),
    ],
)
def test_obstacle_is_named_before_anything_changes(
    host: FakeHost, obstacle: Callable[[FakeHost], None], message: str
) -> None:
    bring_up(host)
    obstacle(host)
    before, calls = facts(host), len(host.system.calls)
    with pytest.raises(SlotError, match=message) as failure:
        _slot.candidate(host, NEW)
    assert facts(host) == before
    assert len(host.system.calls) == calls
    assert SECRET not in str(failure.value)


def test_port_taken_by_somebody_else_is_named_with_its_owner(host: FakeHost) -> None:
    with (
        socket.create_server(("127.0.0.1", host.port("blue"))),
        pytest.raises(SlotError, match=rf"port {host.port('blue')} on 127\.0\.0\.1.* is taken by .*\(process \d+\)"),
    ):
        _slot.candidate(host, OLD)
    assert facts(host)["links"] == {}
    assert host.system.calls == []


def test_release_id_is_checked_before_it_becomes_a_path(host: FakeHost) -> None:
    with pytest.raises(SlotError, match="is no release id"):
        _slot.candidate(host, "../../../etc")


def test_release_that_is_pruned_in_the_meantime_is_not_linked(host: FakeHost) -> None:
    remove_release(host)
    with pytest.raises(SlotError, match="is not installed here"):
        link(host, "blue", NEW)
    assert facts(host)["links"] == {}


# --- admitted ---


def test_admitted_slot_says_who_and_since_when(host: FakeHost) -> None:
    _slot.candidate(host, OLD)
    outcome = _slot.admitted(host)
    assert outcome.record.steps == ["admit", "ledger"]
    path = host.layout.admission_file("redirect", "blue")
    content = json.loads(path.read_text())
    assert (content["release"], content["by"]) == (OLD, "tester")
    assert path.stat().st_mode & 0o777 == 0o644
    assert not _slot.admitted(host).record.changed


def test_admission_needs_a_slot_that_runs(host: FakeHost) -> None:
    with pytest.raises(SlotError, match="neither slot runs"):
        _slot.admitted(host)
    with pytest.raises(SlotError, match="green does not run"):
        _slot.admitted(host, "green")


def test_admission_is_for_the_named_release_only(host: FakeHost) -> None:
    _slot.candidate(host, OLD)
    with pytest.raises(SlotError, match=r"blue runs 1\.0\.0"):
        _slot.admitted(host, "blue", NEW)
    assert not facts(host)["admitted"]


def test_slot_that_does_not_become_healthy_is_not_admitted(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "never healthy"
    _slot.candidate(host, OLD)
    with pytest.raises(SlotError, match=r"/health answers 503.*It is not admitted any more"):
        _slot.admitted(host)
    assert not facts(host)["admitted"]


def test_live_slot_that_is_not_healthy_stays_admitted(host: FakeHost) -> None:
    bring_up(host)
    host.system.processes[unit_name("redirect", "blue")].behaviour = "never healthy"
    with pytest.raises(SlotError, match="It stays admitted, since it is live"):
        _slot.admitted(host)
    assert facts(host)["admitted"] == ["blue.admitted"]


def test_lost_admission_of_the_live_slot_is_given_back(host: FakeHost) -> None:
    bring_up(host)
    host.layout.admission_file("redirect", "blue").unlink()
    assert _slot.admitted(host).record.steps == ["admit", "ledger"]


def test_two_running_slots_and_none_live_need_a_name(host: FakeHost) -> None:
    _slot.candidate(host, OLD, "blue")
    _slot.candidate(host, NEW, "green")
    with pytest.raises(SlotError, match="say which slot"):
        _slot.admitted(host)


# --- live ---


def test_commit_makes_the_slot_live_and_the_only_one_that_boots(host: FakeHost) -> None:
    bring_up(host)
    bring_up(host, NEW)
    assert facts(host)["links"]["live"] == "green"
    assert host.layout.current_link("redirect").resolve() == host.layout.release(NEW)
    assert host.system.enabled == {unit_name("redirect", "green")}
    assert survey(host)["blue"].state == "warm"
    newest = read_ledger(host.layout.ledger("redirect"))[-1]
    assert {key: newest[key] for key in ("service", "slot", "release", "action", "by")} == {
        "service": "redirect",
        "slot": "green",
        "release": NEW,
        "action": "live",
        "by": "tester",
    }
    assert newest["config_digest"] == work.result_of(_slot.live(host))["config_digest"]


def test_reboot_brings_the_live_slot_back_and_only_it(host: FakeHost) -> None:
    bring_up(host)
    bring_up(host, NEW)
    host.system.reboot()
    assert facts(host)["states"] == {"blue": "inactive", "green": "active"}


@pytest.mark.parametrize("state", ["idle", "candidate"])
def test_only_an_admitted_slot_can_be_made_live(host: FakeHost, state: str) -> None:
    if state == "candidate":
        _slot.candidate(host, OLD)
    before = facts(host)
    with pytest.raises(SlotError, match="Only a slot that is up and admitted can be made live"):
        _slot.live(host)
    assert facts(host) == before


def test_live_without_a_slot_never_commits_a_warm_one(host: FakeHost) -> None:
    bring_up(host)
    _slot.admitted(host, _slot.candidate(host, NEW).slot)
    outcome = _slot.live(host)
    assert (outcome.record.changed, outcome.slot) == (False, "blue")
    assert facts(host)["links"]["live"] == "blue"


def test_slots_that_run_the_same_release_are_told_apart(host: FakeHost) -> None:
    bring_up(host)
    render_env(host.layout, "redirect", LINKRIFT_LOG_LEVEL="debug")
    assert bring_up(host) == "green"
    view = survey(host)
    assert (view["blue"].state, view["green"].state) == ("warm", "live")


def test_live_slot_that_somebody_stopped_is_brought_back(host: FakeHost) -> None:
    bring_up(host)
    name = unit_name("redirect", "blue")
    host.system.crash_process(name)
    host.layout.admission_file("redirect", "blue").unlink()
    outcome = _slot.live(host)
    assert outcome.record.steps == ["admit", "start", "ledger"]
    assert host.system.states[name] == "active"
    assert not _slot.live(host).record.changed


def test_live_slot_that_does_not_come_back_is_an_error_with_evidence(host: FakeHost) -> None:
    bring_up(host)
    host.system.crash_process(unit_name("redirect", "blue"))
    host.system.behaviours[OLD] = "never healthy"
    with pytest.raises(SlotError, match="was started again, but /health answers 503") as failure:
        _slot.live(host)
    assert failure.value.evidence["evidence"]
    assert survey(host)["blue"].state == "live"


def test_live_worker_that_handed_over_stays_paused(worker: FakeHost) -> None:
    bring_up(worker)
    _slot.admitted(worker, _slot.candidate(worker, NEW).slot)
    assert not _slot.live(worker).record.changed
    assert facts(worker)["admitted"] == ["green.admitted"]


# --- drained ---


@pytest.mark.parametrize("service", ["redirect", "worker"])
def test_a_drained_slot_takes_no_work_and_goes_on_running(
    tmp_path: Path, free_ports: tuple[int, int], service: str
) -> None:
    host = make_host(tmp_path, service, free_ports)
    bring_up(host)
    before = facts(host)
    outcome = _slot.drained(host)
    assert outcome.record.steps == ["mark", "withdraw", "ledger"]
    assert [gate.name for gate in outcome.gates] == ["paused" if service == "worker" else "standby"]
    assert facts(host) == {**before, "admitted": []}
    assert survey(host).drained
    assert not _slot.drained(host).record.changed
    assert actions(host)[-1] == "drained"


def test_a_drained_host_stays_drained_through_reboot_and_rerun(host: FakeHost) -> None:
    bring_up(host)
    _slot.drained(host)
    host.system.reboot()
    assert survey(host)["blue"].unit.running
    outcome = _slot.live(host)
    assert not outcome.record.changed
    assert "drained" in outcome.message
    host.system.states[host.unit("blue")] = "inactive"
    assert _slot.live(host).record.steps == ["start", "ledger"]
    assert facts(host)["admitted"] == []


def test_check_mode_tells_what_draining_would_do(host: FakeHost) -> None:
    bring_up(host)
    before = facts(host)
    outcome = _slot.drained(host, check=True)
    assert outcome.record.steps == ["mark", "withdraw", "ledger"]
    assert not outcome.facts(now=True)["blue"]["admitted"]
    assert facts(host) == before
    assert not survey(host).drained


def test_a_drained_slot_must_be_ready_before_it_works_again(host: FakeHost) -> None:
    bring_up(host)
    _slot.drained(host)
    host.system.processes[host.unit("blue")].behaviour = "never ready"
    with pytest.raises(SlotError, match=r"blue of redirect is not ready: .* It stays drained"):
        _slot.admitted(host)
    assert survey(host).drained
    assert facts(host)["admitted"] == []
    host.system.processes[host.unit("blue")].behaviour = "good"
    outcome = _slot.admitted(host)
    assert outcome.record.steps == ["undrain", "admit", "ledger"]
    assert [gate.name for gate in outcome.gates] == ["ready", "smoke", "memory", "admitted"]
    assert not survey(host).drained
    assert not _slot.admitted(host).record.changed


@pytest.mark.parametrize("number", range(1, 7))
def test_draining_and_back_converge_after_a_kill_at_any_step(host: FakeHost, number: int) -> None:
    bring_up(host)
    before = facts(host)

    def there_and_back() -> None:
        _slot.drained(host)
        assert facts(host)["admitted"] == []
        _slot.admitted(host)

    host.progress = crash_at(host, number)
    with pytest.raises(Crash):
        there_and_back()
    host.progress = lambda _name: None
    there_and_back()
    assert facts(host) == before
    assert not survey(host).drained


def test_a_worker_that_does_not_pause_is_not_drained(worker: FakeHost) -> None:
    bring_up(worker)
    worker.system.processes[worker.unit("blue")].behaviour = "never pauses"
    with pytest.raises(SlotError, match="blue of worker is not admitted any more, but the worker is not paused yet"):
        _slot.drained(worker)


def test_a_dead_slot_has_nothing_to_drain(worker: FakeHost) -> None:
    bring_up(worker)
    worker.system.crash_process(worker.unit("blue"))
    _slot.drained(worker)
    assert survey(worker).drained


def test_where_nothing_is_live_nothing_is_drained(host: FakeHost) -> None:
    assert not _slot.drained(host).record.changed
    assert not survey(host).drained
    bring_up(host)
    with pytest.raises(SlotError, match="blue is the live slot"):
        _slot.drained(host, "green")


def test_a_service_that_is_taken_away_is_not_drained_any_more(host: FakeHost) -> None:
    bring_up(host)
    _slot.drained(host)
    _slot.stopped(host, "blue", force=True)
    assert not survey(host).drained


# --- stopped ---


def test_stopping_the_warm_slot_leaves_it_idle(host: FakeHost) -> None:
    bring_up(host)
    bring_up(host, NEW)
    outcome = _slot.stopped(host)
    assert (outcome.slot, outcome.record.steps) == ("blue", ["withdraw", "stop", "ledger"])
    assert survey(host)["blue"].state == "idle"
    assert not _slot.stopped(host).record.changed


def test_live_slot_is_stopped_only_by_force(host: FakeHost) -> None:
    bring_up(host)
    before = facts(host)
    with pytest.raises(SlotError, match="blue is the live slot"):
        _slot.stopped(host, "blue")
    assert facts(host) == before
    _slot.stopped(host, "blue", force=True)
    left = facts(host)
    assert (left["states"]["blue"], left["enabled"], left["admitted"]) == ("inactive", [], [])
    assert survey(host).live is None


def test_slot_that_had_to_be_killed_is_left_without_a_failure(host: FakeHost) -> None:
    bring_up(host)
    host.system.behaviours[NEW] = "killed at stop"
    _slot.candidate(host, NEW)
    _slot.stopped(host)
    assert facts(host)["states"]["green"] == "inactive"


def test_slot_that_does_not_stop_is_an_error(host: FakeHost) -> None:
    bring_up(host)
    host.system.behaviours[NEW] = "never stops"
    _slot.candidate(host, NEW)
    with pytest.raises(SlotError, match=r"did not stop: .* took longer than 90 s"):
        _slot.stopped(host)


def test_nothing_live_needs_a_slot_to_stop(host: FakeHost) -> None:
    with pytest.raises(SlotError, match="say which slot to stop"):
        _slot.stopped(host)


# --- workers ---


def test_worker_candidate_is_paused_until_the_other_has_handed_over(worker: FakeHost) -> None:
    bring_up(worker)
    _slot.candidate(worker, NEW)
    outcome = _slot.admitted(worker, "green")
    assert outcome.record.steps == ["pause", "admit", "ledger"]
    assert [gate.name for gate in outcome.gates] == ["paused", "admitted"]
    assert facts(worker)["admitted"] == ["green.admitted"]


def test_worker_that_does_not_pause_goes_on_and_the_candidate_waits(worker: FakeHost) -> None:
    worker.system.behaviours[OLD] = "never pauses"
    with pytest.raises(SlotError, match="the worker is not paused, though it is not admitted"):
        _slot.candidate(worker, OLD)
    worker.system.behaviours[OLD] = "good"
    bring_up(worker)
    worker.system.processes[unit_name("worker", "blue")].behaviour = "never pauses"
    _slot.candidate(worker, NEW)
    with pytest.raises(SlotError, match="did not hand over: the worker is not paused yet"):
        _slot.admitted(worker, "green")
    assert facts(worker)["admitted"] == ["blue.admitted"]


def test_dead_worker_has_nothing_to_hand_over(worker: FakeHost) -> None:
    bring_up(worker)
    _slot.candidate(worker, NEW)
    worker.system.crash_process(unit_name("worker", "blue"))
    _slot.admitted(worker, "green")
    assert facts(worker)["admitted"] == ["green.admitted"]


def test_failed_handover_gives_the_work_back(worker: FakeHost) -> None:
    bring_up(worker)
    worker.system.behaviours[NEW] = "never healthy"
    _slot.candidate(worker, NEW)
    with pytest.raises(SlotError, match="is admitted, but"):
        _slot.admitted(worker, "green")
    assert facts(worker)["admitted"] == ["blue.admitted"]


def test_abandoned_handover_is_given_back_when_the_candidate_is_stopped(worker: FakeHost) -> None:
    bring_up(worker)
    _slot.candidate(worker, NEW)
    worker.layout.admission_file("worker", "blue").unlink()
    outcome = _slot.stopped(worker)
    assert outcome.record.steps == ["pause", "stop", "give_back", "ledger"]
    assert facts(worker)["admitted"] == ["blue.admitted"]


def test_a_drained_worker_gets_no_work_back_when_the_idle_slot_is_stopped(worker: FakeHost) -> None:
    bring_up(worker)
    _slot.drained(worker)
    outcome = _slot.stopped(worker, "green", force=True)
    assert "give_back" not in outcome.record.steps
    assert facts(worker)["admitted"] == []


def test_worker_is_paused_before_it_is_stopped(worker: FakeHost) -> None:
    bring_up(worker)
    _slot.candidate(worker, NEW)
    _slot.admitted(worker, "green")
    _slot.live(worker, "green")
    outcome = _slot.stopped(worker)
    assert outcome.record.steps == ["pause", "stop", "ledger"]
    assert not outcome.warnings


def test_worker_that_cannot_pause_is_stopped_with_a_warning(worker: FakeHost) -> None:
    bring_up(worker)
    _slot.candidate(worker, NEW)
    _slot.admitted(worker, "green")
    _slot.live(worker, "green")
    worker.system.processes[unit_name("worker", "blue")].behaviour = "silent"
    outcome = _slot.stopped(worker)
    assert "was stopped before it had paused" in outcome.warnings[0]
    assert survey(worker)["blue"].state == "idle"


# --- interruptions ---


def take_live(host: FakeHost) -> None:
    """The new release, from candidate to live, and the old one stopped; each call may be the repeated one."""
    slot = _slot.candidate(host, NEW).slot
    _slot.admitted(host, slot, NEW)
    _slot.live(host, slot, NEW)
    _slot.stopped(host, other_slot(slot))


def crash_at(host: FakeHost, number: int) -> Callable[[str], None]:
    """Return a progress hook that kills the run before its `number`-th step."""
    count = 0

    def progress(name: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise Crash(name)

    return progress


STEPS = {"redirect": 14, "worker": 15}


@pytest.mark.parametrize("reboot", [False, True], ids=["killed", "killed and rebooted"])
@pytest.mark.parametrize(
    ("service", "number"), [(service, number) for service, count in STEPS.items() for number in range(1, count + 1)]
)
def test_run_killed_before_any_step_converges_when_repeated(
    tmp_path: Path, free_ports: tuple[int, int], service: str, number: int, reboot: bool
) -> None:
    undisturbed = make_host(tmp_path / "undisturbed", service, free_ports)
    bring_up(undisturbed)
    take_live(undisturbed)

    host = make_host(tmp_path / "host", service, free_ports)
    bring_up(host)
    host.progress = crash_at(host, number)
    with pytest.raises(Crash):
        take_live(host)
    host.progress = lambda _name: None
    live = survey(host).live
    assert live is not None, "no moment without a live slot"
    assert live.unit.running or live.slot == "blue"
    if reboot:
        host.system.reboot()
        assert survey(host)[live.slot].unit.running, "the live slot comes back"
    take_live(host)

    def comparable(one: FakeHost) -> str:
        return json.dumps(facts(one)).replace(str(one.layout.root), "")

    assert comparable(host) == comparable(undisturbed)
    good = [entry["release"] for entry in read_ledger(host.layout.ledger(service)) if entry["action"] == "live"]
    assert good == [OLD, NEW]
    steady = facts(host)
    assert not _slot.candidate(host, NEW).record.changed
    assert not _slot.live(host).record.changed
    assert not _slot.stopped(host).record.changed
    assert facts(host) == steady


@pytest.mark.parametrize("service", list(STEPS))
def test_every_step_was_interrupted(tmp_path: Path, free_ports: tuple[int, int], service: str) -> None:
    host = make_host(tmp_path, service, free_ports)
    bring_up(host)
    seen: list[str] = []
    host.progress = seen.append
    take_live(host)
    assert len(seen) == STEPS[service], seen


@pytest.mark.parametrize("number", range(1, 11))
def test_first_installation_killed_before_any_step_converges(
    tmp_path: Path, free_ports: tuple[int, int], number: int
) -> None:
    host = make_host(tmp_path, "redirect", free_ports)
    host.progress = crash_at(host, number)
    with pytest.raises(Crash):
        bring_up(host)
    host.progress = lambda _name: None
    assert bring_up(host) == "blue"
    assert survey(host)["blue"].state == "live"
    assert not facts(host)["leftovers"]


# --- check mode, and the module's own part ---


def test_check_mode_changes_nothing_and_tells_what_would_be_done(host: FakeHost) -> None:
    bring_up(host)
    before, entries = facts(host), actions(host)
    result = work.result_of(_slot.candidate(host, NEW, check=True))
    assert (facts(host), actions(host)) == (before, entries)
    assert result["changed"]
    assert result["steps"] == ["pin", "link", "start"]
    assert (result["slot"], result["state"], result["release"]) == ("green", "candidate", NEW)
    assert f"green: candidate, active; release {NEW}" in result["diff"]["after"]
    assert result["live"] == {"slot": "blue", "release": OLD}


def test_check_mode_on_a_bare_host_says_what_it_cannot_know(tmp_path: Path, free_ports: tuple[int, int]) -> None:
    host = make_host(tmp_path, "api", free_ports)
    host.template.unlink()
    host.layout.rendered_env("api").unlink()
    remove_release(host)
    result = work.result_of(_slot.candidate(host, NEW, check=True))
    assert result["changed"]
    assert "unknown until this is done: release 1.1.0" in result["msg"]
    for state in (_slot.admitted, _slot.live):
        result = work.result_of(state(host, check=True))
        assert result["changed"]
        assert "unknown until" in result["msg"]
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("service", ["redirect", "worker"])
def test_check_mode_foretells_every_step(tmp_path: Path, free_ports: tuple[int, int], service: str) -> None:
    host = make_host(tmp_path, service, free_ports)
    bring_up(host)
    acts: list[Callable[[bool], _slot.Outcome]] = [
        lambda check: _slot.candidate(host, NEW, check=check),
        lambda check: _slot.admitted(host, "green", check=check),
        lambda check: _slot.live(host, "green", check=check),
        lambda check: _slot.stopped(host, "blue", check=check),
    ]
    for act in acts:
        before = facts(host)
        foretold = work.result_of(act(True))
        assert facts(host) == before
        done = work.result_of(act(False))
        assert set(done["steps"]) - {"ledger"} <= set(foretold["steps"])
        assert foretold["changed"]
        if service == "redirect":
            assert foretold["diff"] == done["diff"]
        assert not work.result_of(act(False))["changed"]


def test_digest_cannot_be_tested_with_guesses(tmp_path: Path, free_ports: tuple[int, int]) -> None:
    digests = set()
    for number in range(2):
        host = make_host(tmp_path / str(number), "redirect", free_ports)
        digests.add(work.result_of(_slot.candidate(host, OLD))["config_digest"])
        assert host.key_file.stat().st_mode & 0o777 == 0o600
    assert len(digests) == 2


def test_parameters_reach_the_host() -> None:
    params: dict[str, Any] = {name: spec.get("default") for name, spec in slot_module.ARGUMENTS.items()}
    params |= {
        "service": "api",
        "state": "stopped",
        "slot": "green",
        "ports": {"blue": 9000, "green": None},
        "by": "me",
    }
    host = work.host_of(params)
    assert (host.port("blue"), host.port("green"), host.address) == (9000, 8180, "")
    assert host.gates.deadline == 60
    assert host.by == "me"


@pytest.mark.parametrize("state", ["candidate", "admitted", "live", "stopped"])
def test_each_state_is_carried_out(host: FakeHost, state: str) -> None:
    bring_up(host)
    options = {"slot": None, "force": False, "replace": False, "undone": None, "warm_seconds": 900}
    params = {"state": state, "release": OLD, **options}
    outcome = work.wish(host, params if state != "stopped" else {**params, "release": None}, check=False)
    assert not outcome.record.changed


@pytest.mark.parametrize(
    ("bound", "asked"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("198.18.0.7", "198.18.0.7"), ("", "127.0.0.1")]
)
def test_health_is_asked_where_the_service_listens(host: FakeHost, bound: str, asked: str) -> None:
    assert host.health_address({"LINKRIFT_REDIRECT_HOST": bound}) == asked
    assert dataclasses.replace(host, address="127.0.0.9").health_address({}) == "127.0.0.9"


# --- ports ---


def test_free_port_is_nobodys(free_ports: tuple[int, int]) -> None:
    assert taken_by("127.0.0.1", free_ports[0]) is None


def test_address_of_another_machine_cannot_be_bound() -> None:
    assert "cannot be bound" in str(taken_by("198.18.255.254", 8080))


def test_owner_of_a_port_may_be_out_of_sight(tmp_path: Path) -> None:
    assert listener(1, tmp_path) == "an unknown process"
