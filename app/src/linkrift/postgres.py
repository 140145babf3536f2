"""The connection pool to PostgreSQL, bounded in size and time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from linkrift import metrics
from linkrift.settings import DatabaseSettings

LOG = logging.getLogger(__name__)

# What a statement runs on.
Connection: TypeAlias = PoolConnectionProxy

# What says that the server, not the statement, is the trouble.
_AWAY = (
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
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,  # a password that does not match, too
)


class DatabaseAwayError(Exception):
    """PostgreSQL cannot be used at the moment."""


class Database:
    """A pool that connects when it is used, so that a server that comes back is used again at once."""

    def __init__(self, settings: DatabaseSettings, application: str) -> None:
        """Prepare; `open` must be called in the loop that uses it.

        Args:
            settings: where and how.
            application: what PostgreSQL shows as the connections' name.
        """
        self._settings = settings
        self._application = application
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Open the pool and as many connections as are kept ahead; a server that is away is no error."""
        settings = self._settings
        self._pool = await asyncpg.create_pool(
            host=settings.host,
            port=settings.port,
            database=settings.name,
            user=settings.user,
            password=settings.password,
            ssl=settings.tls() or False,
            min_size=0,
            max_size=settings.max_connections,
            timeout=settings.connect_timeout,
            command_timeout=settings.command_timeout,
            max_inactive_connection_lifetime=600.0,
            server_settings={
                "application_name": self._application,
                # The server gives up, too, when we are no longer there to cancel.
                "statement_timeout": str(int(settings.command_timeout * 1000)),
            },
        )
        metrics.DB_MAX.set(settings.max_connections)
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
        if self._pool is None:
            raise DatabaseAwayError("not connected yet")
        started = time.perf_counter()
        try:
            async with self._pool.acquire(timeout=self._settings.connect_timeout) as connection:
                try:
                    yield connection
                except asyncio.TimeoutError:
                    # Giving it back in good order would wait for the server once more.
                    connection.terminate()
                    raise
        except _AWAY as error:
            metrics.DEPENDENCY_ERRORS.labels("postgresql").inc()
            raise DatabaseAwayError(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        finally:
            metrics.QUERY_SECONDS.labels(query_type).observe(time.perf_counter() - started)

    async def check(self) -> None:
        """Ask for an answer; raises when there is none."""
        async with self.connection("check") as connection:
            await connection.fetchval("SELECT 1")

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date."""
        if self._pool is not None:
            metrics.DB_ACTIVE.set(self._pool.get_size() - self._pool.get_idle_size())

    async def close(self, deadline_seconds: float = 5.0) -> None:
        """Close all connections; those still in use after the deadline are cut."""
        if self._pool is None:
            return
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._pool.close(), deadline_seconds)
        self._pool.terminate()
        self._pool = None

    async def _open_ahead(self, count: int) -> None:
        """Hold `count` connections at once, so that the pool has them."""
        async with AsyncExitStack() as held:
            for _ in range(count):
                await held.enter_async_context(self.connection("connect"))
