"""Run programs that take long: all they say goes to a file, what matters of it to the person waiting."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.lab import ROOT, LabToolError
from tools.lab.progress import Stage

_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.+?)\] \**$")
_FAILED = re.compile(r"^(?:fatal|failed): \[([^\] ]+)[^\]]*\]")
_LONGEST_MESSAGE = 8


@dataclass(frozen=True)
class Failure:
    """A task that failed on a host.

    Attributes:
        task: Its name.
        host: The host.
        words: What it said.
    """

    task: str
    host: str
    words: str


def failures(output: str) -> list[Failure]:
    """Find in the output of ansible-playbook which task failed where, and why.

    Args:
        output: All of it, in the default callback's format with YAML results.
    """
    found = []
    task = ""
    lines = output.splitlines()
    for number, line in enumerate(lines):
        named = _TASK.match(line)
        failed = _FAILED.match(line)
        if named:
            task = named[1]
        elif failed:
            block = list(itertools.takewhile(lambda following: following.startswith(" "), lines[number + 1 :]))
            after = lines[number + 1 + len(block) : number + 2 + len(block)]
            if after != ["...ignoring"]:
                found.append(Failure(task, failed[1], _message(block)))
    return found


def _deeper_than(indent: int, lines: Sequence[str]) -> list[str]:
    """The lines until one that is not indented further."""
    return list(itertools.takewhile(lambda line: line.startswith(" " * (indent + 1)), lines))


def _message(block: Sequence[str]) -> str:
    """The `msg` of a result in YAML, or its first lines when it has none."""
    for number, line in enumerate(block):
        match = re.match(r"^( +)msg: ?(.*)$", line)
        if match:
            more = _deeper_than(len(match[1]), block[number + 1 :])
            first = [] if match[2] in ("|-", "|", ">-", ">", "") else [match[2].strip("'\"")]
            return "\n".join([*first, *(following.strip() for following in more)][:_LONGEST_MESSAGE])
    return "\n".join(line.strip() for line in block[:_LONGEST_MESSAGE])


def run_logged(argv: Sequence[str], *, log: Path, stage: Stage) -> str:
    """Run a program of this project's, show its current task as the stage's, and return all that it said.

    Its output goes to the log, for its owner only, as it comes. Interrupting us interrupts it, and waits for it.

    Args:
        argv: The program and its arguments.
        log: Where its output goes; an earlier one is replaced.
        stage: The stage that it is.

    Raises:
        LabToolError: It failed; the text says what did, and where the log is.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Ansible refuses to run in a locale that is not UTF-8.
    own = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8"}
    environment = {**os.environ, **own}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}"
    said = []
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with (
        os.fdopen(descriptor, "w", encoding="utf-8") as file,
        subprocess.Popen(
            list(argv),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                file.write(line)
                file.flush()
                said.append(line)
                task = _TASK.match(line.strip())
                stage.doing = task[1] if task else stage.doing or line.strip()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            raise
    output = "".join(said)
    if process.returncode != 0:
        raise LabToolError(_explanation(output, log))
    return output


def _explanation(output: str, log: Path) -> str:
    """What to tell about a program that failed."""
    found = failures(output)
    if not found:
        last = [line.strip() for line in output.splitlines() if line.strip()][-3:]
        return "\n".join([*(last or ["it said nothing"]), f"all of it: {log}"])
    lines = []
    for failure in found[:3]:
        lines.append(f"task {failure.task!r} failed on {failure.host}:")
        lines += [f"  {line}" for line in failure.words.splitlines()]
    if len(found) > 3:
        lines.append(f"and {len(found) - 3} more")
    return "\n".join([*lines, f"all of it: {log}"])
