"""Module units: what runs and starts at boot."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed
from ansible_collections.linkrift.platform.plugins.module_utils._unit_states import (
    Step,
    UnitsError,
    UnitState,
    apply,
    compare,
    look,
)

RUNNING = UnitState(there=True, masked=False, running=True, enabled=True, waived=False)
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
