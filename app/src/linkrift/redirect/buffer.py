"""Clicks on their way out: taken in memory while a request is answered, sent to Redis in the background.

While Redis does not take them they go to the spool on disk, which whoever comes next sends. Where that is full or not
there, they stay in memory; where that is full, only how many there were is kept; beyond that they are dropped, and
counted.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from redis.asyncio import Redis

from linkrift import metrics, tasks
from linkrift.clicks import EVENTS_PER_ENTRY, EventIds, entry
from linkrift.redirect.merged import MergedClicks, Run, decode_runs, encode_runs
from linkrift.redirect.spool import SEGMENT_CLICKS, Adopted, Kind, Record, Spool
from linkrift.redis_client import CLICK_STREAM, REDIS_ERRORS

LOG = logging.getLogger(__name__)

FLUSH_SECONDS = 0.05
ENTRIES_PER_SEND = 50
RETRY_FIRST_SECONDS = 0.1
RETRY_MOST_SECONDS = 2.0
# How often it is looked for files that other processes left.
ADOPT_SECONDS = 5.0
# Of the time that the last flush has, the part after which what Redis did not take goes to the disk.
REDIS_SHARE = 0.5
# Characters that a click may have on average while clicks wait; those that have more leave room for fewer.
CLICK_CHARACTERS = 512
_RUNS_PER_RECORD = 1000
_T = TypeVar("_T")


class ClickBuffer:
    """Holds clicks until Redis, or the disk, has them."""

    def __init__(self, redis: Redis, ids: EventIds, *, size: int, spool: Spool | None = None) -> None:
        """Prepare.

        Args:
            redis: where they go.
            ids: for clicks that were merged.
            size: how many are kept in memory while they cannot be sent.
            spool: where they wait on disk; None: they do not.
        """
        self._redis = redis
        self._ids = ids
        self._size = size
        self._spool = spool
        self._events: deque[str] = deque()
        self._packed: deque[Record] = deque()
        self._packed_clicks = 0
        self._characters = 0
        self._most_characters = size * CLICK_CHARACTERS
        self._merged = MergedClicks()
        self._captured = 0
        self._dropped = 0
        self._spooled = 0
        self._spool_bytes = 0
        self._adopt_at = 0.0
        # What went to the disk last: whether Redis takes clicks again is asked with it, since it counts once.
        self._last_spooled: Record | None = None
        self._taken = 0
        # One thread: the spool's files are used by one at a time, in order.
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")

    def has_room(self) -> bool:
        """Tell whether another event may be added."""
        return len(self._events) + self._packed_clicks < self._size and self._characters < self._most_characters

    def add(self, event: str) -> None:
        """Take a click, made an event by `clicks.event`."""
        self._events.append(event)
        self._characters += len(event)
        self._captured += 1

    def merge(self, code: str, clicked_at_ms: int) -> None:
        """Take a click for which there is no room: that there was one, if no more."""
        if self._merged.add(code, clicked_at_ms):
            self._captured += 1
        else:
            self._dropped += 1

    def drop(self) -> None:
        """Count a click that was lost."""
        self._dropped += 1

    def waiting(self) -> int:
        """Return how many clicks are in memory only."""
        return len(self._events) + self._packed_clicks + self._merged.clicks

    async def run(self) -> None:
        """Send clicks until cancelled."""
        # Not waited for: a disk that hangs is no reason not to send.
        probe = None if self._spool is None else asyncio.create_task(self._in_thread(self._spool.probe))
        try:
            await self._send_for_ever()
        finally:
            if probe is not None:
                await tasks.end([probe])

    async def _send_for_ever(self) -> None:
        pause = FLUSH_SECONDS
        failing = False
        while True:
            await asyncio.sleep(pause)
            taken = self._taken
            if await self._try_all(failing=failing):
                if failing and self._taken == taken:
                    # There was nothing to send, which says nothing of Redis.
                    continue
                if failing:
                    LOG.info("Redis takes clicks again")
                pause, failing = FLUSH_SECONDS, False
            else:
                pause = RETRY_FIRST_SECONDS if not failing else min(pause * 2, RETRY_MOST_SECONDS)
                failing = True

    async def _try_all(self, *, failing: bool) -> bool:
        """Send what is in memory and in the spool, or bring it to the disk; tell whether it could be sent."""
        try:
            try:
                if self._last_spooled is not None:
                    # Before a file is let go that goes on being written otherwise.
                    await self._add(_entries(self._last_spooled))
                    self._last_spooled = None
                await self.send()
                await self._send_spooled()
            except REDIS_ERRORS as error:
                if not failing:
                    LOG.warning("clicks wait, Redis does not take them: %s", error)
                metrics.DEPENDENCY_ERRORS.labels("redis").inc()
                self._adopt_at = 0.0
                await self._to_disk()
                return False
        except Exception:
            # Nobody would begin anew in this process's life.
            if not failing:
                LOG.exception("clicks wait, sending them failed unforeseen")
            return False
        return True

    async def send(self) -> None:
        """Send everything that is in memory.

        Raises:
            RedisError, OSError: Redis did not take it; it goes on waiting. What it did take and could not confirm is
                sent again and counted once, by its id.
        """
        while self._events or self._packed or self._merged.clicks:
            await self._pack_all()
            while self._packed:
                records = list(itertools.islice(self._packed, ENTRIES_PER_SEND))
                await self._add(record.content for record in records)
                self._forget(len(records))
            self._pack_merged()

    async def flush(self, deadline_seconds: float) -> None:
        """Bring everything out of memory before the process ends: to Redis, or else to the disk.

        What neither took at the deadline is dropped, and counted.
        """
        deadline = time.monotonic() + deadline_seconds
        redis_until = deadline - deadline_seconds * (REDIS_SHARE if self._spool else 0.0)
        while self.waiting():
            if await self._try(self.send(), redis_until) or await self._try(self._last_to_disk(), deadline):
                break
            if time.monotonic() + RETRY_FIRST_SECONDS >= deadline:
                self._dropped += self.waiting()
                LOG.error("clicks lost: neither Redis nor a disk takes them", extra={"clicks": self.waiting()})
                break
            await asyncio.sleep(RETRY_FIRST_SECONDS)
        self.refresh_metrics()

    def close(self) -> None:
        """End the thread; a disk that hangs is not waited for."""
        self._disk.shutdown(wait=False, cancel_futures=True)

    def refresh_metrics(self) -> None:
        """Bring counters and gauges up to date."""
        metrics.CLICKS_CAPTURED.inc(self._captured)
        metrics.CLICKS_DROPPED.inc(self._dropped)
        metrics.CLICKS_SPOOLED.inc(self._spooled)
        self._captured = self._dropped = self._spooled = 0
        metrics.CLICK_BUFFER.set(self.waiting())
        metrics.CLICK_SPOOL_BYTES.set(self._spool_bytes)
        metrics.CLICK_SPOOL_FAILING.set(self._spool is not None and self._spool.failing)

    async def _add(self, contents: Iterable[str]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for content in contents:
            pipeline.xadd(CLICK_STREAM, {"events": content})
        await pipeline.execute()
        self._taken += 1

    async def _try(self, work: Coroutine[Any, Any, None], until: float) -> bool:
        """Do something until a moment; tell whether nothing waits any more."""
        try:
            await asyncio.wait_for(work, max(0.01, until - time.monotonic()))
        except (*REDIS_ERRORS, asyncio.TimeoutError):
            return False
        except Exception:
            LOG.exception("clicks cannot be brought out of memory")
            return False
        return not self.waiting()

    async def _to_disk(self, *, beyond_limit: bool = False) -> None:
        """Bring what Redis did not take to the spool, as far as that takes it."""
        spool = self._spool
        if spool is None:
            return
        await self._pack_all()
        records = list(self._packed)
        written = await self._in_thread(lambda: spool.append(records, beyond_limit=beyond_limit))
        self._spooled += sum(record.clicks for record in records[:written])
        if written and records[written - 1].kind is Kind.ENTRY:
            self._last_spooled = records[written - 1]
        self._forget(written)
        self._spool_bytes = await self._in_thread(spool.size)

    async def _last_to_disk(self) -> None:
        """Bring everything to the spool, merged clicks as what they are, and let others have it."""
        if self._spool is None:
            return
        await self._to_disk()
        while self._merged.clicks:
            runs = self._take_runs()
            self._keep(Record(Kind.MERGED, encode_runs(runs), sum(run.clicks for run in runs)))
        # What the memory had room for may go beyond the bound, once: nobody comes after it.
        await self._to_disk(beyond_limit=True)
        await self._in_thread(self._spool.release)

    async def _send_spooled(self) -> None:
        """Send what is in the spool, ours and what others left.

        Raises:
            RedisError, OSError: Redis did not take it; the file stays.
        """
        if self._spool is None or time.monotonic() < self._adopt_at:
            return
        await self._in_thread(self._spool.release)
        while (adopted := await self._in_thread(self._spool.adopt)) is not None:
            await self._send_adopted(adopted)
        self._spool_bytes = await self._in_thread(self._spool.size)
        self._adopt_at = time.monotonic() + ADOPT_SECONDS

    async def _send_adopted(self, adopted: Adopted) -> None:
        entries = itertools.chain.from_iterable(map(_entries, adopted.records))
        try:
            while some := list(itertools.islice(entries, ENTRIES_PER_SEND)):
                await self._add(some)
                # What came meanwhile has not to wait for all of it.
                await self.send()
        except BaseException:
            adopted.leave()
            raise
        self._dropped += adopted.damaged
        LOG.info("clicks sent from the spool", extra={"clicks": sum(record.clicks for record in adopted.records)})
        await self._in_thread(adopted.finish)

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, call)

    def _forget(self, records: int) -> None:
        for _ in range(records):
            record = self._packed.popleft()
            self._packed_clicks -= record.clicks
            self._characters -= len(record.content)

    async def _pack_all(self) -> None:
        for number in itertools.count(1):
            some = [self._events.popleft() for _ in range(min(len(self._events), EVENTS_PER_ENTRY))]
            if not some:
                return
            self._characters -= sum(map(len, some))
            self._keep_events(some)
            if number % ENTRIES_PER_SEND == 0:
                # Thousands at a time: who asks meanwhile has not to wait for all of them.
                await asyncio.sleep(0)

    def _pack_merged(self) -> None:
        """Make events of some merged clicks again, so that readers need not know of them."""
        for _ in range(ENTRIES_PER_SEND):
            run = self._take_run(EVENTS_PER_ENTRY)
            if run is None:
                return
            self._keep_events(list(run.events()))

    def _take_run(self, most: int) -> Run | None:
        taken = self._merged.take(most)
        if taken is None:
            return None
        code, at_ms, count = taken
        return Run(code, at_ms, count, self._ids.prefix, self._ids.several(count))

    def _take_runs(self) -> list[Run]:
        """Take as many merged clicks out as a record is to hold."""
        runs: list[Run] = []
        room = SEGMENT_CLICKS
        while room and len(runs) < _RUNS_PER_RECORD and (run := self._take_run(room)) is not None:
            runs.append(run)
            room -= run.clicks
        return runs

    def _keep_events(self, events: list[str]) -> None:
        self._keep(Record(Kind.ENTRY, entry(events), len(events)))

    def _keep(self, record: Record) -> None:
        self._packed.append(record)
        self._packed_clicks += record.clicks
        self._characters += len(record.content)


def _entries(record: Record) -> Iterator[str]:
    """Return the entries of the stream that a record of the spool stands for."""
    if record.kind is Kind.ENTRY:
        yield record.content
        return
    for run in decode_runs(record.content):
        events = run.events()
        while some := list(itertools.islice(events, EVENTS_PER_ENTRY)):
            yield entry(some)
