"""Start a command, and kill it with everything it started at some moment, as a control node dies that loses its power.

    python -m tools.testing.killed SECONDS LOG COMMAND [ARGUMENT ...]

Prints what it did as JSON. Ansible's workers have sessions of their own: killing the process group would miss them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


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


def kill_all(root: int) -> set[int]:
    """Kill a process and all that descend from it, and return them; none of them starts another one meanwhile."""
    stopped: set[int] = set()
    while new := family(root) - stopped:
        _send(new, signal.SIGSTOP)
        stopped |= new
    _send(stopped, signal.SIGKILL)
    return stopped


def run(command: list[str], seconds: float, log: Path) -> dict[str, object]:
    """Run a command for some seconds at most, and tell how it ended.

    Returns:
        `rc` is null when it was killed, `killed` the number of its processes then; `task` is Ansible's last one.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
        rc: int | None = None
        killed: set[int] = set()
        try:
            rc = process.wait(seconds)
        except subprocess.TimeoutExpired:
            killed = kill_all(process.pid)
            process.wait()
    tasks = [
        line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith("TASK [")
    ]
    return {"seconds": seconds, "rc": rc, "killed": len(killed), "task": tasks[-1].rstrip(" *") if tasks else ""}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[3:], float(sys.argv[1]), Path(sys.argv[2]))))
