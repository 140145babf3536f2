"""When each task of a playbook began and what came of it, as the callback `moments` writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.lab import LabToolError

CALLBACKS = Path(__file__).with_name("callbacks")


@dataclass(frozen=True)
class Result:
    """What a task did on a host.

    Attributes:
        host: Its name.
        status: ok, failed, skipped or unreachable.
        changed: It changed something.
        at: When it was through, in seconds since the epoch.
        worked: Seconds from the first to the last of the steps that the module says it took there; None: it says none.
    """

    host: str
    status: str
    changed: bool
    at: float
    worked: float | None = None


@dataclass
class Task:
    """A task that has begun.

    Attributes:
        number: Its place in the run, from 0.
        name: Without its role.
        role: Its role; empty outside of roles.
        began: Seconds since the epoch.
        results: What came of it, by host.
    """

    number: int
    name: str
    role: str
    began: float
    results: list[Result] = field(default_factory=list)

    @property
    def ended(self) -> float:
        """When the last host was through; the beginning where no host told of it."""
        return max((result.at for result in self.results), default=self.began)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began

    @property
    def changed(self) -> bool:
        """Whether it changed something on any host."""
        return any(result.changed for result in self.results)

    @property
    def ran(self) -> bool:
        """Whether it was for any host at all."""
        return any(result.status != "skipped" for result in self.results)


class Reader:
    """Reads the file of a run while it grows."""

    def __init__(self, path: Path) -> None:
        """Begin at its beginning; it need not be there yet."""
        self.tasks: list[Task] = []
        self._path = path
        self._read = 0

    def look(self) -> Sequence[Task]:
        """Read what is new, and return all tasks so far; a last line that is not whole yet is left for later."""
        if not self._path.exists():
            return self.tasks
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            whole, newline, _rest = stream.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        for line in whole.splitlines():
            self._take(json.loads(line))
        return self.tasks

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "task":
            self.tasks.append(Task(event["number"], event["name"], event["role"], event["at"]))
        elif 0 <= event["number"] < len(self.tasks):
            result = Result(event["host"], event["status"], event["changed"], event["at"], event.get("worked"))
            self.tasks[event["number"]].results.append(result)


def named(tasks: Sequence[Task], name: str) -> list[Task]:
    """Return the tasks of a name that did something, in order.

    Raises:
        LabToolError: There is none.
    """
    found = [task for task in tasks if task.name == name and task.ran]
    if not found:
        raise LabToolError(f"no task {name!r} ran: the playbook has changed, or went another way")
    return found


def span(tasks: Sequence[Task], first: str, last: str) -> tuple[float, float]:
    """Return when the first task of one name began and when the last one of another ended.

    Raises:
        LabToolError: One of them did not run.
    """
    return named(tasks, first)[0].began, named(tasks, last)[-1].ended
