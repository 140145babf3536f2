"""What a redirect process knows links from, and what keeps that true: memory, Redis, PostgreSQL and its replicas."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from linkrift import metrics, tasks
from linkrift.postgres import Database
from linkrift.redirect import warm_up
from linkrift.redirect.cache import MemoryCache
from linkrift.redirect.feed import Feed
from linkrift.redirect.invalidation import listen
from linkrift.redirect.lookup import Lookup
from linkrift.redirect.settings import RedirectSettings
from linkrift.redis_client import REDIS_ERRORS, GuardedRedis


class Sources:
    """The stores of links, from the nearest to the farthest.

    Attributes:
        cache: links in memory.
        lookup: finds those that are not there.
    """

    def __init__(self, settings: RedirectSettings, redis: GuardedRedis, database: Database, *, writes: bool) -> None:
        """Prepare; nothing is connected yet.

        Args:
            settings: the service's.
            redis: the cache that all processes share; the caller closes it.
            database: where links live; the caller opens and closes it.
            writes: write down for later processes which links are used; one process of a slot is enough.
        """
        name = f"linkrift-redirect-{settings.process.slot or 'dev'}"
        self._redis = redis
        self._warm_links = settings.warm_links
        self._writes = writes and settings.warm_links > 0
        self._replicas = [
            Database(replica, name, dependency=f"postgresql-replica-{number}")
            for number, replica in enumerate(settings.replicas, 1)
        ]
        self.cache = MemoryCache(settings.cache_bytes)
        self.lookup = Lookup(self.cache, redis, database, timeout=settings.read_timeout, replicas=self._replicas)
        self._feed = Feed(database, self.cache, self.lookup)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Hear of changes, then fill the memory, as far as the stores answer; takes seconds at most."""
        # First of all: whoever starts us may lose patience with stores that hang.
        self._tasks = [
            asyncio.create_task(listen(self._redis, self.cache, self.lookup, self._feed)),
            asyncio.create_task(self._feed.run()),
        ]
        if self._writes:
            self._tasks.append(asyncio.create_task(warm_up.keep_remembering(self._redis, self.cache, self._warm_links)))
        await asyncio.gather(*(replica.open() for replica in self._replicas))
        if self._warm_links:
            await warm_up.warm_up(self._redis, self.cache, self.lookup, self._warm_links)

    async def close(self) -> None:
        """Write down for the next process which links were used last, and ask nobody any more."""
        await tasks.end(self._tasks)
        if self._writes:
            with suppress(*REDIS_ERRORS):
                await warm_up.remember(self._redis, self.cache, self._warm_links)
        await self.lookup.close()
        await asyncio.gather(*(replica.close() for replica in self._replicas))

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date."""
        links, unknown = self.cache.sizes()
        metrics.CACHE_ENTRIES.labels("link").set(links)
        metrics.CACHE_ENTRIES.labels("unknown").set(unknown)
        metrics.CACHE_BYTES.set(self.cache.used_bytes())
        for replica in self._replicas:
            replica.refresh_metrics()
