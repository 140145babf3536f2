"""What a killed command started is gone with it, even with a session of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tools.testing.killed import family, kill_all, run

# A child in a session of its own, as Ansible's workers are.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_all_of_it_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert kill_all(parent.pid) == {parent.pid, child}
    end = time.monotonic() + 20
    # Nobody waits for what has lost its parent, so it may be a moment until it is gone.
    while is_running(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_running(child)


# Starting a process takes a large one a while, and is not over at once when it is told to stop.
STARTING = """
import os, subprocess, sys, time
room = bytearray(300 << 20)
print(os.getpid(), flush=True)
while True:
    {start}
"""
FORK = "os.fork() or (time.sleep(60), os._exit(0))"  # a child has only to be there until it is killed
# The starting one waits until the new one is another program.
VFORK = "subprocess.Popen(['sleep', '60'])"


@pytest.mark.parametrize("start", [FORK, VFORK], ids=["fork", "vfork"])
def test_who_is_just_starting_a_process_leaves_none(tmp_path: Path, start: str) -> None:
    mark = f"KILLED_MARK={tmp_path}"
    command = [sys.executable, "-c", STARTING.format(start=start)]
    for number in range(8):
        environment = {"KILLED_MARK": str(tmp_path), "PATH": os.environ["PATH"]}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
            assert parent.stdout is not None
            parent.stdout.readline()
            time.sleep(0.02 + number * 0.003)  # so that the moments differ
            killed = kill_all(parent.pid)
        left = set()
        for file in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mark.encode() in file.read_bytes():
                    left.add(int(file.parent.name))
        assert left <= killed, "those that were killed may be a moment in ending"


def test_what_lasts_longer_is_killed(tmp_path: Path) -> None:
    found = run([sys.executable, "-c", "import time; time.sleep(60)"], 0.1, tmp_path / "log")
    assert (found["rc"], found["killed"]) == (None, 1)


def test_what_ends_in_time_is_left_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('TASK [Begin] ****\\nTASK [End] ****\\nok'); raise SystemExit(3)"]
    assert run(command, 20.0, tmp_path / "log") == {
        "seconds": 20.0,
        "rc": 3,
        "killed": 0,
        "watched": False,
        "task": "TASK [End]",
    }


def test_it_is_killed_when_a_watch_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"import time; open({str(tmp_path / 'there')!r}, 'w'); time.sleep(60)"]
    watch = f"until test -e {tmp_path / 'there'}; do sleep 0.01; done"
    found = run(command, 20.0, tmp_path / "log", watch)
    assert (found["rc"], found["killed"], found["watched"]) == (None, 1, True)


def test_a_watch_that_fails_or_outlasts_it_kills_nothing(tmp_path: Path) -> None:
    for watch in ("exit 1", "sleep 60"):
        found = run([sys.executable, "-c", ""], 20.0, tmp_path / "log", watch)
        assert (found["rc"], found["watched"]) == (0, False)


def test_a_family_is_found_by_names_with_brackets_too(tmp_path: Path) -> None:
    for pid, parent in ((10, 1), (11, 10), (12, 11), (13, 1)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) (b c) S {parent} 0 0", encoding="utf-8")
    assert family(10, tmp_path) == {10, 11, 12}
