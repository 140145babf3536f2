"""Stops asking a data store that does not answer, so that nobody waits for it in vain.

After three failures in a row, or once three calls wait while nothing is answered, calls are refused at once. One probe
after another asks in the background whether the store is back: no visitor has to try it out.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from itertools import islice

from linkrift import metrics, tasks

LOG = logging.getLogger(__name__)

FAILURES = 3
PROBE_PAUSE_SECONDS = 0.1
PROBE_PAUSE_MAXIMUM_SECONDS = 1.0
PROBE_SECONDS = 1.0
_RANDOM = random.SystemRandom()

Probe = Callable[[], Awaitable[object]]


class BreakerOpenError(Exception):
    """The store was not asked: it did not answer before."""


class State(IntEnum):
    """What a breaker does; the numbers are those of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Lets calls to one data store through while it answers.

    Attributes:
        state: CLOSED lets calls through, OPEN refuses them, HALF_OPEN refuses them while a probe is under way.
    """

    def __init__(self, name: str, probe: Probe, failures: tuple[type[Exception], ...], *, patience: float) -> None:
        """Prepare.

        Args:
            name: of the store, in logs and metrics.
            probe: asks the store for something small; must not go through this breaker.
            failures: what says that the store, not the call, is the trouble.
            patience: seconds after which a call without an answer counts as one that waits in vain.
        """
        self._name = name
        self._probe = probe
        self._failures = failures
        self._patience = patience
        self._failed = 0
        self._answered_at = float("-inf")
        # When calls without an answer began, the oldest first.
        self._waiting: dict[object, float] = {}
        self._probing: asyncio.Task[None] | None = None
        self._refused = metrics.BREAKER_REFUSED.labels(name)
        self.state = State.CLOSED
        metrics.BREAKER_STATE.labels(name).set(State.CLOSED)

    def admit(self) -> None:
        """Say, before something else is waited for, whether calls are let through.

        Raises:
            BreakerOpenError: they are refused.
        """
        if self.state is State.CLOSED and self._hangs():
            self._open(f"no answer to {FAILURES} calls within {self._patience:g} s")
        if self.state is not State.CLOSED:
            self._refused.inc()
            raise BreakerOpenError(f"{self._name} did not answer before and is not asked")

    @contextmanager
    def call(self) -> Iterator[Callable[[], None]]:
        """Let the calls in the block through.

        Yields:
            To be called when the question is sent: from then on an answer is waited for. Connecting is left out, which
            takes long where many do it at once.

        Raises:
            BreakerOpenError: they are refused.
        """
        self.admit()
        ticket = object()

        def asked() -> None:
            self._waiting[ticket] = time.monotonic()

        try:
            yield asked
        except self._failures as error:
            self._note_failure(error)
            raise
        except Exception:
            if ticket in self._waiting:
                self._note_answer()  # of a kind: the trouble is the call's
            raise
        else:
            self._note_answer()
        finally:
            self._waiting.pop(ticket, None)

    async def close(self) -> None:
        """Stop probing."""
        if self._probing is not None:
            await tasks.end([self._probing])

    def _hangs(self) -> bool:
        if len(self._waiting) < FAILURES:
            return False
        third = next(islice(self._waiting.values(), FAILURES - 1, None))
        return self._answered_at < third < time.monotonic() - self._patience

    def _note_answer(self) -> None:
        self._failed = 0
        self._answered_at = time.monotonic()

    def _note_failure(self, error: Exception) -> None:
        self._failed += 1
        if self.state is State.CLOSED and self._failed >= FAILURES:
            self._open(f"{type(error).__name__}: {error}".rstrip(": "))

    def _open(self, reason: str) -> None:
        LOG.warning("%s is not asked any more until it answers a probe: %s", self._name, reason)
        metrics.BREAKER_OPENED.labels(self._name).inc()
        self._turn(State.OPEN)
        self._probing = asyncio.get_running_loop().create_task(self._probe_until_it_answers())

    async def _probe_until_it_answers(self) -> None:
        pause = PROBE_PAUSE_SECONDS
        while True:
            # Spread: many processes lose a store at the same moment.
            await asyncio.sleep(pause * _RANDOM.uniform(0.5, 1.0))
            self._turn(State.HALF_OPEN)
            try:
                await asyncio.wait_for(self._probe(), PROBE_SECONDS)
            except Exception as error:  # whatever it is: nobody else would ask ever again
                LOG.debug("%s does not answer a probe: %s", self._name, error)
                self._turn(State.OPEN)
                pause = min(2 * pause, PROBE_PAUSE_MAXIMUM_SECONDS)
                continue
            break
        self._note_answer()
        self._turn(State.CLOSED)
        LOG.info("%s answers again", self._name)

    def _turn(self, state: State) -> None:
        self.state = state
        metrics.BREAKER_STATE.labels(self._name).set(state)
