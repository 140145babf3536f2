"""The API service's settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from linkrift.environment import Environment, Network
from linkrift.settings import (
    ClickHouseSettings,
    DatabaseSettings,
    ProcessSettings,
    RedisSettings,
    read_clickhouse,
    read_database,
    read_process,
    read_redis,
)

SECRET_LENGTH = 32


@dataclass(frozen=True)
class RateLimitSettings:
    """How often clients may ask. Times are in seconds.

    Attributes:
        requests: how often one may ask for an operation that changes nothing, within the window.
        writes: the same for one that does, and for those without an account.
        window: in which these may come.
        burst: how many windows' worth may come at once.
        logins: how often an account's password may be tried, within the login window, from wherever.
        login_window: in which these may come.
    """

    requests: int = 100
    writes: int = 10
    window: float = 60.0
    burst: int = 2
    logins: int = 10
    login_window: float = 900.0


@dataclass(frozen=True)
class ApiSettings:
    """Settings of the API service. Times are in seconds.

    Attributes:
        jwt_secret: signs access tokens.
        jwt_previous_secrets: accepted, too, while a new secret is rolled out.
        jwt_expiry: how long an access token is good.
        public_url: origin of short URLs.
        rate_limits: how often clients may ask.
        trusted_proxies: the networks whose X-Forwarded-For is believed.
        other_hosts: hosts of the installation beside that of short URLs; no link may lead there, either.
        audit_log: the audit log's file; None: it goes to the service's own log.
    """

    process: ProcessSettings
    database: DatabaseSettings
    redis: RedisSettings
    clickhouse: ClickHouseSettings
    jwt_secret: str = field(repr=False)
    public_url: str
    jwt_previous_secrets: tuple[str, ...] = field(default=(), repr=False)
    jwt_expiry: float = 86400.0
    rate_limits: RateLimitSettings = field(default_factory=RateLimitSettings)
    trusted_proxies: tuple[Network, ...] = ()
    other_hosts: tuple[str, ...] = ()
    audit_log: Path | None = None

    @property
    def own_hosts(self) -> frozenset[str]:
        """The hosts of the installation, in small letters; a link must not lead there."""
        return frozenset({urlsplit(self.public_url).hostname or "", *self.other_hosts})


def read_settings(variables: Mapping[str, str] | None = None) -> ApiSettings:
    """Read the settings from the environment.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    environment = Environment(os.environ if variables is None else variables)
    secret = f"a secret of at least {SECRET_LENGTH} characters"
    settings = ApiSettings(
        process=read_process(environment, "api", 8080),
        database=read_database(environment, connections=20, idle=5, command_timeout=5.0),
        redis=read_redis(environment, pool_size=50, timeout=1.0),
        clickhouse=read_clickhouse(environment),
        jwt_secret=environment.secret("LINKRIFT_JWT_SECRET", secret, minimum=SECRET_LENGTH),
        jwt_previous_secrets=_read_previous_secrets(environment, secret),
        jwt_expiry=environment.duration("LINKRIFT_JWT_EXPIRY", 86400.0, minimum=1.0),
        public_url=environment.origin("LINKRIFT_PUBLIC_URL"),
        rate_limits=_read_rate_limits(environment),
        trusted_proxies=environment.networks("LINKRIFT_TRUSTED_PROXIES"),
        other_hosts=environment.hosts("LINKRIFT_OWN_HOSTS"),
        audit_log=environment.path("LINKRIFT_AUDIT_LOG"),
    )
    environment.finish()
    return settings


def _read_previous_secrets(environment: Environment, expected: str) -> tuple[str, ...]:
    """Read secrets separated by spaces."""
    name = "LINKRIFT_JWT_PREVIOUS_SECRET"
    secrets = tuple(environment.secret(name, expected, required=False).split())
    if any(len(secret) < SECRET_LENGTH for secret in secrets):
        environment.reject(name, f"expected {expected}, or several with spaces between them")
    return secrets


def _read_rate_limits(environment: Environment) -> RateLimitSettings:
    defaults = RateLimitSettings()

    def number(name: str, default: int, maximum: int = 1_000_000) -> int:
        return environment.integer(f"LINKRIFT_RATE_LIMIT_{name}", default, minimum=1, maximum=maximum)

    def window(name: str, default: float) -> float:
        return environment.duration(f"LINKRIFT_RATE_LIMIT_{name}", default, minimum=1.0, maximum=86400.0)

    return RateLimitSettings(
        requests=number("REQUESTS", defaults.requests),
        writes=number("WRITES", defaults.writes),
        window=window("WINDOW", defaults.window),
        burst=number("BURST", defaults.burst, 100),
        logins=number("LOGINS", defaults.logins),
        login_window=window("LOGIN_WINDOW", defaults.login_window),
    )
