"""Takes events off the stream in batches and acknowledges them once ClickHouse has them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from linkrift import metrics, tasks
from linkrift.clickhouse import ClickHouse, ClickHouseAwayError
from linkrift.clicks import EVENTS_PER_ENTRY, Click, request_id_of
from linkrift.redis_client import REDIS_ERRORS
from linkrift.worker.queue import ClickQueue, StreamEntry
from linkrift.worker.rows import INSERT, columns

LOG = logging.getLogger(__name__)

# How soon the loss of the admission is noticed.
POLL_SECONDS = 0.2
# How long taken batches may still be stored after that; what is left is another worker's, later.
FINISH_SECONDS = 10.0
# Of the events of a batch that cannot be read, as many are logged one by one.
REJECTIONS_LOGGED = 10
# Read at once, at most: what is read is taken apart in one go, while nothing else of this process runs.
ENTRIES_PER_READ = 50
RETRY_FIRST_SECONDS = 0.2
RETRY_MOST_SECONDS = 5.0

_T = TypeVar("_T")


def _rejections(entries: Iterable[StreamEntry]) -> Iterator[dict[str, str]]:
    """Say of each event that cannot be read where it is, why, and which request it came with."""
    for entry in entries:
        for content, reason in entry.rejected:
            yield {"entry": entry.id.decode(), "reason": reason, "request_id": request_id_of(content)}


@dataclass
class Batch:
    """Entries on their way into ClickHouse; `due` is when they go, full or not (time.monotonic())."""

    due: float
    entries: list[StreamEntry] = field(default_factory=list)
    events: int = 0

    def add(self, entries: Iterable[StreamEntry]) -> None:
        """Take entries in."""
        for entry in entries:
            self.entries.append(entry)
            self.events += len(entry.clicks)


class Consumer:
    """Consumes while it is admitted; otherwise it is paused: it has stored and acknowledged what it had taken.

    Attributes:
        paused: nothing is taken, and nothing that was is still being stored.
    """

    def __init__(
        self,
        queue: ClickQueue,
        clickhouse: ClickHouse,
        admitted: Callable[[], bool],
        *,
        concurrency: int,
        batch_size: int,
        batch_limit: int,
        flush_interval: float,
        reclaim_after: float,
        stored: Callable[[Iterable[Click]], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            queue: where events come from.
            clickhouse: where they go.
            admitted: whether to consume.
            concurrency: batches that are stored at the same time.
            batch_size: events in a batch, while those that wait fit into one.
            batch_limit: events in a batch, while more wait: larger inserts are cheaper for ClickHouse.
            flush_interval: seconds that a batch waits to become full.
            reclaim_after: seconds after which entries that another worker took are taken over.
            stored: is told what is in ClickHouse and acknowledged.
        """
        self._queue = queue
        self._clickhouse = clickhouse
        self._admitted = admitted
        self._concurrency = concurrency
        self._batch_size = batch_size
        self._batch_limit = batch_limit
        self._wanted_size = batch_size
        # On their way at a time: as many small batches as there are places, or two large ones.
        self._most_events = max(concurrency * batch_size, 2 * batch_limit)
        self._stored = stored
        self._flush_interval = flush_interval
        self._reclaim_after = reclaim_after
        self._stopping = False
        self._filling = Batch(0.0)
        self._storing: dict[asyncio.Task[None], Batch] = {}
        self.paused = True

    def pending(self) -> int:
        """Return how many entries were taken and not acknowledged yet."""
        return len(self._filling.entries) + sum(len(batch.entries) for batch in self._storing.values())

    def due(self) -> float | None:
        """Return when the first of them was to be stored (time.monotonic()); None: none is held."""
        batches = (self._filling, *self._storing.values())
        return min((batch.due for batch in batches if batch.entries), default=None)

    def stop(self) -> None:
        """Let `run` finish what it has and return."""
        self._stopping = True

    async def run(self) -> None:
        """Consume whenever it is admitted, until stopped."""
        pause = RETRY_FIRST_SECONDS
        while not self._stopping:
            if self._wanted():
                try:
                    await self._consume()
                    pause = RETRY_FIRST_SECONDS
                except REDIS_ERRORS as error:
                    metrics.DEPENDENCY_ERRORS.labels("redis").inc()
                    LOG.warning("Redis is away: %s", error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, RETRY_MOST_SECONDS)
            else:
                await asyncio.sleep(POLL_SECONDS)
        self.paused = True

    def _wanted(self) -> bool:
        return not self._stopping and self._admitted()

    async def _consume(self) -> None:
        """Consume until no longer wanted, and finish."""
        await self._queue.open()
        self.paused = False
        LOG.info("consuming")
        try:
            await self._recover()
            reclaim_at = 0.0
            while self._wanted():
                room = self._room()
                if time.monotonic() >= reclaim_at:
                    left = await self._queue.reclaim(self._reclaim_after, room)
                    await self._take(left)
                    if len(left) >= room:
                        # There may be more: a lost host leaves thousands.
                        continue
                    reclaim_at = time.monotonic() + self._reclaim_after / 4
                    room = self._room()
                entries = await self._queue.read(room, self._patience())
                if len(entries) == room:
                    # More may wait than fits.
                    self._wanted_size = min(self._wanted_size * 2, self._batch_limit)
                await self._take(entries)
        finally:
            await self._finish()
        LOG.info("paused")
        self.paused = True

    async def _recover(self) -> None:
        """Take up what this consumer had taken before it was interrupted."""
        after = b"0"
        taken = 0
        while self._wanted():
            entries = await self._queue.read_own(self._room(), after)
            if not entries:
                break
            after = entries[-1].id
            taken += len(entries)
            await self._take(entries)
        if taken:
            LOG.info("took up what an earlier run left", extra={"entries": taken})

    def _room(self) -> int:
        """Return how many entries may be read so that the batch is not much too large, each of them being full."""
        return min(ENTRIES_PER_READ, max(1, (self._wanted_size - self._filling.events) // EVENTS_PER_ENTRY))

    def _patience(self) -> float:
        """Return how long to wait for entries: until the batch is due, and never so long that a pause is missed."""
        if not self._filling.entries:
            return POLL_SECONDS
        return min(POLL_SECONDS, max(0.001, self._filling.due - time.monotonic()))

    async def _take(self, entries: list[StreamEntry]) -> None:
        """Add entries to the batch and send it on its way when it is full or due."""
        batch = self._filling
        if entries and not batch.entries:
            batch.due = time.monotonic() + self._flush_interval
        batch.add(entries)
        if batch.events >= self._wanted_size:
            await self._submit()
        elif batch.entries and time.monotonic() >= batch.due:
            # Nothing more waited.
            self._wanted_size = self._batch_size
            await self._submit()

    async def _submit(self) -> None:
        """Begin to store the batch as soon as one of the places is free."""
        while self._storing and (len(self._storing) >= self._concurrency or self._in_flight() > self._most_events):
            if not self._wanted():
                return
            await asyncio.wait(self._storing, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        batch, self._filling = self._filling, Batch(0.0)
        task = asyncio.create_task(self._store(batch))
        self._storing[task] = batch
        task.add_done_callback(self._stored_or_not)

    def _stored_or_not(self, done: asyncio.Task[None]) -> None:
        batch = self._storing.pop(done)
        error = None if done.cancelled() else done.exception()
        if error is not None:
            # They stay this worker's; it takes them up when it begins again.
            LOG.error("a batch failed unforeseen", exc_info=error, extra={"entries": len(batch.entries)})

    def _in_flight(self) -> int:
        """Return how many events are taken."""
        return self._filling.events + sum(batch.events for batch in self._storing.values())

    async def _finish(self) -> None:
        """Store and acknowledge what was taken; after FINISH_SECONDS leave it to whoever reclaims it."""
        if self._filling.entries:
            await self._submit()
        if self._storing:
            _, unfinished = await asyncio.wait(self._storing, timeout=FINISH_SECONDS)
            await tasks.end(unfinished)
        left = self._filling.entries
        if left:
            LOG.warning("left for another worker", extra={"entries": len(left)})
        self._filling = Batch(0.0)

    async def _store(self, batch: Batch) -> None:
        """Insert a batch, however often it takes, and acknowledge it."""
        clicks = (click for entry in batch.entries for click in entry.clicks)
        while chunk := list(itertools.islice(clicks, self._batch_limit)):
            await self._insert(await asyncio.to_thread(columns, chunk))
        rejected = 0
        # A Redis that is full sets nothing aside: what needs nothing set aside makes room first.
        for entries in (
            [entry for entry in batch.entries if not entry.rejected],
            [entry for entry in batch.entries if entry.rejected],
        ):
            if entries:
                rejected += await self._until_taken(self._queue.set_aside, entries)
                await self._until_taken(self._queue.acknowledge, entries)
                self._stored(click for entry in entries for click in entry.clicks)
        metrics.CLICKS_STORED.inc(batch.events)
        metrics.CLICKS_REJECTED.inc(rejected)
        if rejected:
            LOG.error("click events set aside: they cannot be read", extra={"events": rejected})
            for fields in itertools.islice(_rejections(batch.entries), REJECTIONS_LOGGED):
                LOG.error("click event set aside", extra=fields)
        if LOG.isEnabledFor(logging.DEBUG):
            for click in (click for entry in batch.entries for click in entry.clicks):
                LOG.debug("click stored", extra={"request_id": click.request_id, "event_id": click.event_id})

    async def _until_taken(
        self, send: Callable[[Sequence[StreamEntry]], Awaitable[_T]], entries: Sequence[StreamEntry]
    ) -> _T:
        """Tell Redis, however often it takes: nobody else takes them while this worker lives, nor does it itself."""
        pause = RETRY_FIRST_SECONDS
        while True:
            try:
                return await send(entries)
            except REDIS_ERRORS as error:
                metrics.DEPENDENCY_ERRORS.labels("redis").inc()
                LOG.warning("cannot acknowledge stored clicks: %s", error, extra={"entries": len(entries)})
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MOST_SECONDS)

    async def _insert(self, block: Sequence[Sequence[object]]) -> None:
        pause = RETRY_FIRST_SECONDS
        while not await self._try_insert(block):
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MOST_SECONDS)

    async def _try_insert(self, block: Sequence[Sequence[object]]) -> bool:
        try:
            await self._clickhouse.insert(INSERT, block)
        except ClickHouseAwayError as error:
            LOG.warning("clicks wait, ClickHouse does not take them: %s", error, extra={"events": len(block[0])})
            return False
        return True
