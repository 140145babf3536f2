"""Finds a link: in memory, in Redis, in PostgreSQL. However many ask for one at a time, it is looked up once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import asyncpg
from redis.asyncio import Redis

from linkrift import metrics, tasks
from linkrift.links import ROW_COLUMNS, LinkState
from linkrift.postgres import Database, DatabaseAwayError
from linkrift.redirect.cache import Entry, MemoryCache, TargetError
from linkrift.redirect.changes import KEEP_SECONDS, Changes
from linkrift.redis_client import REDIS_ERRORS, NotAskedError, link_key

LOG = logging.getLogger(__name__)

REDIS_TTL_SECONDS = 300
# Beyond that there is no point in queueing: whoever comes does not wait.
MAXIMUM_FLIGHTS = 1000
# Of the time that a lookup may take, what a visitor waits for a newer copy of a link that we have.
GRACE_SHARE = 0.25
# How long a link that is old is used on when its lookup failed.
RETRY_SECONDS = 1.0

_QUERY = "\n".join(("SELECT", ROW_COLUMNS, "FROM links WHERE short_code = $1"))
_QUERY_MANY = "\n".join(("SELECT short_code,", ROW_COLUMNS, "FROM links WHERE short_code = ANY($1)"))

MEMORY_HITS = metrics.CACHE_HITS.labels("memory")
REDIS_HITS = metrics.CACHE_HITS.labels("redis")
POSTGRESQL_HITS = metrics.CACHE_HITS.labels("postgresql")
REDIS_FAILURES = metrics.DEPENDENCY_ERRORS.labels("redis")


class LookupUnavailableError(Exception):
    """No store can be asked, and we do not have the link ourselves."""


class _Flight:
    """A lookup under way, and whether the link changed meanwhile."""

    __slots__ = ("changed", "task")

    task: asyncio.Task[Entry | None]

    def __init__(self) -> None:
        self.changed = False


class Lookup:
    """Finds links and keeps them in the memory cache."""

    def __init__(
        self, cache: MemoryCache, redis: Redis, database: Database, *, timeout: float, replicas: Sequence[Database] = ()
    ) -> None:
        """Prepare.

        Args:
            cache: where found links are kept.
            redis: the cache that all processes share.
            database: where links live.
            timeout: seconds a lookup may take.
            replicas: copies of the database, asked in turn before it; they may be behind.
        """
        self._cache = cache
        self._redis = redis
        self._database = database
        self._replicas = list(replicas)
        self._timeout = timeout
        self._changes = Changes()
        # Until then Redis may hold what was before a change that we missed.
        self._redis_doubted_until = float("-inf")
        self._flights: dict[str, _Flight] = {}
        self._flying: set[asyncio.Task[Entry | None]] = set()
        self._fills: set[asyncio.Task[None]] = set()

    async def find(self, code: str) -> Entry | None:
        """Return a link that is not fresh in memory; None: there is no such link.

        Raises:
            LookupUnavailableError: nobody could tell.
        """
        known = self._cache.links.get(code)
        flight = self._flights.get(code)
        if flight is None:
            if len(self._flights) >= MAXIMUM_FLIGHTS:
                return self._known(code, "too many lookups at a time")
            flight = self._launch(code)
        if known is not None and known.fresh_until > 0.0 and self._cache.told(time.monotonic()):
            # It is only old: a change would have reached us. So nobody waits for the newer copy.
            return self._known(code, "")
        timeout = self._timeout if known is None else self._timeout * GRACE_SHARE
        try:
            # Shielded: a visitor who goes away must not take the answer from the others.
            return await asyncio.wait_for(asyncio.shield(flight.task), timeout)
        except (LookupUnavailableError, asyncio.TimeoutError) as error:
            return self._known(code, str(error) or "timed out")

    async def load(self, codes: Sequence[str]) -> int:
        """Put links into memory before anybody asks for them.

        Returns:
            How many were found.

        Raises:
            RedisError, OSError: neither PostgreSQL nor Redis can be asked.
        """
        try:
            async with self._database.connection("load_links") as connection:
                rows = await connection.fetch(_QUERY_MANY, list(codes))
            found = {row["short_code"]: LinkState.of_row(row) for row in rows}
        except (DatabaseAwayError, asyncpg.PostgresError) as error:
            LOG.debug("PostgreSQL did not answer: %s", error)
            found = await self._many_from_redis(codes)
        now = time.monotonic()
        current = {code: state for code, state in found.items() if state.version >= self._changes.at_least(code)}
        for code, state in current.items():
            self._keep(code, state, now)
        return len(current)

    def _keep(self, code: str, state: LinkState, now: float) -> None:
        try:
            self._cache.store(code, state, now)
        except TargetError as error:
            LOG.error("a link cannot be followed: %s", error, extra={"code": code})

    def changed(self, code: str, version: int) -> None:
        """A link has a version by now: what we have, and what is on its way to us, may be older."""
        if version > 1 and not self._changes.note(code, version, time.monotonic()):
            return
        self._cache.forget(code, version)
        flight = self._flights.pop(code, None)
        if flight is not None:
            flight.changed = True

    def forget(self, code: str) -> None:
        """A link changed, and nobody says to which version."""
        self._cache.forget(code, 2**63)
        flight = self._flights.pop(code, None)
        if flight is not None:
            flight.changed = True

    def doubt_all(self) -> None:
        """Changes may have been missed: until Redis dropped what is old, it is asked only where nobody else answers."""
        self._redis_doubted_until = time.monotonic() + KEEP_SECONDS
        self._cache.doubt_all()
        for flight in self._flights.values():
            flight.changed = True
        self._flights.clear()

    async def close(self) -> None:
        """End lookups that nobody waits for, and wait for what is still being written to Redis."""
        await tasks.end(self._flying)
        await asyncio.gather(*self._fills)

    def _known(self, code: str, trouble: str) -> Entry:
        known = self._cache.links.get(code)
        if known is None:
            raise LookupUnavailableError(trouble)
        MEMORY_HITS.inc()
        return known

    def _launch(self, code: str) -> _Flight:
        flight = _Flight()
        flight.task = asyncio.create_task(self._fly(code, flight))
        self._flights[code] = flight
        self._flying.add(flight.task)
        flight.task.add_done_callback(lambda task: self._landed(code, flight, task))
        return flight

    def _landed(self, code: str, flight: _Flight, task: asyncio.Task[Entry | None]) -> None:
        self._flying.discard(task)
        if self._flights.get(code) is flight:
            del self._flights[code]
        error = None if task.cancelled() else task.exception()  # those who waited for it may have given up
        if error is not None and not isinstance(error, LookupUnavailableError):
            LOG.error("a lookup failed", exc_info=error, extra={"code": code})
        known = self._cache.links.get(code)
        if error is not None and known is not None and 0.0 < known.fresh_until <= time.monotonic():
            # Nobody can tell: not each visitor has to find that out.
            known.fresh_until = time.monotonic() + RETRY_SECONDS

    async def _fly(self, code: str, flight: _Flight) -> Entry | None:
        state = await self._load(code)
        now = time.monotonic()
        try:
            if flight.changed:
                # What we found may be what was there before the change: good for the visitors who asked before it.
                return None if state is None else Entry(state, now)
            return self._cache.store(code, state, now)
        except TargetError as error:
            raise LookupUnavailableError(str(error)) from error

    async def _load(self, code: str) -> LinkState | None:
        least = self._changes.at_least(code)
        doubted = time.monotonic() < self._redis_doubted_until
        state = None if doubted else await self._from_redis(code)
        if state is not None and state.version >= least:
            REDIS_HITS.inc()
            return state
        try:
            state, current = await self._from_postgresql(code, least)
        except LookupUnavailableError:
            state = await self._from_redis(code) if doubted else None
            if state is None or state.version < least:
                raise
            REDIS_HITS.inc()
            return state
        if state is not None:
            POSTGRESQL_HITS.inc()
            if current:
                fill = asyncio.create_task(self._to_redis(code, state))
                self._fills.add(fill)
                fill.add_done_callback(self._fills.discard)
        return state

    async def _from_redis(self, code: str) -> LinkState | None:
        try:
            data = await self._redis.get(link_key(code))
            return None if data is None else LinkState.decode(data)
        except NotAskedError:
            return None
        except REDIS_ERRORS as error:
            REDIS_FAILURES.inc()
            LOG.debug("Redis did not answer a lookup: %s", error)
        except ValueError:
            LOG.warning("Redis holds something else than a link", extra={"code": code})
        return None

    async def _many_from_redis(self, codes: Sequence[str]) -> dict[str, LinkState]:
        pipeline = self._redis.pipeline(transaction=False)
        for code in codes:
            pipeline.get(link_key(code))
        found = {}
        for code, data in zip(codes, await pipeline.execute(), strict=True):
            with suppress(ValueError):
                state = None if data is None else LinkState.decode(data)
                if state is not None:
                    found[code] = state
        return found

    async def _from_postgresql(self, code: str, least: int) -> tuple[LinkState | None, bool]:
        """Return what a replica holds, if it has at least that version, else what the primary does.

        Returns:
            The link, and whether it is known to be what it is now.

        Raises:
            LookupUnavailableError: no server can be asked.
        """
        answered = False
        for replica in self._in_turn():
            try:
                row = await _row(replica, code)
            except (DatabaseAwayError, asyncpg.PostgresError) as error:
                LOG.debug("a replica did not answer a lookup: %s", error)
                continue
            if row is not None and row["version"] >= least:
                # Without news of changes it might be behind, and what Redis gets everybody gets.
                return LinkState.of_row(row), time.monotonic() < self._cache.checked_until
            answered = answered or least == 0
            break
        try:
            row = await _row(self._database, code)
        except (DatabaseAwayError, asyncpg.PostgresError) as error:
            if answered:
                return None, False  # no link is made while the primary is away
            raise LookupUnavailableError(str(error)) from error
        return (None if row is None else LinkState.of_row(row)), True

    def _in_turn(self) -> list[Database]:
        self._replicas = self._replicas[1:] + self._replicas[:1]
        return self._replicas

    async def _to_redis(self, code: str, state: LinkState) -> None:
        try:
            # Only where there is nothing: the API may have put a newer state there meanwhile.
            await self._redis.set(link_key(code), state.encode(), ex=REDIS_TTL_SECONDS, nx=True)
        except NotAskedError:
            return
        except REDIS_ERRORS as error:
            REDIS_FAILURES.inc()
            LOG.debug("Redis did not take a link: %s", error)


async def _row(database: Database, code: str) -> Any:
    async with database.connection("find_link") as connection:
        return await connection.fetchrow(_QUERY, code)
