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
class ApiSettings:
    """Settings of the API service. Times are in seconds.

    Attributes:
        jwt_secret: signs access tokens.
        jwt_previous_secret: accepted, too, while a new secret is rolled out; may be empty.
        jwt_expiry: how long an access token is good.
        public_url: origin of short URLs.
        rate_limit_requests: requests that a client may send within rate_limit_window.
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
    jwt_previous_secret: str = field(default="", repr=False)
    jwt_expiry: float = 86400.0
    rate_limit_requests: int = 100
    rate_limit_window: float = 60.0
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
        jwt_previous_secret=environment.secret(
            "LINKRIFT_JWT_PREVIOUS_SECRET", secret, minimum=SECRET_LENGTH, required=False
        ),
        jwt_expiry=environment.duration("LINKRIFT_JWT_EXPIRY", 86400.0, minimum=1.0),
        public_url=environment.origin("LINKRIFT_PUBLIC_URL"),
        rate_limit_requests=environment.integer("LINKRIFT_RATE_LIMIT_REQUESTS", 100, minimum=1, maximum=1_000_000),
        rate_limit_window=environment.duration("LINKRIFT_RATE_LIMIT_WINDOW", 60.0, minimum=1.0, maximum=86400.0),
        trusted_proxies=environment.networks("LINKRIFT_TRUSTED_PROXIES"),
        other_hosts=environment.hosts("LINKRIFT_OWN_HOSTS"),
        audit_log=environment.path("LINKRIFT_AUDIT_LOG"),
    )
    environment.finish()
    return settings
