"""Clicks on their way out: taken in memory while a request is answered, sent to Redis in the background."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections import deque
from typing import NamedTuple

from redis.asyncio import Redis

from linkrift import metrics
from linkrift.clicks import EVENTS_PER_ENTRY, USER_AGENT_LENGTH, Click, encode
from linkrift.redis_client import CLICK_STREAM, REDIS_ERRORS
from linkrift.visitors import VisitorNetworks, referrer_host

LOG = logging.getLogger(__name__)

FLUSH_SECONDS = 0.05
ENTRIES_PER_SEND = 50
RETRY_FIRST_SECONDS = 0.1
RETRY_MOST_SECONDS = 2.0


class RawClick(NamedTuple):
    """A click as the request path leaves it: nothing is parsed there."""

    code: str
    clicked_at: float
    request_id: str
    referrer: str
    user_agent: str
    peer: str
    forwarded_for: str


class ClickBuffer:
    """Keeps at most `size` clicks; what comes beyond that is dropped and counted."""

    def __init__(self, redis: Redis, networks: VisitorNetworks, *, size: int) -> None:
        """Prepare.

        Args:
            redis: where they go.
            networks: finds the visitor's network.
            size: how many are kept while they cannot be sent.
        """
        self._redis = redis
        self._networks = networks
        self._size = size
        self._raw: deque[RawClick] = deque()
        self._packed: deque[tuple[str, int]] = deque()
        self._packed_clicks = 0
        self._captured = 0
        self._dropped = 0
        # An id of our own: 74 random bits for the process, then a count. RFC 9562 calls that version 8.
        random = secrets.token_hex(8)
        self._id_prefix = (
            f"{random[:8]}-{random[8:12]}-8{random[12:15]}-{secrets.choice('89ab')}{secrets.token_hex(2)[:3]}"
        )
        self._numbers = itertools.count()

    def capture(self, click: RawClick) -> None:
        """Take a click. Called while a request is answered: does nothing that could wait."""
        if len(self._raw) + self._packed_clicks >= self._size:
            self._dropped += 1
            return
        self._captured += 1
        self._raw.append(click)

    def waiting(self) -> int:
        """Return how many clicks are not in Redis yet."""
        return len(self._raw) + self._packed_clicks

    async def run(self) -> None:
        """Send clicks until cancelled."""
        pause = FLUSH_SECONDS
        failing = False
        while True:
            await asyncio.sleep(pause)
            try:
                await self.send()
            except REDIS_ERRORS as error:
                if not failing:
                    LOG.warning("clicks wait, Redis does not take them: %s", error)
                metrics.DEPENDENCY_ERRORS.labels("redis").inc()
                pause = RETRY_FIRST_SECONDS if not failing else min(pause * 2, RETRY_MOST_SECONDS)
                failing = True
            else:
                if failing:
                    LOG.info("Redis takes clicks again")
                pause, failing = FLUSH_SECONDS, False

    async def send(self) -> None:
        """Send everything that waits.

        Raises:
            RedisError, OSError: Redis did not take it; it goes on waiting. What it did take and could not confirm is
                sent again and counted once, by its id.
        """
        while self._raw:
            self._pack()
            await asyncio.sleep(0)
        while self._packed:
            entries = list(itertools.islice(self._packed, ENTRIES_PER_SEND))
            pipeline = self._redis.pipeline(transaction=False)
            for content, _ in entries:
                pipeline.xadd(CLICK_STREAM, {"events": content})
            await pipeline.execute()
            for _ in entries:
                _, count = self._packed.popleft()
                self._packed_clicks -= count

    async def flush(self, deadline_seconds: float) -> None:
        """Send everything before the process ends, trying until the deadline.

        What is left then is dropped, and counted.
        """
        deadline = time.monotonic() + deadline_seconds
        while self.waiting() and not await self._try_send(deadline - time.monotonic()):
            if time.monotonic() + RETRY_FIRST_SECONDS >= deadline:
                self._dropped += self.waiting()
                LOG.error("clicks lost: Redis does not take them", extra={"clicks": self.waiting()})
                break
            await asyncio.sleep(RETRY_FIRST_SECONDS)
        self.refresh_metrics()

    async def _try_send(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self.send(), max(0.01, seconds))
        except (*REDIS_ERRORS, asyncio.TimeoutError):
            return False
        return True

    def refresh_metrics(self) -> None:
        """Bring counters and gauges up to date."""
        metrics.CLICKS_CAPTURED.inc(self._captured)
        metrics.CLICKS_DROPPED.inc(self._dropped)
        self._captured = self._dropped = 0
        metrics.CLICK_BUFFER.set(self.waiting())

    def _pack(self) -> None:
        """Turn raw clicks into one stream entry."""
        clicks = [self._click(self._raw.popleft()) for _ in range(min(len(self._raw), EVENTS_PER_ENTRY))]
        self._packed.append((encode(clicks), len(clicks)))
        self._packed_clicks += len(clicks)

    def _click(self, raw: RawClick) -> Click:
        return Click(
            event_id=f"{self._id_prefix}-{next(self._numbers):012x}",
            code=raw.code,
            clicked_at_ms=int(raw.clicked_at * 1000),
            request_id=raw.request_id,
            referrer_host=referrer_host(raw.referrer) if raw.referrer else "",
            # Bytes that are no text came in as lone surrogates; they could not be stored.
            user_agent=raw.user_agent[:USER_AGENT_LENGTH].encode("utf-8", "replace").decode(),
            address=self._networks.of(raw.peer, raw.forwarded_for),
        )
