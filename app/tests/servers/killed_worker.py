"""A worker that kills itself and its parent right after one step of storing a batch, as if the power went just then.

A program of its own, so that what is killed is a worker as it runs on a host; the product knows nothing of it.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

from linkrift.lifecycle import Process, Service
from linkrift.release import Release
from linkrift.worker import cli
from linkrift.worker.settings import WorkerSettings

STEP = "KILLED_AFTER"


def main() -> None:
    """Run the worker's command line."""
    load = cli._load

    def load_and_prepare() -> Callable[[WorkerSettings, Release, Process], Service]:
        # Not sooner: the metrics are set up once, before they are imported.
        service = load()
        _kill_after(os.environ[STEP])
        return service

    cli._load = load_and_prepare
    cli.main()


def _kill_after(step: str) -> None:
    from linkrift.worker.consumer import Consumer
    from linkrift.worker.counts import ClickCounts
    from linkrift.worker.queue import ClickQueue

    steps: dict[str, tuple[Any, str, int]] = {
        "taken": (ClickQueue, "read", 1),
        "taken up again": (ClickQueue, "read_own", 1),
        "taken over": (ClickQueue, "reclaim", 1),
        "inserted": (Consumer, "_insert", 1),
        "acknowledged": (ClickQueue, "acknowledge", 1),
        "set aside": (ClickQueue, "set_aside", 1),
        # What could not be read comes last.
        "acknowledged all": (ClickQueue, "acknowledge", 2),
        "counted": (ClickCounts, "_count", 1),
    }
    owner, method, times = steps[step]
    original = getattr(owner, method)
    left = itertools.count(times - 1, -1)

    async def deadly(*arguments: Any) -> Any:
        result = await original(*arguments)
        # An empty list, or 0: there was nothing to do yet.
        if (result is None or result) and next(left) == 0:
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, method, deadly)
