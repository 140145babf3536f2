# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed, Systemd, SystemdError
from ansible_collections.linkrift.platform.plugins.module_utils._unit_load import (
    Run,
    current_run,
    error_lines,
    resident,
)

UNIT = "linkrift-api@blue.service"


def entry(message: object, *, priority: int = 6, at: float = 2000.0, cursor: str = "") -> dict[str, Any]:
    return {
        "__CURSOR": cursor or f"{message}{at}",
        "__REALTIME_TIMESTAMP": str(int(at * 1_000_000)),
        "PRIORITY": str(priority),
        "MESSAGE": message,
    }


def lines_of(*entries: dict[str, Any], since: float = 1000.0) -> list[str]:
    """Return what is found in a journal whose filters let everything through."""
    text = "".join(f"{json.dumps(found)}\n" for found in entries)
    return error_lines(Systemd(lambda command, deadline: Completed(0, text, "")), UNIT, since)


@pytest.mark.parametrize(
    ("message", "bad"),
    [
        ('{"level": "error", "message": "x"}', True),
        ('{"level":"critical"}', True),
        ('{"level": "warning", "message": "\\"level\\": \\"error\\""}', False),
        ('{"message": "x"}', False),
        ('["level"]', False),
        ("2026-11-22 07:00:00,123 ERROR linkrift.api a request failed", True),
        ("2026-11-22 07:00:00,123 INFO linkrift.api no ERROR at all", False),
        ("Asked for /2026-11-22 07:00:00,123 ERROR x", False),
        ("Traceback (most recent call last):", True),
        ("Stopped the service.", False),
        (list(b'{"level": "error", "path": "\xff"}'), True),
        (None, False),
    ],
)
def test_what_is_a_complaint(message: object, bad: bool) -> None:
    assert len(lines_of(entry(message))) == bad


def test_what_systemd_says_at_that_level_is_one_too() -> None:
    assert lines_of(entry("Failed with result 'oom-kill'.", priority=3)) == ["Failed with result 'oom-kill'."]
    assert lines_of(entry("Scheduled restart job", priority=4)) == []


def test_a_line_that_both_questions_find_counts_once_and_order_is_kept() -> None:
    second, first = entry("b", priority=3, at=2001), entry("a", priority=2, at=2000)
    assert lines_of(second, first, second) == ["a", "b"]


def test_the_moment_counts_not_the_second() -> None:
    assert lines_of(entry("before", priority=3, at=1000.3), entry("after", priority=3, at=1000.6), since=1000.5) == [
        "after"
    ]


def test_the_journal_is_asked_for_what_was_said_just_now() -> None:
    commands: list[Sequence[str]] = []

    def run(command: Sequence[str], deadline: float) -> Completed:
        commands.append(command)
        # As journalctl does when it finds nothing.
        return Completed(1, "", "")

    assert error_lines(Systemd(run), UNIT, 1000.9) == []
    assert commands[0] == ["journalctl", "--sync"]
    for command, last in zip(commands[1:], ("--priority=err", "--case-sensitive=true"), strict=True):
        assert {"--since=@1000", f"--unit={UNIT}", "--output=json", "--all"} <= set(command)
        assert command[-1] == last


@pytest.mark.parametrize("trouble", [OSError("no program"), TimeoutError("too long"), None])
def test_a_journal_that_cannot_be_read_is_an_error(trouble: Exception | None) -> None:
    def run(command: Sequence[str], deadline: float) -> Completed:
        if trouble:
            raise trouble
        return Completed(1, "", "No journal files were found.")

    with pytest.raises(SystemdError, match=r"the journal of linkrift-api@blue\.service cannot be read"):
        error_lines(Systemd(run), UNIT, 0)


@pytest.mark.parametrize(
    ("memory", "bound"), [("1073741824", 921.6), ("infinity", None), ("", None), ("[not set]", None)]
)
def test_the_run_of_a_unit(memory: str, bound: float | None) -> None:
    text = f"Id={UNIT}\nMainPID=42\nExecMainStartTimestampMonotonic=1500000\nMemoryMax={memory}\n"
    run = current_run(Systemd(lambda command, deadline: Completed(0, text, "")), UNIT)
    assert (run.pid, run.started, run.memory_bound) == (42, 1.5, bound)


def test_a_unit_that_does_not_run() -> None:
    assert current_run(Systemd(lambda command, deadline: Completed(0, f"Id={UNIT}\n", "")), UNIT) == Run(0, 0.0, None)


def test_memory_is_that_of_all_processes_of_the_unit(tmp_path: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    groups = {
        "10": f"0::/system.slice/{UNIT}\n",
        "11": f"12:pids:/system.slice/{UNIT}\n1:name=systemd:/system.slice/{UNIT}/child\n0::/\n",
        "12": "0::/system.slice/linkrift-api@green.service\n",
        "13": f"0::/system.slice/x{UNIT}\n",
    }
    for pid, text in groups.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cgroup").write_text(text)
        (tmp_path / pid / "statm").write_text(f"900 {1024 * 1024 // page} 1 1 0 1 0\n")
    (tmp_path / "14").mkdir()
    (tmp_path / "14/cgroup").write_text(groups["10"])  # it ended before it was weighed
    (tmp_path / "self").mkdir()
    assert resident(UNIT, tmp_path) == (2.0, 2)
