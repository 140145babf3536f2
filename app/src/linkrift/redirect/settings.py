"""The redirect service's settings."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from linkrift.environment import Environment, Network
from linkrift.settings import (
    DatabaseSettings,
    ProcessSettings,
    RedisSettings,
    read_database,
    read_process,
    read_redis,
    read_replicas,
)
from linkrift.visitors import IPV4_PREFIX, IPV6_PREFIX

# Of the time a lookup may take, what Redis gets before PostgreSQL is asked.
REDIS_SHARE = 0.25
SECRET_LENGTH = 32
# The same of a replica, before the primary is asked.
REPLICA_SHARE = 0.25
# After this part of it without an answer, calls of PostgreSQL seem to wait in vain.
PATIENCE_SHARE = 0.5

MIB = 1024 * 1024


@dataclass(frozen=True)
class RedirectSettings:
    """Settings of the redirect service. Times are in seconds.

    Attributes:
        read_timeout: what finding a link may take, all stores together.
        write_timeout: what sending clicks to Redis may take, each time.
        cache_bytes: what the links kept in a process's memory may take of it.
        warm_links: how many links a process loads into its memory before it is ready; 0: none.
        replicas: copies of the database, asked for links before it.
        click_buffer_size: clicks kept in a process's memory while neither Redis nor the disk takes them.
        click_spool: directory for clicks that Redis does not take; None: they stay in memory.
        click_spool_bytes: what all files there may have together.
        click_ipv4_prefix: bits of a visitor's IPv4 address that are kept with a click.
        click_ipv6_prefix: the same for IPv6.
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
    cache_bytes: int = 43 * MIB
    warm_links: int = 10_000
    replicas: tuple[DatabaseSettings, ...] = ()
    click_buffer_size: int = 100_000
    click_spool: Path | None = None
    click_spool_bytes: int = 256 * MIB
    click_ipv4_prefix: int = IPV4_PREFIX
    click_ipv6_prefix: int = IPV6_PREFIX
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
    database = replace(
        read_database(environment, connections=20, idle=2, command_timeout=read_timeout),
        connect_timeout=read_timeout,
        patience=read_timeout * PATIENCE_SHARE,
    )
    settings = RedirectSettings(
        process=read_process(environment, "redirect", 8081),
        database=database,
        redis=read_redis(environment, pool_size=50, timeout=read_timeout * REDIS_SHARE),
        read_timeout=read_timeout,
        write_timeout=environment.duration("LINKRIFT_REDIRECT_WRITE_TIMEOUT", 1.0, minimum=0.01, maximum=30.0),
        cache_bytes=environment.integer("LINKRIFT_REDIRECT_CACHE_MIB", 43, minimum=1, maximum=65536) * MIB,
        warm_links=environment.integer("LINKRIFT_REDIRECT_WARM_LINKS", 10_000, minimum=0, maximum=100_000),
        replicas=read_replicas(environment, database, timeout=read_timeout * REPLICA_SHARE),
        click_buffer_size=environment.integer("LINKRIFT_CLICK_BUFFER_SIZE", 100_000, minimum=1, maximum=10_000_000),
        # The second is systemd's, from the unit's StateDirectory.
        click_spool=environment.path("LINKRIFT_CLICK_SPOOL") or environment.path("STATE_DIRECTORY"),
        click_spool_bytes=environment.integer("LINKRIFT_CLICK_SPOOL_MIB", 256, minimum=1, maximum=1_048_576) * MIB,
        click_ipv4_prefix=environment.integer("LINKRIFT_CLICK_IPV4_PREFIX", IPV4_PREFIX, minimum=0, maximum=32),
        click_ipv6_prefix=environment.integer("LINKRIFT_CLICK_IPV6_PREFIX", IPV6_PREFIX, minimum=0, maximum=128),
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
