# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When timers run out, as systemctl says it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed, Systemd
from ansible_collections.linkrift.platform.plugins.module_utils._timers import cooling_timer, due_times
from ansible_collections.linkrift.platform.tests.unit.slot_fakes import FakeClock

NAME = cooling_timer("api", "blue")


class HostClock(FakeClock):
    """A host that started 1000 s after the epoch."""

    def time(self) -> float:
        return self.now + 1000


@pytest.mark.parametrize(
    ("said", "due"),
    [
        ("NextElapseUSecRealtime=Sun 2026-11-22 00:00:00 UTC\nNextElapseUSecMonotonic=0", 1795305600),
        ("NextElapseUSecRealtime=\nNextElapseUSecMonotonic=1d 2h 3min 4.400000s", 1000 + 86400 + 7200 + 180 + 4),
        ("NextElapseUSecRealtime=\nNextElapseUSecMonotonic=1h 500ms 500000us", 1000 + 3601),
        ("NextElapseUSecRealtime=\nNextElapseUSecMonotonic=infinity", None),
        ("NextElapseUSecRealtime=n/a\nNextElapseUSecMonotonic=0", None),
    ],
)
def test_a_timer_runs_out_by_the_calendar_or_by_the_time_since_the_start(said: str, due: int | None) -> None:
    commands: list[Sequence[str]] = []

    def systemctl(command: Sequence[str], deadline: float) -> Completed:
        commands.append(command)
        return Completed(
            0, f"Id=other.timer\nActiveState=inactive\n{said}\n\nId={NAME}\nActiveState=active\n{said}\n", ""
        )

    found = due_times(Systemd(systemctl), [NAME, "other.timer"], HostClock())
    assert found == ({} if due is None else {NAME: due})
    assert len(commands) == 1, "one question for all"
    assert commands[0][-2:] == [NAME, "other.timer"]
