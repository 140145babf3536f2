"""The connection pool to PostgreSQL, bounded in size and time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

import asyncpg

from linkrift import metrics
from linkrift.breaker import Breaker, BreakerOpenError
from linkrift.postgres_pool import Pool, PoolBusyError
from linkrift.settings import DatabaseSettings

LOG = logging.getLogger(__name__)

# What a statement runs on.
Connection: TypeAlias = asyncpg.Connection

# What says that the server, not the statement, is the trouble.
_UNUSABLE = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # raised, too, where the server's farewell crosses a statement
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    asyncpg.InvalidAuthorizationSpecificationError,  # a password that does not match, too
)
_UNFINISHED = (OSError, asyncio.TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# It answers, and reads go on. A standby says the second when it is asked for a transaction that writes.
_READ_ONLY = (asyncpg.ReadOnlySQLTransactionError, asyncpg.FeatureNotSupportedError)
_AWAY = (*_UNUSABLE, *_READ_ONLY)


class DatabaseAwayError(Exception):
    """PostgreSQL cannot be used at the moment."""


class Database:
    """A pool that connects when it is used, so that a server that comes back is used again at once.

    A server that does not answer is not asked until it answers a probe: see `breaker`.
    """

    def __init__(self, settings: DatabaseSettings, application: str, *, dependency: str = "postgresql") -> None:
        """Prepare; `open` must be called in the loop that uses it.

        Args:
            settings: where and how.
            application: what PostgreSQL shows as the connections' name.
            dependency: the server's name in logs and metrics.
        """
        self._settings = settings
        self._application = application
        self._pool: Pool | None = None
        self._breaker = Breaker(dependency, self._probe, _UNUSABLE, patience=settings.patience)
        self._errors = metrics.DEPENDENCY_ERRORS.labels(dependency)
        self._active = 0

    async def open(self) -> None:
        """Open the pool and as many connections as are kept ahead; a server that is away is no error."""
        settings = self._settings
        tls = settings.tls() or False

        async def connect(timeout: float) -> Connection:
            return await asyncpg.connect(
                host=settings.host,
                port=settings.port,
                database=settings.name,
                user=settings.user,
                password=settings.password,
                ssl=tls,
                timeout=timeout,
                command_timeout=settings.command_timeout,
                server_settings={
                    "application_name": self._application,
                    # The server gives up, too, when we are no longer there to cancel.
                    "statement_timeout": str(int(settings.command_timeout * 1000)),
                },
            )

        self._pool = Pool(connect, settings.max_connections)
        metrics.DB_MAX.inc(settings.max_connections)
        try:
            await self._open_ahead(settings.idle_connections)
        except DatabaseAwayError as error:
            LOG.warning("PostgreSQL is away: %s", error)

    @asynccontextmanager
    async def connection(self, query_type: str) -> AsyncIterator[Connection]:
        """Lend a connection for a statement or a transaction.

        Args:
            query_type: the label of its time in the metrics.

        Yields:
            The connection.

        Raises:
            DatabaseAwayError: there is none, or the server went away meanwhile.
        """
        started = time.perf_counter()
        try:
            with self._breaker.call() as asked:
                async with self._lend() as connection:
                    asked()
                    yield connection
        except (BreakerOpenError, PoolBusyError) as error:
            raise DatabaseAwayError(str(error)) from error
        except _AWAY as error:
            self._errors.inc()
            if self._pool is not None and isinstance(error, _READ_ONLY):
                # A server that was taken over from stays with us as long as we hold on to it.
                self._pool.expire()
            raise DatabaseAwayError(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        finally:
            metrics.QUERY_SECONDS.labels(query_type).observe(time.perf_counter() - started)

    async def check(self) -> None:
        """Ask for an answer; raises when there is none."""
        async with self.connection("check") as connection:
            await connection.fetchval("SELECT 1")

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date."""
        active = 0 if self._pool is None else self._pool.lent
        metrics.DB_ACTIVE.inc(active - self._active)
        self._active = active

    async def close(self, deadline_seconds: float = 5.0) -> None:
        """Close all connections; those still in use after the deadline are cut."""
        await self._breaker.close()
        if self._pool is None:
            return
        metrics.DB_MAX.dec(self._settings.max_connections)
        await self._pool.close(deadline_seconds)
        self._pool = None

    @asynccontextmanager
    async def _lend(self) -> AsyncIterator[Connection]:
        if self._pool is None:
            raise DatabaseAwayError("not connected yet")
        pool, usable = self._pool, False
        connection = await pool.acquire(self._settings.connect_timeout)
        try:
            yield connection
            usable = True
        except Exception as error:
            # After these a statement may still be under way.
            usable = not isinstance(error, _UNFINISHED)
            raise
        finally:
            pool.release(connection, usable=usable)

    async def _probe(self) -> None:
        async with self._lend() as connection:
            await connection.fetchval("SELECT 1")

    async def _open_ahead(self, count: int) -> None:
        """Hold `count` connections at once, so that the pool has them."""
        async with AsyncExitStack() as held:
            for _ in range(count):
                await held.enter_async_context(self.connection("connect"))
