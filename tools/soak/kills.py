"""A control node that dies: the whole process tree of a deploy is killed at every one of its tasks.

Every host goes on serving then, no visitor notices, and the same deploy again brings the fleet to its end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tools.bench.fleet import look, wrong_with_hosts, wrong_with_visits
from tools.bench.moments import Task
from tools.bench.operator import at_task
from tools.bench.visitors import Visitors
from tools.soak.install import share
from tools.soak.platform import FAST, Platform, sound
from tools.soak.rounds import Rounds, Row, say, table

# More than any deploy has.
MOST_TASKS = 10_000
# Two hosts, then the third: a batch with more than one host, and an end between two batches.
SETTINGS: Mapping[str, object] = {**FAST, "strategy": "rolling", "batch": "50%"}


def run(platform: Platform, rounds: Rounds, tasks: range, seed: int, rate: float) -> None:
    """Run a round for each of the tasks, and print the table.

    Args:
        platform: Where.
        rounds: Those that are done are passed over.
        tasks: At which tasks to kill, by number; those that a deploy has not got are passed over.
        seed: Decides how far into a task.
        rate: Requests a second.

    Raises:
        LabToolError: A visitor noticed, a host served nothing, or the deploy again did not come to its end.
    """
    say("a deploy that is left alone, to know its tasks")
    reference = platform.converge(platform.other(look(platform.lab)), "kill-reference", SETTINGS)
    numbers = [number for number in tasks if number < len(reference.tasks)]
    names = [f"task {number:03d}" for number in numbers]
    say(f"{len(reference.tasks)} tasks in {reference.seconds:.0f} s; killed at {len(numbers)} of them; --seed {seed}")
    rounds.go(names, lambda name: kill(platform, name, reference.tasks, seed, rate))
    print(table([{"killed at": name, **rounds.done[name]} for name in names]))


def delay(task: Task, seed: int) -> float:
    """Return how long after its begin a task is hit: somewhere in the time that it took when it was left alone."""
    return task.seconds * share(seed * 10_007 + task.number)


def kill(platform: Platform, name: str, tasks: Sequence[Task], seed: int, rate: float) -> Row:
    """Kill a deploy at one task, then run it again.

    Raises:
        LabToolError: See `run`.
    """
    number = int(name.split()[1])
    before = look(platform.lab)
    bundle = platform.other(before)
    former = next(each for each in platform.pair if each.id != bundle.id)
    began = time.time()
    seconds = delay(tasks[number], seed)
    with Visitors(platform.lab, rate) as visitors:
        killed = platform.deploy(bundle, f"kill-{number:03d}", SETTINGS, at_task(number, seconds))
        between = look(platform.lab)
        again = platform.converge(bundle, f"kill-{number:03d}-again", SETTINGS)
        platform.settled(f"kill-{number:03d}-status")
    visit = visitors.seen()
    after = look(platform.lab, began)
    sound(
        [
            *(
                f"after the kill: {words}"
                for words in wrong_with_hosts(between, platform.hosts, [bundle.id, former.id])
            ),
            *(f"in the end: {words}" for words in wrong_with_hosts(after, platform.hosts, [bundle.id])),
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
