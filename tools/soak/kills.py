"""A control node that dies: the whole process tree of a playbook is killed at every one of its tasks.

Every host goes on serving then, no visitor notices, and the same playbook again brings the fleet to the same end as if
nothing had happened.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.bench.bundles import build
from tools.bench.fleet import look, wrong_with_hosts, wrong_with_visits
from tools.bench.moments import Task
from tools.bench.releases import set_faults
from tools.bench.runs import Ended, Watch, at_task
from tools.bench.visitors import Visitors
from tools.lab import LabToolError
from tools.soak.faults import KINDS
from tools.soak.install import share
from tools.soak.lab import FAST, Platform, bundles, sound
from tools.soak.rounds import Rounds, Row, say, table

KILLED = ("deploy", "rollback", "undo")
# More than any playbook has.
MOST_TASKS = 10_000
# Two hosts, then the third: a batch with more than one host, and an end between two batches.
SETTINGS: Mapping[str, object] = {**FAST, "strategy": "rolling", "batch": "50%"}


@dataclass(frozen=True)
class Movement:
    """A run that is going to be killed.

    Attributes:
        playbook: Its name.
        variables: For it.
        leaves: The release that is live before.
        goal: The release that is live when it has come to its end.
        fails: It ends with a failure; what it led to goes wrong on the last host.
    """

    playbook: str
    variables: Mapping[str, object]
    leaves: str
    goal: str
    fails: bool = False

    def run(self, platform: Platform, log: str, watch: Watch | None = None) -> Ended:
        """Run it."""
        return platform.run(self.playbook, self.variables, log, watch)

    def wrong_with_end(self, ended: Ended) -> list[str]:
        """Say whether it ended other than it should, as a sentence."""
        return [] if (ended.rc != 0) == self.fails else [f"it ended with {ended.rc}: {ended.output[-2000:]}"]


def prepare(platform: Platform, kind: str, log: str) -> Movement:
    """Bring the fleet to where a run of this kind begins."""
    found = look(platform.lab)
    other = platform.other(found)
    former = next(bundle for bundle in platform.pair if bundle.id != other.id)
    if kind == "rollback":
        platform.converge(other, f"{log}-before", {**SETTINGS, "strategy": "blue_green", "warm": 600})
        return Movement("rollback", {"release": former.id, "warm": 0}, other.id, former.id)
    if kind == "undo":
        set_faults(platform.lab, platform.hosts[-1:], json.dumps({"redirect": {"fault": "never_ready"}}))
        faulty = build(bundles(), *KINDS["faulty"])
        variables = {**SETTINGS, "release": faulty.path, "rollout_gate_deadline": 5}
        return Movement("deploy", variables, former.id, former.id, fails=True)
    return Movement("deploy", {**SETTINGS, "release": other.id}, former.id, other.id)


def chosen(tasks: Sequence[Task], wanted: range, *, changing: bool) -> list[int]:
    """Return the numbers of the tasks at which to kill.

    Args:
        tasks: Those of a run that was left alone.
        wanted: Of these.
        changing: Only those that change something, and those right after: what a kill leaves differs at no other.
    """
    numbers = [number for number in wanted if number < len(tasks)]
    if not changing:
        return numbers
    return [number for number in numbers if tasks[number].changed or (number and tasks[number - 1].changed)]


def run(
    platform: Platform, rounds: Rounds, kind: str, wanted: range, seed: int, rate: float, *, changing: bool = False
) -> None:
    """Run a round for each of the tasks, all of them whichever failed, and print the table.

    Args:
        platform: Where.
        rounds: Those that are done are passed over.
        kind: What is killed, of KILLED.
        wanted: At which tasks to kill, by number; those that the playbook has not got are passed over.
        seed: Decides how far into a task.
        rate: Requests a second.
        changing: See `chosen`.

    Raises:
        LabToolError: A visitor noticed, a host served nothing, or the same again did not come to its end.
    """
    say(f"a {kind} that is left alone, to know its tasks")
    try:
        movement = prepare(platform, kind, "kill-reference")
        reference = movement.run(platform, "kill-reference")
        sound(movement.wrong_with_end(reference))
        numbers = chosen(reference.tasks, wanted, changing=changing)
        names = [f"task {number:03d}" for number in numbers]
        say(f"{len(reference.tasks)} tasks in {reference.seconds:.0f} s, killed at {len(numbers)}; --seed {seed}")
        rounds.go(names, lambda name: kill(platform, kind, name, reference.tasks, seed, rate), patient=True)
    finally:
        set_faults(platform.lab, platform.hosts, "{}")
    print(table([{f"{kind} killed at": name, **rounds.done[name]} for name in names if name in rounds.done]))
    if rounds.failed:
        raise LabToolError(f"not as it should be: {'; '.join(rounds.failed)}")


def delay(task: Task, seed: int) -> float:
    """Return how long after its begin a task is hit: somewhere in the time that it took when it was left alone."""
    return task.seconds * share(seed * 10_007 + task.number)


def kill(platform: Platform, kind: str, name: str, tasks: Sequence[Task], seed: int, rate: float) -> Row:
    """Kill a run at one task, then let the same come to its end.

    Raises:
        LabToolError: See `run`.
    """
    number = int(name.split()[1])
    log = f"kill-{kind}-{number:03d}"
    movement = prepare(platform, kind, log)
    before = look(platform.lab)
    began = time.time()
    seconds = delay(tasks[number], seed)
    with Visitors(platform.lab, rate) as visitors:
        killed = movement.run(platform, log, at_task(number, seconds))
        between = look(platform.lab)
        again = movement.run(platform, f"{log}-again")
        platform.settled(f"{log}-status")
    visit = visitors.seen()
    after = look(platform.lab, began)
    # What leads to a faulty release has it live on the first hosts for a while.
    passing = [str(movement.variables["release"]).rpartition("linkrift-")[2].removesuffix(".tar.gz")]
    known = [movement.leaves, movement.goal, *passing]
    sound(
        [
            *(f"after the kill: {words}" for words in wrong_with_hosts(between, platform.hosts, known)),
            *movement.wrong_with_end(again),
            *(f"in the end: {words}" for words in wrong_with_hosts(after, platform.hosts, [movement.goal])),
            *wrong_with_visits(visit, before, after),
        ]
    )
    last = killed.tasks[-1] if killed.tasks else None
    return {
        "task": last.name if last else "",
        "after": f"{seconds:.2f} s",
        "killed": "yes" if killed.rc is None else f"no, it ended with {killed.rc}",
        "again": f"{again.seconds:.1f} s",
        "requests": visit.requests,
        "failed": visit.failed,
    }


def parse_range(text: str) -> range:
    """Read numbers of tasks, such as `10-20`, `10-` or `10`."""
    first, dash, last = text.partition("-")
    begin = int(first or 0)
    return range(begin, (int(last) if last else MOST_TASKS) + 1 if dash else begin + 1)
