"""The redirect service's settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from linkrift.environment import Environment, Network
from linkrift.settings import (
    DatabaseSettings,
    ProcessSettings,
    RedisSettings,
    read_database,
    read_process,
    read_redis,
)

# Of the time a lookup may take, what Redis gets before PostgreSQL is asked.
REDIS_SHARE = 0.25


@dataclass(frozen=True)
class RedirectSettings:
    """Settings of the redirect service. Times are in seconds.

    Attributes:
        read_timeout: what finding a link may take, all stores together.
        write_timeout: what sending clicks to Redis may take, each time.
        cache_size: links kept in a process's memory.
        click_buffer_size: clicks kept in a process's memory while Redis is away.
        trusted_proxies: the networks whose X-Forwarded-For is believed.
    """

    process: ProcessSettings
    database: DatabaseSettings
    redis: RedisSettings
    read_timeout: float = 1.0
    write_timeout: float = 1.0
    cache_size: int = 100_000
    click_buffer_size: int = 100_000
    trusted_proxies: tuple[Network, ...] = ()


def read_settings(variables: Mapping[str, str] | None = None) -> RedirectSettings:
    """Read the settings from the environment.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    environment = Environment(os.environ if variables is None else variables)
    read_timeout = environment.duration("LINKRIFT_REDIRECT_READ_TIMEOUT", 1.0, minimum=0.01, maximum=30.0)
    settings = RedirectSettings(
        process=read_process(environment, "redirect", 8081),
        database=read_database(environment, connections=20, idle=2, command_timeout=read_timeout),
        redis=read_redis(environment, pool_size=50, timeout=read_timeout * REDIS_SHARE),
        read_timeout=read_timeout,
        write_timeout=environment.duration("LINKRIFT_REDIRECT_WRITE_TIMEOUT", 1.0, minimum=0.01, maximum=30.0),
        cache_size=environment.integer("LINKRIFT_REDIRECT_CACHE_SIZE", 100_000, minimum=1, maximum=10_000_000),
        click_buffer_size=environment.integer("LINKRIFT_CLICK_BUFFER_SIZE", 100_000, minimum=1, maximum=10_000_000),
        trusted_proxies=environment.networks("LINKRIFT_TRUSTED_PROXIES"),
    )
    environment.finish()
    return settings
