# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _slot
from ansible_collections.linkrift.platform.plugins.module_utils import _slot_work as work
from ansible_collections.linkrift.platform.plugins.module_utils._paths import read_ledger, unit_name
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import SlotError
from ansible_collections.linkrift.platform.tests.unit.slot_fakes import NEW, OLD, SECRET, FakeHost, facts, make_host


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return make_host(tmp_path, "redirect", (0, 0))


def state_level(host: FakeHost, release: str, level: object) -> None:
    host.layout.release_record(release).write_text(json.dumps({"id": release, "schema_level": level}))


def newest(host: FakeHost) -> dict[str, Any]:
    return read_ledger(host.layout.ledger(host.service))[-1]


def refused(host: FakeHost, release: str = OLD) -> dict[str, Any]:
    """Return the evidence of a candidate that did not pass; everything is as it was before."""
    before = facts(host)
    with pytest.raises(SlotError) as failure:
        _slot.candidate(host, release)
    assert facts(host) == before
    assert SECRET not in str(failure.value) + json.dumps(failure.value.evidence)
    return {"msg": str(failure.value), **failure.value.evidence}


@pytest.mark.parametrize("service", ["api", "redirect", "worker"])
def test_a_candidate_passes_all_gates_and_the_ledger_names_them(tmp_path: Path, service: str) -> None:
    host = make_host(tmp_path, service, (0, 0))
    outcome = _slot.candidate(host, OLD)
    assert [(gate.name, gate.verdict) for gate in outcome.gates] == [
        ("ready", "pass"),
        ("smoke", "pass"),
        ("memory", "pass"),
        ("errors", "pass"),
    ]
    assert newest(host)["passed"] == ["process", "version", "ready", "smoke", "memory", "errors"]
    result = work.result_of(outcome)
    assert [gate["name"] for gate in result["gates"]] == ["ready", "smoke", "memory", "errors"]
    assert result["gates"][2]["figures"] == {"mib": 100.0, "processes": 2, "bound_mib": 921.6}
    assert result["gates"][3]["figures"] == {"lines": 0, "allowed": 0.0, "minutes": 1.0}


