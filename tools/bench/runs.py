"""Runs a playbook as an operator does, and knows when each of its tasks was at work."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bench import moments
from tools.bench.lab import Lab, Run, command, parse_recap
from tools.bench.moments import Task
from tools.lab import ROOT, LabToolError
from tools.testing.killed import kill_all

LONGEST_SECONDS = 900.0
_POLL_SECONDS = 0.01
_REST_SECONDS = 0.1

Watch = Callable[[Sequence[Task], float], bool]
"""Looks at the tasks so far and at the time; True: kill the whole run now."""


@dataclass(frozen=True)
class Ended:
    """A run of a playbook that is over.

    Attributes:
        rc: Its exit status; None when it was killed.
        output: What it said.
        began: Seconds since the epoch.
        ended: The same.
        tasks: What it did when.
    """

    rc: int | None
    output: str
    began: float
    ended: float
    tasks: Sequence[Task]

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began

    @property
    def words(self) -> str:
        """What it said, as one line: Ansible breaks long ones."""
        return " ".join(self.output.split())

    @property
    def recap(self) -> Run:
        """Its recap."""
        return parse_recap(self.output, self.seconds, 0.0)

    def fine(self, what: str) -> Ended:
        """Return itself when it succeeded.

        Raises:
            LabToolError: It did not.
        """
        if self.rc != 0:
            raise LabToolError(f"{what} ended with {self.rc}:\n{self.output[-4000:]}")
        return self


def operate(lab: Lab, name: str, variables: Mapping[str, object], log: Path, watch: Watch | None = None) -> Ended:
    """Run one of the playbooks; it is killed when it takes too long.

    Args:
        lab: Where.
        name: Such as `deploy`, of the directory `playbooks`; or a path to one elsewhere.
        variables: For `-e`.
        log: Where its output goes; the tasks' moments go beside it.
        watch: Asked again and again while it runs.

    Raises:
        LabToolError: It took too long.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    file = log.with_suffix(".moments")
    file.unlink(missing_ok=True)
    path = name if "/" in name else f"playbooks/{name}.yml"
    own = {
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CALLBACK_PLUGINS": str(moments.CALLBACKS),
        "ANSIBLE_CALLBACKS_ENABLED": "moments",
        "LINKRIFT_MOMENTS": str(file),
    }
    reader = moments.Reader(file)
    began = time.time()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command(path, "-i", lab.inventory, "-e", json.dumps(dict(variables))),
            cwd=ROOT,
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            rc = _follow(process, reader, watch)
        except BaseException:
            kill_all(process.pid)
            process.wait()
            raise
    output = log.read_text(encoding="utf-8", errors="replace")
    return Ended(rc, output, began, time.time(), reader.look())


def _follow(process: subprocess.Popen[bytes], reader: moments.Reader, watch: Watch | None) -> int | None:
    """Wait for the end, or until it is to be killed; return the exit status, None when it was killed."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while (rc := process.poll()) is None:
        if time.monotonic() > deadline:
            raise LabToolError(f"{process.args!r} took more than {LONGEST_SECONDS:.0f} s")
        if watch and watch(reader.look(), time.time()):
            # Its process group would not be all of it: Ansible's workers have sessions of their own.
            kill_all(process.pid)
            process.wait()
            return None
        time.sleep(_POLL_SECONDS if watch else _REST_SECONDS)
    return rc


def at_task(number: int, seconds: float) -> Watch:
    """Return a watch that kills some seconds after a task has begun."""

    def due(tasks: Sequence[Task], now: float) -> bool:
        return len(tasks) > number and now >= tasks[number].began + seconds

    return due
