"""The settings that services share, each taken from environment variables."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from linkrift.environment import Environment

SSL_MODES = ("disable", "require", "verify-ca", "verify-full")
LOG_LEVELS = ("debug", "info", "warn", "warning", "error")


def _no_passphrase() -> str:
    """Nobody is there to type a passphrase: a key that has one is refused, not asked for."""
    return ""


@dataclass(frozen=True)
class ProcessSettings:
    """How the processes of a slot run.

    Attributes:
        service: `api`, `redirect` or `worker`.
        host: address to listen on.
        port: TCP port to listen on.
        processes: how many processes share the port.
        log_level: `debug`, `info`, `warn` or `error`.
        log_format: `json` or `text`.
        shutdown_timeout: seconds from SIGTERM until whatever is left is cut off.
        slot: `blue`, `green`, or empty in development.
        admission_file: the slot is admitted while it exists; None: always.
        live_link: names the service's live slot on this host, for whoever asks at `/health`; None: it is not told.
        runtime_directory: a directory that goes when the service stops; None: a temporary one is made.
        tls: what the listener proves who it is with; None: it speaks plain HTTP. Read once, before the processes are
            forked: all of them take each other's session tickets.
    """

    service: str
    host: str
    port: int
    processes: int = 1
    log_level: str = "info"
    log_format: str = "json"
    shutdown_timeout: float = 30.0
    slot: str = ""
    admission_file: Path | None = None
    live_link: Path | None = None
    runtime_directory: Path | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class DatabaseSettings:
    """How to reach PostgreSQL.

    Attributes:
        idle_connections: opened ahead at the start.
        command_timeout: seconds a statement may take.
        patience: seconds after which a statement without an answer is a sign that the server hangs.
    """

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)
    ssl_mode: str = "verify-full"
    ssl_root_certificate: Path | None = None
    max_connections: int = 20
    idle_connections: int = 5
    connect_timeout: float = 3.0
    command_timeout: float = 5.0
    patience: float = 2.0

    def tls(self) -> ssl.SSLContext | None:
        """Return what the connection's TLS must prove; None: no TLS."""
        if self.ssl_mode == "disable":
            return None
        root = str(self.ssl_root_certificate) if self.ssl_root_certificate else None
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=root)
        if self.ssl_mode != "verify-full":
            context.check_hostname = False
        if self.ssl_mode == "require":
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True)
class RedisSettings:
    """How to reach Redis; `timeout` is in seconds, for connecting and for each command.

    Attributes:
        tls: connect by TLS; the certificate must be for `host`.
        ca_file: authorities that are believed; None: the system's.
    """

    host: str
    port: int
    username: str | None
    password: str = field(repr=False)
    tls: bool = False
    ca_file: Path | None = None
    pool_size: int = 50
    timeout: float = 1.0


@dataclass(frozen=True)
class ClickHouseSettings:
    """How to reach ClickHouse over its native protocol; `timeout` is in seconds, for connecting.

    Attributes:
        tls: connect by TLS; the certificate must be for `host`.
        ca_file: authorities that are believed; None: the system's.
    """

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    timeout: float = 3.0
    tls: bool = False
    ca_file: Path | None = None


def read_process(environment: Environment, service: str, default_port: int) -> ProcessSettings:
    """Read what every service needs to run."""
    prefix = f"LINKRIFT_{service.upper()}"
    environment.choice("LINKRIFT_ENV", ("production", "staging", "development", "test"), "development")
    return ProcessSettings(
        service=service,
        host=environment.host(f"{prefix}_HOST", "127.0.0.1"),
        port=environment.port(f"{prefix}_PORT", default_port),
        processes=environment.integer("LINKRIFT_PROCESSES", 1, minimum=1, maximum=64),
        log_level=environment.choice("LINKRIFT_LOG_LEVEL", LOG_LEVELS, "info"),
        log_format=environment.choice("LINKRIFT_LOG_FORMAT", ("json", "text"), "json"),
        shutdown_timeout=environment.duration("LINKRIFT_SHUTDOWN_TIMEOUT", 30.0, minimum=1.0, maximum=600.0),
        slot=environment.choice("LINKRIFT_SLOT", ("blue", "green"), ""),
        admission_file=environment.path("LINKRIFT_ADMISSION_FILE"),
        live_link=environment.path("LINKRIFT_LIVE_LINK"),
        runtime_directory=environment.path("RUNTIME_DIRECTORY"),
        tls=read_listener_tls(environment),
    )


def read_listener_tls(environment: Environment) -> ssl.SSLContext | None:
    """Read the certificate that the service's own port shows, and its key; None: neither is set, no TLS."""
    certificate_name, key_name = "LINKRIFT_TLS_CERTIFICATE", "LINKRIFT_TLS_PRIVATE_KEY"
    certificate = environment.readable_file(certificate_name)
    key = environment.readable_file(key_name)
    if certificate is None or key is None:
        if certificate:
            environment.reject(key_name, f"missing; expected the path of a file, since {certificate_name} is set")
        if key:
            environment.reject(certificate_name, f"missing; expected the path of a file, since {key_name} is set")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A file that cannot be read at all is a finding already.
    with suppress(FileNotFoundError, PermissionError, IsADirectoryError):
        try:
            ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(certificate))
        except ssl.SSLError:
            environment.reject(
                certificate_name, "expected a file with certificates in PEM form, the service's own first"
            )
            return None
        try:
            context.load_cert_chain(certificate, key, password=_no_passphrase)
        except (ssl.SSLError, ValueError):
            environment.reject(
                key_name,
                f"expected the private key of the certificate in {certificate_name}, in PEM form, not encrypted",
            )
    return context


