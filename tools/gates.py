"""The gates a change must pass: linters, unit tests, tests on real servers, scenarios on real hosts.

    python -m tools.gates check     linters and unit tests
    python -m tools.gates test      all of them
    python -m tools.gates NAME ...  the named ones

Gates that do not need each other run side by side, as many as there are processors. Each says its time; the output of
one that fails is shown whole, and what long ones say is shown at once, with the minutes since they began. They end with
why gates failed, in a few lines each, and `N passed, M failed`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
COLLECTION = "collections/ansible_collections/linkrift/platform"
TYPED = ("app/src", f"{COLLECTION}/plugins", "molecule/shared/plugins", "tools")
PLAYBOOKS = tuple(str(path.relative_to(ROOT)) for path in sorted((ROOT / "playbooks").glob("*.yml")))
MIGRATIONS = tuple(
    str(path.relative_to(ROOT)) for path in sorted((ROOT / "app/migrations/postgresql").glob("*.up.sql"))
)
PYTHON = (*TYPED, "conftest.py", "app/tests", f"{COLLECTION}/tests", "molecule")


# What pytest, Ansible, linters and compilers begin a line with that says why they fail.
REASON = re.compile(r"(FAILED |ERROR )?\S+\.py::\S|E {2,}\S|(fatal|failed): \[|\S+:\d+:(\d+:)? |ERROR[: ]|CRITICAL ")
# Molecule breaks what its commands say into lines of this width.
COLUMNS = "160"
DECORATION = re.compile(r"\x1b\[[0-9;]*m|[│\r\n]")


@dataclass(frozen=True)
class Gate:
    """One command that must succeed.

    Attributes:
        name: What the table and the command line call it.
        command: The command; its first word is looked up beside this Python first.
        environment: Variables on top of the machine's own.
        stream: Show the output as it comes instead of only when it fails (long gates).
        waits: It mostly waits for its hosts, so that it takes no processor from the gates beside it.
        idle: It gets what the gates beside it leave of the processors (sched(7), SCHED_IDLE).
    """

    name: str
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    stream: bool = False
    waits: bool = False
    idle: bool = False


def coverage(name: str, *arguments: str) -> tuple[Sequence[str], dict[str, str]]:
    """Return a pytest command that records coverage in a file of its own, and its environment."""
    command = ("python", "-m", "coverage", "run", "-m", "pytest", "-q", *arguments)
    return command, {"COVERAGE_FILE": f".coverage.{name}"}


QUICK = (
    Gate("ruff", ("ruff", "check", *PYTHON)),
    Gate("ruff-format", ("ruff", "format", "--check", *PYTHON)),
    Gate("mypy", ("mypy", *TYPED)),
    Gate("bandit", ("bandit", "-q", "-c", "pyproject.toml", "-r", *TYPED)),
    Gate("yamllint", ("yamllint", "--strict", ".")),
    # What it looks for, and what not: .squawk.toml.
    Gate("squawk", ("squawk", *MIGRATIONS)),
    Gate("syntax", ("ansible-playbook", "--syntax-check", "-i", "inventories/production", *PLAYBOOKS)),
)
UNIT = Gate("unit", *coverage("unit", "-m", "not servers", "app/tests", f"{COLLECTION}/tests"))
# Nothing of what it tries is in the coverage, whose tracer takes a third of the time.
TOOLS = Gate("tools", ("python", "-m", "pytest", "-q", "tools/tests"))
PATIENT = (
    Gate("sanity", ("python", "-m", "tools.sanity"), idle=True),
    Gate("ansible-lint", ("ansible-lint",), idle=True),
)
# Sanity and unit tests again, so not beside them.
NEWEST = Gate("newest-core", ("python", "-m", "tools.newest"))
SERVERS = Gate("servers", *coverage("servers", "-m", "servers"))
COVERED = Gate(
    "coverage",
    ("bash", "-c", "coverage combine -q .coverage.unit .coverage.servers && coverage report --format=total"),
)
SMALL = Gate("molecule-small", ("molecule", "test", "--scenario-name", "small"), stream=True, waits=True)
DEFAULT = Gate("molecule-default", ("molecule", "test", "--scenario-name", "default"), stream=True)

# Gates of one stage run side by side; the next stage begins when they are done. What finds most mistakes in the least
# time comes first. The smaller scenario counts no visitors, so others may work beside it; beside the larger one, only
# what is content with its pauses: it is away by the time that visitors are counted, or takes nothing from them.
CHECK: tuple[tuple[Gate, ...], ...] = (QUICK, (UNIT, TOOLS, *PATIENT), (NEWEST,))
TEST: tuple[tuple[Gate, ...], ...] = (
    QUICK,
    (SMALL, SERVERS, UNIT, TOOLS),
    (COVERED, NEWEST),
    (DEFAULT, *PATIENT),
)
ALL = {gate.name: gate for stage in TEST for gate in stage}


@dataclass(frozen=True)
class Result:
    """What came of a gate: the last of what it said in `reasons`, if it failed."""

    gate: Gate
    failed: bool
    reasons: Sequence[str] = ()


def reasons(lines: Iterable[str], most: int = 12) -> list[str]:
    """Return the last lines that say why something fails, or just the last ones when none does: `most` of them."""
    plain = [line for line in (DECORATION.sub("", line).strip()[:300] for line in lines) if line]
    return ([line for line in plain if REASON.match(line)] or plain)[-most:]


def run(gate: Gate) -> Result:
    """Run a gate, and print what came of it."""
    environment = {"COLUMNS": COLUMNS} | os.environ | gate.environment | {"PATH": f"{BIN}:{os.environ.get('PATH', '')}"}
    program = shutil.which(gate.command[0], path=environment["PATH"]) or gate.command[0]
    began, worked = time.monotonic(), processor_seconds()
    said: list[str] = []
    with subprocess.Popen(
        [*(("chrt", "--idle", "0") if gate.idle else ()), program, *gate.command[1:]],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            if gate.stream:
                minutes, seconds = divmod(int(time.monotonic() - began), 60)
                print(f"{minutes:02}:{seconds:02} {line}", end="", flush=True)
    elapsed = time.monotonic() - began
    failed = process.returncode != 0
    if failed and not gate.stream:
        print(f"----- {gate.name}: {' '.join(gate.command)}\n{''.join(said)}", flush=True)
    busy = (processor_seconds() - worked) / elapsed / (os.cpu_count() or 1)
    print(f"{'FAILED' if failed else 'ok':>6}  {gate.name}  {elapsed:.1f} s, processors {busy:.0%} busy", flush=True)
    return Result(gate, failed, reasons(said) if failed else ())


def processor_seconds() -> float:
    """Return the seconds that all processors together have worked since the machine's boot: proc(5), /proc/stat."""
    user, nice, system, _idle, _waiting, *interrupts = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def run_stages(stages: Sequence[Sequence[Gate]]) -> int:
    """Run the stages in order, print what came of each gate, and return how many failed."""
    results: list[Result] = []
    for stage in stages:
        with ThreadPoolExecutor((os.cpu_count() or 1) + sum(gate.waits for gate in stage)) as pool:
            results += pool.map(run, stage)
        if any(result.failed for result in results):
            break
    failed = sum(result.failed for result in results)
    left = sum(len(stage) for stage in stages) - len(results)
    if left:
        print(f"{left} gates were not run, since an earlier one failed")
    # Said once more at the end: what stands above may be thousands of lines, or be cut off by what keeps them.
    for result in results:
        if result.failed:
            print("\n    ".join((f"{result.gate.name} failed:", *result.reasons)))
    print(f"{len(results) - failed} passed, {failed} failed")
    return failed


def main() -> int:
    """Run what the command line names; exit 1 when a gate fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="+", choices=["check", "test", *ALL], metavar="NAME", help=", ".join(ALL))
    names = parser.parse_args().name
    single = tuple(ALL[name] for name in names if name in ALL)
    stages: list[Sequence[Gate]] = [single] if single else []
    for name in names:
        stages += {"check": CHECK, "test": TEST}.get(name, ())
    return 1 if run_stages(stages) else 0


if __name__ == "__main__":
    sys.exit(main())
