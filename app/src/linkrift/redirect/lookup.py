"""Finds a link: in memory, in Redis, in PostgreSQL. However many ask for one at a time, it is looked up once."""

from __future__ import annotations

import asyncio
import logging
import time

from redis.asyncio import Redis

from linkrift import metrics
from linkrift.links import ROW_COLUMNS, LinkState
from linkrift.postgres import Database, DatabaseAwayError
from linkrift.redirect.cache import Entry, MemoryCache
from linkrift.redis_client import REDIS_ERRORS, link_key

LOG = logging.getLogger(__name__)

REDIS_TTL_SECONDS = 300

_QUERY = "\n".join(("SELECT", ROW_COLUMNS, "FROM links WHERE short_code = $1"))

REDIS_HITS = metrics.CACHE_HITS.labels("redis")
POSTGRESQL_HITS = metrics.CACHE_HITS.labels("postgresql")
REDIS_FAILURES = metrics.DEPENDENCY_ERRORS.labels("redis")


class LookupUnavailableError(Exception):
    """No store can be asked, and we do not have the link ourselves."""


class _Flight:
    """A lookup under way, and whether the link changed meanwhile."""

    __slots__ = ("changed", "task")

    def __init__(self, task: asyncio.Task[LinkState | None]) -> None:
        self.task = task
        self.changed = False


class Lookup:
    """Finds links and keeps them in the memory cache."""

    def __init__(self, cache: MemoryCache, redis: Redis, database: Database, *, timeout: float) -> None:
        """Prepare.

        Args:
            cache: where found links are kept.
            redis: the cache that all processes share.
            database: where links live.
            timeout: seconds a lookup may take.
        """
        self._cache = cache
        self._redis = redis
        self._database = database
        self._timeout = timeout
        self._flights: dict[str, _Flight] = {}
        self._fills: set[asyncio.Task[None]] = set()

    async def find(self, code: str) -> Entry | None:
        """Return a link that is not fresh in memory; None: there is no such link.

        Raises:
            LookupUnavailableError: nobody could tell.
        """
        flight = self._flights.get(code)
        if flight is None:
            flight = _Flight(asyncio.create_task(self._load(code)))
            self._flights[code] = flight
            flight.task.add_done_callback(lambda task: self._landed(code, task))
        try:
            # Shielded: a visitor who goes away must not take the answer from the others.
            state = await asyncio.wait_for(asyncio.shield(flight.task), self._timeout)
        except (DatabaseAwayError, asyncio.TimeoutError) as error:
            known = self._cache.links.get(code)
            if known is None:
                raise LookupUnavailableError(str(error) or "timed out") from error
            return known
        now = time.monotonic()
        if flight.changed:
            # What we found may be what was there before the change: good for this visitor, who asked before it.
            return None if state is None else Entry(state, now)
        return self._cache.store(code, state, now)

    def changed(self, code: str, version: int) -> None:
        """A link changed: what we have, and what is on its way to us, may be old."""
        self._cache.forget(code, version)
        flight = self._flights.get(code)
        if flight is not None:
            flight.changed = True

    def doubt_all(self) -> None:
        """Messages about changes may have been missed."""
        self._cache.doubt_all()
        for flight in self._flights.values():
            flight.changed = True

    async def close(self) -> None:
        """Wait for what is still being written to Redis."""
        await asyncio.gather(*self._fills)

    def _landed(self, code: str, task: asyncio.Task[LinkState | None]) -> None:
        del self._flights[code]
        if not task.cancelled():
            task.exception()  # those who waited for it may have given up

    async def _load(self, code: str) -> LinkState | None:
        state = await self._from_redis(code)
        if state is not None:
            REDIS_HITS.inc()
            return state
        async with self._database.connection("find_link") as connection:
            row = await connection.fetchrow(_QUERY, code)
        if row is None:
            return None
        POSTGRESQL_HITS.inc()
        state = LinkState.of_row(row)
        fill = asyncio.create_task(self._to_redis(code, state))
        self._fills.add(fill)
        fill.add_done_callback(self._fills.discard)
        return state

    async def _from_redis(self, code: str) -> LinkState | None:
        try:
            data = await self._redis.get(link_key(code))
            return None if data is None else LinkState.decode(data)
        except REDIS_ERRORS as error:
            REDIS_FAILURES.inc()
            LOG.debug("Redis did not answer a lookup: %s", error)
        except ValueError:
            LOG.warning("Redis holds something else than a link", extra={"code": code})
        return None

    async def _to_redis(self, code: str, state: LinkState) -> None:
        try:
            # Only where there is nothing: the API may have put a newer state there meanwhile.
            await self._redis.set(link_key(code), state.encode(), ex=REDIS_TTL_SECONDS, nx=True)
        except REDIS_ERRORS as error:
            REDIS_FAILURES.inc()
            LOG.debug("Redis did not take a link: %s", error)
