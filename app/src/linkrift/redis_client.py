"""Connections to Redis, bounded in number and time, and the names of what is kept there."""

from __future__ import annotations

import ssl
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from linkrift.settings import RedisSettings

CLICK_STREAM = "linkrift:clicks"
DEAD_CLICK_STREAM = "linkrift:clicks:dead"
WORKER_GROUP = "linkrift-worker"
INVALIDATION_CHANNEL = "linkrift:invalidate"

# What says that Redis cannot be used; RedisError covers timeouts and refused connections, too.
REDIS_ERRORS = (RedisError, OSError)


def link_key(code: str) -> str:
    """Return the key under which a link is cached."""
    return f"linkrift:link:{code}"


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
    tls: dict[str, Any] = {}
    if settings.tls:
        tls = {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
            "ssl_ca_certs": str(settings.ca_file) if settings.ca_file else None,
        }
    pool = BlockingConnectionPool(
        connection_class=SSLConnection if settings.tls else Connection,
        host=settings.host,
        port=settings.port,
        db=0,
        username=settings.username,
        password=settings.password or None,
        max_connections=settings.pool_size,
        timeout=settings.timeout,
        socket_connect_timeout=settings.timeout,
        socket_timeout=timeout or settings.timeout,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        client_name=client_name,
        **tls,
    )
    return Redis.from_pool(pool)
