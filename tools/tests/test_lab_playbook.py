"""Whoever waits sees what runs; whoever met a failure sees the task, the host and the reason."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from tools.lab import LabToolError
from tools.lab.playbook import Failure, failures, run_logged
from tools.lab.progress import Progress

OUTPUT = """\
PLAY [Something] ***************************************************************

TASK [one : Install packages] **************************************************
changed: [app1]
fatal: [app2]: FAILED! =>
    changed: false
    msg: |-
        No package matching 'x'
        is available
    rc: 1

TASK [two : Tolerated] *********************************************************
fatal: [app1]: FAILED! =>
    msg: never mind
...ignoring

RUNNING HANDLER [two : Restart it] *********************************************
fatal: [app3]: UNREACHABLE! =>
    changed: false
    msg: 'Failed to connect'
    unreachable: true
failed: [lb1] (item=api) =>
    item: api
    stderr: no message here

PLAY RECAP *********************************************************************
app1 : ok=1 changed=1 unreachable=0 failed=0
"""


def test_finds_each_failed_task_with_host_and_reason() -> None:
    assert failures(OUTPUT) == [
        Failure("one : Install packages", "app2", "No package matching 'x'\nis available"),
        Failure("two : Restart it", "app3", "Failed to connect"),
        Failure("two : Restart it", "lb1", "item: api\nstderr: no message here"),
    ]


def program(tmp_path: Path, code: str) -> list[str]:
    (tmp_path / "program.py").write_text(code)
    return [sys.executable, str(tmp_path / "program.py")]


def test_keeps_everything_in_a_log_for_its_owner(tmp_path: Path) -> None:
    progress = Progress(io.StringIO())
    log = tmp_path / "logs" / "x.log"
    with progress.stage("x") as stage:
        command = program(tmp_path, "import sys; print('TASK [do this] ****'); print('bad', file=sys.stderr)")
        assert sorted(run_logged(command, log=log, stage=stage).split("\n")) == ["", "TASK [do this] ****", "bad"]
        assert stage.doing == "do this"
    assert "bad" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_failed_playbook_is_told_in_a_few_lines(tmp_path: Path) -> None:
    progress = Progress(io.StringIO())
    log = tmp_path / "x.log"
    with progress.stage("x") as stage, pytest.raises(LabToolError) as raised:
        run_logged(program(tmp_path, f"print({OUTPUT!r}); raise SystemExit(2)"), log=log, stage=stage)
    lines = str(raised.value).splitlines()
    assert lines[0] == "task 'one : Install packages' failed on app2:"
    assert lines[1] == "  No package matching 'x'"
    assert lines[-1] == f"all of it: {log}"


def test_a_failed_program_is_told_by_its_last_lines(tmp_path: Path) -> None:
    progress = Progress(io.StringIO())
    with progress.stage("x") as stage, pytest.raises(LabToolError, match=r"b\nc\nd\nall of it"):
        run_logged(program(tmp_path, "print('a\\nb\\nc\\n\\nd'); raise SystemExit(1)"), log=tmp_path / "x", stage=stage)


def test_every_stage_has_its_line(tmp_path: Path) -> None:
    out = io.StringIO()
    progress = Progress(out)

    def fail() -> None:
        with progress.stage("second") as stage:
            stage.result = "half"
            raise LabToolError("no")

    with progress.stage("first") as stage:
        stage.result = "fine"
    with pytest.raises(LabToolError):
        fail()
    first, second = out.getvalue().splitlines()
    # How long it took is the machine's business.
    assert re.fullmatch(r"first +\d+\.\d s +fine", first.strip())
    assert re.fullmatch(r"second +\d+\.\d s +failed +half", second.strip())


def test_a_terminal_sees_what_runs_and_then_the_result_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.lab.progress._TICK_SECONDS", 0.01)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with Progress(out).stage("long") as stage:
        stage.doing = "this"
        while "this" not in out.getvalue():
            stage._over.wait(0.01)
    assert out.getvalue().split("\r\x1b[K")[-1].split() == ["long", "0.0", "s"]


def test_a_log_gets_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.lab.progress._TICK_SECONDS", 0.01)
    monkeypatch.setattr("tools.lab.progress._QUIET_SECONDS", 0.0)
    out = io.StringIO()
    with Progress(out).stage("long") as stage:
        stage.doing = "this"
        while "this" not in out.getvalue():
            stage._over.wait(0.01)
    assert "long" in out.getvalue().splitlines()[0]