def test_a_release_that_is_ready_and_answers_errors_does_not_pass(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "answers 500"
    found = refused(host)
    assert "/ping answers 500, not 302" in found["msg"]
    assert found["gate"]["name"] == "smoke"
    assert found["evidence"]["answer"]["body"]["content"] == "password=******** refused"
    assert newest(host)["failed"].startswith("/ping answers 500")


def test_a_release_that_is_right_after_a_while_passes(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "warms up"
    assert _slot.candidate(host, OLD).gates[1].answers == 7


@pytest.mark.parametrize("service", ["api", "redirect"])
def test_a_database_without_the_canary_is_told_with_the_migration(tmp_path: Path, service: str) -> None:
    host = make_host(tmp_path, service, (0, 0))
    host.system.behaviours[OLD] = "no canary"
    state_level(host, OLD, 4)
    assert "Migration 000004_canary of the release makes it" in refused(host)["msg"]


def test_a_release_that_is_older_than_the_canary_is_not_asked_for_it(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "no canary"
    state_level(host, OLD, 3)
    outcome = _slot.candidate(host, OLD)
    smoke = outcome.gates[1]
    assert (smoke.verdict, smoke.passed, smoke.answers) == ("skipped", True, 0)
    assert smoke.reason == f"release {OLD} has schema level 3: the canary is there from level 4 on"
    assert "smoke was skipped: release" in outcome.message
    assert newest(host)["passed"] == ["process", "version", "ready", "memory", "errors"]


@pytest.mark.parametrize("level", [4, None, "3"])
def test_nothing_else_lets_it_off(host: FakeHost, level: object) -> None:
    host.system.behaviours[OLD] = "no canary"
    state_level(host, OLD, level)
    assert refused(host)["gate"]["name"] == "smoke"


def test_an_api_without_its_key_is_no_candidate(tmp_path: Path) -> None:
    host = make_host(tmp_path, "api", (0, 0))
    text = host.layout.rendered_env("api").read_text()
    host.layout.rendered_env("api").write_text(text.replace("LINKRIFT_JWT_SECRET", "LINKRIFT_OTHER"))
    found = refused(host)
    assert "the slot's environment has no LINKRIFT_JWT_SECRET" in found["msg"]
    assert found["gate"]["answers"] == 1


def test_too_much_memory_does_not_pass(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "fat"
    found = refused(host)
    assert "its 2 processes have 950 MiB in use, of 922 MiB at most" in found["msg"]
    assert found["gate"]["figures"] == {"mib": 950.0, "processes": 2, "bound_mib": 921.6}
    host.gates = dataclasses.replace(host.gates, memory_bound=1000)
    assert _slot.candidate(host, OLD).gates[2].figures["bound_mib"] == 1000


def test_a_slot_whose_processes_cannot_be_seen_does_not_pass(host: FakeHost) -> None:
    host.system.use_memory = lambda name, mib: None  # type: ignore[method-assign] # nothing shows up
    found = refused(host)
    assert found["gate"]["verdict"] == "inconclusive"
    assert "no process of linkrift-redirect@blue.service is to be seen" in found["msg"]


def test_errors_do_not_pass_and_are_shown_without_secrets(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "complains"
    found = refused(host)
    assert "1 lines of level error or worse in 1.0 min, 0 are allowed" in found["msg"]
    [line] = found["evidence"]["errors"]
    assert json.loads(line) == {"level": "error", "message": "cannot do this", "password": "********"}


def test_as_many_errors_as_the_rate_allows_pass(host: FakeHost) -> None:
    host.system.behaviours[OLD] = "complains"
    host.gates = dataclasses.replace(host.gates, error_rate=1)
    assert _slot.candidate(host, OLD).gates[3].figures == {"lines": 1, "allowed": 1.0, "minutes": 1.0}


def test_a_journal_that_cannot_be_read_does_not_pass(host: FakeHost) -> None:
    host.system.journal_error = "No journal files were found."
    found = refused(host)
    assert found["gate"]["verdict"] == "inconclusive"
    assert "cannot be read: No journal files were found." in found["msg"]


def test_what_a_candidate_said_before_an_interruption_counts(host: FakeHost) -> None:
    _slot.candidate(host, OLD)
    host.system.complain("cannot do this")
    host.clock.sleep(100)
    with pytest.raises(SlotError, match="1 lines of level error or worse"):
        _slot.candidate(host, OLD)


def test_what_a_warm_slot_said_while_it_was_live_does_not(host: FakeHost) -> None:
    for release in (OLD, NEW):
        _slot.live(host, _slot.admitted(host, _slot.candidate(host, release).slot).slot)
    host.system.complain("cannot do this")
    host.clock.sleep(100)
    outcome = _slot.candidate(host, OLD)
    assert (outcome.slot, outcome.record.changed) == ("blue", False)
    host.system.complain("cannot do this", at=host.clock.time() + 0.3)
    with pytest.raises(SlotError, match="1 lines of level error or worse"):
        _slot.candidate(host, OLD)


def test_a_drained_slot_answers_real_requests_before_it_works_again(host: FakeHost) -> None:
    _slot.live(host, _slot.admitted(host, _slot.candidate(host, OLD).slot).slot)
    _slot.drained(host)
    host.system.complain("the database went away")
    process = host.system.processes[unit_name("redirect", "blue")]
    process.behaviour = "answers 500"
    with pytest.raises(SlotError, match="is not ready: /ping answers 500") as failure:
        _slot.admitted(host)
    assert SECRET not in json.dumps(failure.value.evidence)
    process.behaviour = "good"
    assert _slot.admitted(host).record.changed
