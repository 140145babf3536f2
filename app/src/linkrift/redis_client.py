"""Connections to Redis, bounded in number and time, and the names of what is kept there."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from linkrift.breaker import Breaker, BreakerOpenError
from linkrift.settings import RedisSettings

CLICK_STREAM = "linkrift:clicks"
DEAD_CLICK_STREAM = "linkrift:clicks:dead"
# After this part of the time that a command may take, it seems to wait in vain: connecting is in it, and was short.
PATIENCE_SHARE = 0.8
WORKER_GROUP = "linkrift-worker"
INVALIDATION_CHANNEL = "linkrift:invalidate"

# What says that Redis cannot be used; RedisError covers timeouts and refused connections, too.
REDIS_ERRORS = (RedisError, OSError)
# What says that no command would do better; one that is refused (no memory, read-only) is not meant.
_UNUSABLE = (RedisConnectionError, RedisTimeoutError, OSError, asyncio.TimeoutError)


def link_key(code: str) -> str:
    """Return the key under which a link is cached."""
    return f"linkrift:link:{code}"


class NotAskedError(RedisConnectionError):
    """Redis did not answer before, so it was not asked."""


class GuardedRedis(Redis):
    """A client that does not ask a server that does not answer, until it answers a probe.

    That goes for commands and scripts, not for pipelines and subscriptions.
    """

    def __init__(self, pool: BlockingConnectionPool, *, patience: float) -> None:
        """Take over a pool; `patience` is in seconds, see Breaker."""
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self._breaker = Breaker("redis", self._probe, _UNUSABLE, patience=patience)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command.

        Raises:
            RedisError: also where the server is not asked.
        """
        try:
            with self._breaker.call() as asked:
                asked()
                return await self._ask(*args, **options)
        except BreakerOpenError as error:
            raise NotAskedError(str(error)) from error

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        await self._breaker.close()
        await super().aclose(close_connection_pool)

    async def _probe(self) -> None:
        await self._ask("PING")

    async def _ask(self, *args: Any, **options: Any) -> Any:
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call] # the library declares none


def connect_guarded(settings: RedisSettings, client_name: str) -> GuardedRedis:
    """Make a client, as `connect` does, that does not ask a server that does not answer."""
    return GuardedRedis(_make_pool(settings, client_name, settings.timeout), patience=settings.timeout * PATIENCE_SHARE)


def salt_key(day: int) -> str:
    """Return the key of the salt for visitors' ids; `day` is counted from 1970."""
    return f"linkrift:visitors:{day}"


def attempts_key(digest: str) -> str:
    """Return the key of a counter of attempts at links' passwords."""
    return f"linkrift:attempts:{digest}"


class TlsConnection(SSLConnection):
    """Has its SSL context in common with the others of its pool.

    redis-py makes one for each connection, and reads the system's list of authorities into it: 24 ms, in which nobody
    else is answered, and 0.9 MiB.
    """

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        """Prepare; `context` verifies the server and its name, for the options see redis-py's."""
        super().__init__(ssl_cert_reqs="required", ssl_check_hostname=True, **options)
        self.ssl_context.context = context


def connect(settings: RedisSettings, client_name: str, *, timeout: float | None = None) -> Redis:
    """Make a client; it connects when it is used.

    Args:
        settings: where and how.
        client_name: what Redis shows as the connections' name (no spaces).
        timeout: seconds for a command's answer, instead of the settings' (a blocking read needs longer).

    Returns:
        A client that gives bytes back. A command on a connection that broke is tried once more, at once; all that
        this project sends may be sent twice.
    """
    return Redis.from_pool(_make_pool(settings, client_name, timeout or settings.timeout))


def _make_pool(settings: RedisSettings, client_name: str, timeout: float) -> BlockingConnectionPool:
    tls: dict[str, Any] = {}
    if settings.tls:
        # With a file of ours, no other authority is trusted.
        context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        tls = {"context": context}
    return BlockingConnectionPool(
        connection_class=TlsConnection if settings.tls else Connection,
        host=settings.host,
        port=settings.port,
        db=0,
        username=settings.username,
        password=settings.password or None,
        max_connections=settings.pool_size,
        timeout=settings.timeout,
        socket_connect_timeout=settings.timeout,
        socket_timeout=timeout,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        client_name=client_name,
        **tls,
    )
