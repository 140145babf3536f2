"""Ending background tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

LOG = logging.getLogger(__name__)

REPEAT_SECONDS = 0.1


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended; one that failed before is logged.

    A cancellation can get lost: on Python before 3.11.3 redis-py looks at each connection with a timeout of zero, and
    where that and the cancellation meet, the task sees a timeout only. So it is repeated.
    """
    given = set(tasks)
    running = {task for task in given if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=REPEAT_SECONDS)
    for task in given:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            LOG.error("a background task failed", exc_info=error)
