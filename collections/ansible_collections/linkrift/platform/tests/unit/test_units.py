"""Module units: what runs and starts at boot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed
from ansible_collections.linkrift.platform.plugins.module_utils._unit_states import (
    Reads,
    Step,
    UnitsError,
    UnitState,
    apply,
    compare,
    look,
    unread,
)

RUNNING = UnitState(there=True, masked=False, running=True, enabled=True, waived=False)
STATIC = UnitState(there=True, masked=False, running=True, enabled=True, waived=False, fixed=True)
STOPPED = UnitState(there=True, masked=False, running=False, enabled=False, waived=False)
MISSING = UnitState(there=False, masked=False, running=False, enabled=False, waived=False)

SHOW = """\
Id=a.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
ConditionResult=yes
ConditionTimestampMonotonic=1

Id=b.service
LoadState=loaded
ActiveState=inactive
UnitFileState=enabled
ConditionResult=no
ConditionTimestampMonotonic=7

Id=c.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
ConditionResult=no
ConditionTimestampMonotonic=0
"""


def test_the_answer_of_systemd() -> None:
    found = look(["a.service", "b.service", "c.service"], lambda *_: Completed(0, SHOW, ""))
    assert found["a.service"] == RUNNING
    assert found["b.service"] == UnitState(there=True, masked=False, running=False, enabled=True, waived=True)
    assert found["c.service"] == MISSING
    with pytest.raises(UnitsError, match="3 of 1"):
        look(["a.service"], lambda *_: Completed(0, SHOW, ""))
    with pytest.raises(UnitsError, match="no bus"):
        look(["a.service"], lambda *_: Completed(1, "", "no bus"))


@pytest.mark.parametrize("state", ["static", "alias", "generated", "indirect"])
def test_a_unit_that_cannot_be_disabled(state: str) -> None:
    block = SHOW.partition("\n\n")[0].replace("UnitFileState=enabled", f"UnitFileState={state}")
    assert look(["a.service"], lambda *_: Completed(0, block, ""))["a.service"] == STATIC


@pytest.mark.parametrize(
    ("on", "state", "verbs"),
    [
        (True, RUNNING, []),
        (True, STOPPED, ["enable", "start"]),
        (
            True,
            UnitState(there=True, masked=True, running=False, enabled=False, waived=False),
            ["unmask", "enable", "start"],
        ),
        # A container does not keep its own time.
        (True, UnitState(there=True, masked=False, running=False, enabled=True, waived=True), []),
        (False, RUNNING, ["disable", "stop"]),
        # To disable a static unit does nothing, so that it would be done at every run.
        (False, STATIC, ["stop"]),
        (False, replace(STATIC, running=False), []),
        (True, replace(STATIC, running=False), ["start"]),
        (False, STOPPED, []),
        (False, MISSING, []),
    ],
)
def test_the_steps(on: bool, state: UnitState, verbs: list[str]) -> None:
    steps = compare({"x.service": on}, {"x.service": state}, missing_is_fine=False)
    assert [step.verb for step in steps] == verbs


def test_a_unit_that_is_missing() -> None:
    with pytest.raises(UnitsError, match=r"x\.service is not on this host"):
        compare({"x.service": True}, {"x.service": MISSING}, missing_is_fine=False)
    steps = compare({"x.service": True}, {"x.service": MISSING}, missing_is_fine=True)
    assert [step.describe() for step in steps] == ["x.service: enabled", "x.service: started"]


def test_a_step_that_fails_is_said() -> None:
    calls: list[Sequence[str]] = []

    def run(command: Sequence[str], deadline: float) -> Completed:
        calls.append(command)
        return Completed(0 if "enable" in command else 1, "", "no such thing")

    with pytest.raises(UnitsError, match=r"systemctl start x\.service: no such thing"):
        apply([Step("x.service", "enable"), Step("x.service", "start")], run)
    assert calls[0] == ["systemctl", "enable", "--", "x.service"]


READER = """\
Id=a.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
ConditionResult=yes
ConditionTimestampMonotonic=1
NeedDaemonReload=yes
ExecMainStartTimestampMonotonic=5000000
StateChangeTimestampMonotonic=9000000
ReloadResult={result}
"""


@pytest.mark.parametrize(
    ("result", "modified", "restart_for", "reload_for"),
    [
        ("success", 1004.0, "", ""),
        ("success", 1008.0, "restart", ""),
        ("success", 1010.0, "restart", "reload"),
        # A reload that failed has read nothing.
        ("exit-code", 1008.0, "restart", "reload"),
    ],
)
def test_files_that_were_changed_since_they_were_read(
    tmp_path: Path, result: str, modified: float, restart_for: str, reload_for: str
) -> None:
    show = Completed(0, READER.format(result=result), "")
    state = look(["a.service"], lambda *_: show, lambda: 1000.0)["a.service"]
    settings = tmp_path / "settings"
    # One that is not there was not read, and need not be.
    assert unread(state, Reads((str(settings),), (str(settings),))) == ""
    settings.touch()
    os.utime(settings, (modified, modified))
    assert unread(state, Reads(files=(str(settings),))) == restart_for
    assert unread(state, Reads(reloaded_files=(str(settings),))) == reload_for
    steps = compare(
        {"a.service": True},
        {"a.service": state},
        missing_is_fine=False,
        reads={"a.service": Reads(files=(str(settings),))},
    )
    assert [step.verb for step in steps] == ["daemon-reload", *([restart_for] if restart_for else [])]


@pytest.mark.parametrize(("modified", "verbs"), [(1000.5, []), (1008.0, ["start"])])
def test_a_file_that_came_since_may_be_what_a_condition_asks_for(
    tmp_path: Path, modified: float, verbs: list[str]
) -> None:
    blocks = Completed(0, SHOW.split("\n\n")[1].replace("Monotonic=7", "Monotonic=7000000"), "")
    state = look(["b.service"], lambda *_: blocks, lambda: 1000.0)["b.service"]
    settings = tmp_path / "settings"
    settings.touch()
    os.utime(settings, (modified, modified))
    reads = {"b.service": Reads(reloaded_files=(str(settings),))}
    steps = compare({"b.service": True}, {"b.service": state}, missing_is_fine=False, reads=reads)
    assert [step.verb for step in steps] == verbs


def test_what_is_started_now_reads_everything(tmp_path: Path) -> None:
    (tmp_path / "settings").touch()
    reads = {"x.service": Reads(files=(str(tmp_path / "settings"),))}
    steps = compare({"x.service": True}, {"x.service": STOPPED}, missing_is_fine=False, reads=reads)
    assert [step.verb for step in steps] == ["enable", "start"]


def test_unit_files_are_read_again_for_all_units_at_once() -> None:
    stale = UnitState(there=True, masked=False, running=True, enabled=True, waived=False, stale=True)
    steps = compare(
        {"x.service": True, "y.service": True}, {"x.service": stale, "y.service": stale}, missing_is_fine=False
    )
    assert [step.verb for step in steps] == ["daemon-reload"]
    calls: list[Sequence[str]] = []

    def run(command: Sequence[str], deadline: float) -> Completed:
        calls.append(command)
        return Completed(0, "", "")

    apply(steps, run)
    assert calls == [["systemctl", "daemon-reload"]]
