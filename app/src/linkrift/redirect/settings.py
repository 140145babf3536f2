"""The redirect service's settings."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

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
SECRET_LENGTH = 32


@dataclass(frozen=True)
class RedirectSettings:
    """Settings of the redirect service. Times are in seconds.

    Attributes:
        read_timeout: what finding a link may take, all stores together.
        write_timeout: what sending clicks to Redis may take, each time.
        cache_size: links kept in a process's memory.
        click_buffer_size: clicks kept in a process's memory while Redis is away.
        trusted_proxies: the networks whose X-Forwarded-For is believed.
        public_hosts: the names that short links are asked for under; empty: whatever is asked for.
        unknown_codes: how many that do not exist an address may ask each process for in a minute; 0: any number.
        pass_keys: sign what a visitor gets for a link's password; the first one signs, all are accepted.
    """

    process: ProcessSettings
    database: DatabaseSettings
    redis: RedisSettings
    read_timeout: float = 1.0
    write_timeout: float = 1.0
    cache_size: int = 100_000
    click_buffer_size: int = 100_000
    trusted_proxies: tuple[Network, ...] = ()
    public_hosts: tuple[str, ...] = ()
    unknown_codes: int = 120
    pass_keys: tuple[str, ...] = field(default=("",), repr=False)


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
        public_hosts=environment.hosts("LINKRIFT_PUBLIC_HOSTS"),
        unknown_codes=environment.integer("LINKRIFT_UNKNOWN_CODES_PER_MINUTE", 120, minimum=0, maximum=1_000_000),
        pass_keys=_read_pass_keys(environment),
    )
    environment.finish()
    return settings


def _read_pass_keys(environment: Environment) -> tuple[str, ...]:
    """Read the keys of passes.

    Without one this slot makes its own, which all its processes have: other slots and hosts ask for passwords again.
    """
    expected = f"a secret of at least {SECRET_LENGTH} characters"
    names = ("LINKRIFT_REDIRECT_PASS_KEY", "LINKRIFT_REDIRECT_PASS_PREVIOUS_KEY")
    found = [environment.secret(name, expected, minimum=SECRET_LENGTH, required=False) for name in names]
    if found[1] and not found[0]:
        environment.reject(names[0], f"missing; expected {expected}, since {names[1]} is set")
    return tuple(filter(None, found)) or (secrets.token_urlsafe(SECRET_LENGTH),)
