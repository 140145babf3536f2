"""Start a command, and kill it with everything it started at some moment, as a control node dies that loses its power.

    python -m tools.testing.killed SECONDS LOG [--when WATCH] COMMAND [ARGUMENT ...]

It is killed after so many seconds, or as soon as WATCH, a line for the shell, has ended with 0. Prints what it did as
JSON. Ansible's workers have sessions of their own: killing the process group would miss them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

POLL_SECONDS = 0.01
# Until a process has stopped that was told to.
STOP_SECONDS = 1.0


def family(root: int, proc: Path = Path("/proc")) -> set[int]:
    """Return a process and all that descend from it."""
    parents: dict[int, int] = {}
    for stat in proc.glob("[0-9]*/stat"):
        # One that ended meanwhile is no matter. Its name may have blanks and brackets.
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(
                stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
            )
    found = {root}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _goes_on(pid: int) -> bool:
    """Tell whether a process does anything still, with any of its threads."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            # proc(5): T and t are stopped, Z and X have ended.
            if stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] not in "TtZX":
                return True
    return False


def kill_all(root: int) -> set[int]:
    """Kill a process and all that descend from it, and return them; none of them starts another one meanwhile."""
    stopped: set[int] = set()
    while new := family(root) - stopped:
        _send(new, signal.SIGSTOP)
        # A signal is on its way for a moment: who is just starting a process ends that first, and nobody would find it.
        # Who waits for a new process to become another program (vfork(2)) is not stopped while that one is.
        end = time.monotonic() + STOP_SECONDS
        while any(map(_goes_on, new)) and time.monotonic() < end:
            time.sleep(POLL_SECONDS / 10)  # between two looks
        stopped |= new
    _send(stopped, signal.SIGKILL)
    return stopped


def _wait(process: subprocess.Popen[bytes], seconds: float, watch: str) -> tuple[int | None, bool]:
    """Return how a process ended, and whether the watch has; None: it was not over by then."""
    end = time.monotonic() + seconds
    watching = subprocess.Popen(["/bin/sh", "-c", watch or "exec sleep infinity"], stdin=subprocess.DEVNULL)
    try:
        while (rc := process.poll()) is None:
            if watching.poll() == 0:
                return None, True
            if time.monotonic() >= end:
                return None, False
            time.sleep(POLL_SECONDS)
        return rc, False
    finally:
        kill_all(watching.pid)
        watching.wait()


def run(command: list[str], seconds: float, log: Path, watch: str = "") -> dict[str, object]:
    """Run a command for some seconds at most, or until a watch ends, and tell how it ended.

    Returns:
        `rc` is null when it was killed, `killed` the number of its processes then, `watched` tells whether for the
        watch; `task` is Ansible's last one.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
        killed: set[int] = set()
        rc, watched = _wait(process, seconds, watch)
        if rc is None:
            killed = kill_all(process.pid)
            process.wait()
    tasks = [
        line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith("TASK [")
    ]
    return {
        "seconds": seconds,
        "rc": rc,
        "killed": len(killed),
        "watched": watched,
        "task": tasks[-1].rstrip(" *") if tasks else "",
    }


if __name__ == "__main__":
    seconds, log, *command = sys.argv[1:]
    watch = ""
    if command[0] == "--when":
        _when, watch, *command = command
    print(json.dumps(run(command, float(seconds), Path(log), watch)))
