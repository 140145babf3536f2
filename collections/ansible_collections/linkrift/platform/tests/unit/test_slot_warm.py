# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What served before: kept warm, stopped by the host's own timer, brought back, or undone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _slot
from ansible_collections.linkrift.platform.plugins.module_utils._paths import read_ledger
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import SlotError
from ansible_collections.linkrift.platform.tests.unit.slot_fakes import NEW, OLD, FakeHost, facts, make_host

TIMER = "linkrift-cool-redirect-blue.timer"
PORTS = (18081, 18181)


def bring_up(host: FakeHost, release: str) -> None:
    slot = _slot.candidate(host, release, replace=True).slot
    _slot.admitted(host, slot)
    _slot.live(host, slot)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """A host that was moved from blue to green."""
    monkeypatch.setattr(_slot.steps, "taken_by", lambda _address, _port: None)
    host = make_host(tmp_path, "redirect", PORTS)
    bring_up(host, OLD)
    bring_up(host, NEW)
    return host


def run_timer(host: FakeHost, path: Path) -> list[str]:
    """Let the timer run out, with a systemctl that only notes what it is asked."""
    programs = path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {path}/calls\n')
    (programs / "systemctl").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(host.system.scheduled[TIMER], check=True, env=environment)
    return (path / "calls").read_text().splitlines() if (path / "calls").exists() else []


def test_what_served_before_stays_until_its_timer_stops_it(host: FakeHost, tmp_path: Path) -> None:
    outcome = _slot.warm(host, seconds=300)
    assert outcome.record.steps == ["cool"]
    assert facts(host)["states"] == {"blue": "active", "green": "active"}
    assert not _slot.warm(host).record.changed, "a second run leaves the timer as it is"
    assert run_timer(host, tmp_path) == ["stop -- linkrift-redirect@blue.service"]
    assert facts(host)["admitted"] == ["green.admitted"]
    last = read_ledger(host.layout.ledger("redirect"))[-1]
    assert {name: last[name] for name in ("service", "slot", "release", "action", "by")} == {
        "service": "redirect",
        "slot": "blue",
        "release": OLD,
        "action": "stopped",
        "by": "warm timer",
    }


def test_a_timer_that_failed_is_no_obstacle_and_what_runs_is_one_line(host: FakeHost) -> None:
    host.system.states[TIMER] = "failed"
    assert _slot.warm(host).record.changed
    [shell, script] = host.system.scheduled[TIMER]
    assert shell == "/bin/sh"
    assert (Path(script).stat().st_mode & 0o777, Path(script).parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_timer_that_was_overtaken_leaves_the_live_slot_alone(host: FakeHost, tmp_path: Path) -> None:
    _slot.warm(host)
    timer = dict(host.system.scheduled)
    _slot.live(host, "blue")
    assert host.system.scheduled == {}
    host.system.scheduled = timer
    assert run_timer(host, tmp_path) == []
    assert facts(host)["admitted"] == ["blue.admitted", "green.admitted"]


@pytest.mark.parametrize("wish", ["candidate", "admitted", "live", "stopped"])
def test_whatever_is_decided_about_the_slot_ends_its_timer(host: FakeHost, wish: str) -> None:
    _slot.warm(host)
    if wish == "candidate":
        outcome = _slot.candidate(host, OLD)
    elif wish == "admitted":
        outcome = _slot.admitted(host, "blue")
    elif wish == "live":
        outcome = _slot.live(host, "blue")
    else:
        outcome = _slot.stopped(host)
    assert "keep" in outcome.record.steps
    assert host.system.scheduled == {}
    assert facts(host)["states"]["blue"] == ("inactive" if wish == "stopped" else "active")


def test_the_live_slot_and_workers_are_not_kept_warm(host: FakeHost, tmp_path: Path) -> None:
    with pytest.raises(SlotError, match="green is the live slot"):
        _slot.warm(host, "green")
    worker = make_host(tmp_path / "other", "worker", (18082, 18182))
    with pytest.raises(SlotError, match="worker is not kept warm"):
        _slot.warm(worker)
    bare = make_host(tmp_path / "bare", "api", (18080, 18180))
    with pytest.raises(SlotError, match="nothing is live"):
        _slot.warm(bare)


def test_nothing_runs_beside_the_live_slot_so_nothing_is_kept(host: FakeHost) -> None:
    _slot.stopped(host)
    assert not _slot.warm(host).record.changed


def test_a_dry_run_arms_nothing(host: FakeHost) -> None:
    assert _slot.warm(host, check=True).record.changed
    assert host.system.scheduled == {}


def test_a_warm_slot_is_replaced_only_when_the_caller_says_so(host: FakeHost) -> None:
    _slot.warm(host)
    third = "1.2.0+cccccccccccc"
    host.layout.release(NEW).rename(host.layout.release(third))
    (host.layout.release(third) / "release.json").write_text(f'{{"id": "{third}"}}')
    with pytest.raises(SlotError, match="visitors may be on it"):
        _slot.candidate(host, third)
    outcome = _slot.candidate(host, third, replace=True)
    assert outcome.slot == "blue"
    assert outcome.record.steps.index("stop") < outcome.record.steps.index("start")
    assert host.system.scheduled == {}


def test_what_was_undone_is_noted_once_and_only_where_it_is(host: FakeHost) -> None:
    _slot.live(host, "blue")
    _slot.stopped(host, "green", undone="it answered 500", release=NEW)
    _slot.stopped(host, "green", undone="it answered 500", release=NEW)
    _slot.stopped(host, "green", undone="it answered 500", release=OLD)
    noted = [entry for entry in read_ledger(host.layout.ledger("redirect")) if entry["action"] == "undone"]
    assert [(entry["slot"], entry["release"], entry["failed"]) for entry in noted] == [
        ("green", NEW, "it answered 500")
    ]


def test_a_worker_that_makes_room_gives_its_work_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run was killed after the handover, and another release is wished now."""
    monkeypatch.setattr(_slot.steps, "taken_by", lambda _address, _port: None)
    worker = make_host(tmp_path, "worker", (18082, 18182))
    bring_up(worker, OLD)
    _slot.candidate(worker, NEW)
    _slot.admitted(worker, "green")
    assert facts(worker)["admitted"] == ["green.admitted"]
    outcome = _slot.candidate(worker, OLD, "green", replace=True)
    assert outcome.slot == "green"
    assert facts(worker)["admitted"] == ["blue.admitted"], "the live one works meanwhile"