def read_database(environment: Environment, *, connections: int, idle: int, command_timeout: float) -> DatabaseSettings:
    """Read how to reach PostgreSQL; the arguments are the service's defaults."""
    mode = environment.choice("LINKRIFT_DB_SSL_MODE", SSL_MODES, "verify-full")
    verifies = mode in ("verify-ca", "verify-full")
    maximum = environment.integer("LINKRIFT_DB_MAX_CONNECTIONS", connections, minimum=1, maximum=1000)
    settings = DatabaseSettings(
        host=environment.host("LINKRIFT_DB_HOST"),
        port=environment.port("LINKRIFT_DB_PORT", 5432),
        name=environment.text("LINKRIFT_DB_NAME", "a database name", "linkrift", maximum=63),
        user=environment.text("LINKRIFT_DB_USER", "a role name", maximum=63),
        password=environment.secret("LINKRIFT_DB_PASSWORD", "the role's password"),
        ssl_mode=mode,
        ssl_root_certificate=environment.readable_file(
            "LINKRIFT_DB_SSL_ROOT_CERT",
            required_because=f"LINKRIFT_DB_SSL_MODE is {mode}" if verifies else None,
        ),
        max_connections=maximum,
        idle_connections=environment.integer(
            "LINKRIFT_DB_MAX_IDLE_CONNECTIONS", min(idle, maximum), minimum=0, maximum=maximum
        ),
        command_timeout=command_timeout,
    )
    _check_authorities(environment, "LINKRIFT_DB_SSL_ROOT_CERT", settings.ssl_root_certificate)
    return settings


def read_replicas(
    environment: Environment, primary: DatabaseSettings, *, timeout: float
) -> tuple[DatabaseSettings, ...]:
    """Read which copies of the database may be read from; `timeout` is in seconds, for connecting and for a statement.

    All but host and port is as it is for the primary.
    """
    name = "LINKRIFT_DB_REPLICA_HOSTS"
    words = environment.text(name, "hosts", "").replace(",", " ").split()
    replicas = []
    for word in words:
        try:
            parts = urlsplit(f"//{word}")
            host, port = parts.hostname or "", parts.port or primary.port
            valid = bool(host) and parts.netloc == word and "@" not in word
        except ValueError:
            valid = False
        if not valid:
            environment.reject(name, "expected hosts separated by commas, such as db2,db3:5433,[2001:db8::3]:5432")
            return ()
        replicas.append(
            replace(
                primary,
                host=host,
                port=port,
                connect_timeout=timeout,
                command_timeout=timeout,
                idle_connections=min(1, primary.idle_connections),
                patience=timeout / 2,
            )
        )
    return tuple(replicas)


def _check_authorities(environment: Environment, name: str, path: Path | None) -> None:
    """Note when a file is there and holds no certificates; one that cannot be read at all is a finding already."""
    if path is None:
        return
    with suppress(FileNotFoundError, PermissionError, IsADirectoryError):
        try:
            ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(path))
        except ssl.SSLError:
            environment.reject(name, "expected a file with certificates in PEM form")


def read_redis(environment: Environment, *, pool_size: int, timeout: float) -> RedisSettings:
    """Read how to reach Redis; the arguments are the service's defaults."""
    name = "LINKRIFT_REDIS_URL"
    expected = "redis://[user:password@]host:port/0, or rediss:// for TLS"
    url = environment.secret(name, expected)
    password = environment.secret("LINKRIFT_REDIS_PASSWORD", "the password", required=False)
    pool = environment.integer("LINKRIFT_REDIS_POOL_SIZE", pool_size, minimum=1, maximum=10_000)
    ca_file = environment.readable_file("LINKRIFT_REDIS_CA_FILE")
    _check_authorities(environment, "LINKRIFT_REDIS_CA_FILE", ca_file)
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
        valid = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and not parts.query
    except ValueError:
        valid = False
    if not valid:
        if url:
            environment.reject(name, f"expected {expected}")
        return RedisSettings("", 6379, None, "")
    if parts.path not in ("", "/", "/0"):
        # All services meet in one database, and a Redis Cluster has no other.
        environment.reject(name, "expected database 0")
    return RedisSettings(
        host=parts.hostname or "",
        port=port,
        username=unquote(parts.username) if parts.username else None,
        password=password or unquote(parts.password or ""),
        tls=parts.scheme == "rediss",
        ca_file=ca_file,
        pool_size=pool,
        timeout=timeout,
    )


def read_clickhouse(environment: Environment) -> ClickHouseSettings:
    """Read how to reach ClickHouse."""
    tls = environment.choice("LINKRIFT_CLICKHOUSE_SECURE", ("true", "false"), "false") == "true"
    ca_file = environment.readable_file("LINKRIFT_CLICKHOUSE_CA_FILE")
    _check_authorities(environment, "LINKRIFT_CLICKHOUSE_CA_FILE", ca_file)
    return ClickHouseSettings(
        host=environment.host("LINKRIFT_CLICKHOUSE_HOST"),
        port=environment.port("LINKRIFT_CLICKHOUSE_PORT", 9440 if tls else 9000),
        database=environment.text("LINKRIFT_CLICKHOUSE_DATABASE", "a database name", "linkrift_analytics", maximum=63),
        user=environment.text("LINKRIFT_CLICKHOUSE_USER", "a user name", "linkrift", maximum=63),
        password=environment.secret("LINKRIFT_CLICKHOUSE_PASSWORD", "the user's password"),
        tls=tls,
        ca_file=ca_file,
    )
