"""Real PostgreSQL, Redis and ClickHouse servers on loopback, from the distribution's packages.

Each context manager starts one server of its own with data that go with it. They need no service manager and work as
root (PostgreSQL then runs as the user `postgres`) and as an ordinary user.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import clickhouse_driver
import psycopg2
import psycopg2.extensions

from tools.testing.certificates import write_server_certificate
from tools.testing.process import ServerProcess, find_program, free_port

POSTGRESQL_ROLES = ("linkrift_owner", "linkrift_api", "linkrift_redirect", "linkrift_worker")


@dataclass(frozen=True)
class PostgresqlServer:
    """A running PostgreSQL server.

    Attributes:
        process: start, stop, kill, freeze it.
        host: a name that its certificate carries.
        port: TCP port.
        database: `linkrift`, owned by the role linkrift_owner.
        passwords: role → password, for POSTGRESQL_ROLES and the superuser `postgres`.
        ca: file of the certificate authority that signed its certificate.
    """

    process: ServerProcess
    host: str
    port: int
    database: str
    passwords: dict[str, str]
    ca: Path

    def connect(self, role: str = "linkrift_owner", database: str | None = None) -> psycopg2.extensions.connection:
        """Open a connection as a role, in autocommit mode."""
        connection = psycopg2.connect(
            host=self.host,
            port=self.port,
            dbname=database or self.database,
            user=role,
            password=self.passwords[role],
            sslmode="verify-full",
            sslrootcert=str(self.ca),
            connect_timeout=5,
        )
        connection.autocommit = True
        return connection

    def execute(self, statement: str, role: str = "linkrift_owner", database: str | None = None) -> None:
        """Run SQL (several statements, too) as a role."""
        with closing(self.connect(role, database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)


@dataclass(frozen=True)
class RedisServer:
    """A running Redis server; `url` carries the password of the default user, who may do everything.

    Attributes:
        passwords: user → password, for the users it was started with.
    """

    process: ServerProcess
    host: str
    port: int
    password: str
    passwords: dict[str, str]

    @property
    def url(self) -> str:
        """Address for clients, database 0."""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"


@dataclass(frozen=True)
class ClickHouseServer:
    """A running ClickHouse server with an empty database `linkrift_analytics`.

    Attributes:
        secure_port: the same by TLS, with a certificate for localhost.
        ca: file of the certificate authority that signed it.
    """

    process: ServerProcess
    host: str
    port: int
    secure_port: int
    ca: Path
    database: str
    user: str
    password: str

    def client(self, database: str | None = None) -> clickhouse_driver.Client:
        """Open a client of the native protocol; the caller disconnects it."""
        return clickhouse_driver.Client(
            self.host, self.port, database or self.database, self.user, self.password, connect_timeout=5
        )

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement and return its rows."""
        client = self.client()
        try:
            rows: list[tuple[object, ...]] = client.execute(statement)
            return rows
        finally:
            client.disconnect()


@contextmanager
def postgresql_server(tmp: Path, *, settings: dict[str, str] | None = None) -> Iterator[PostgresqlServer]:
    """Run a PostgreSQL server with TLS, the database `linkrift` and its roles.

    Args:
        tmp: directory for its log and certificate. The data lie elsewhere: as root they belong to `postgres`, who
            cannot enter the directories that pytest makes.
        settings: server settings on top, for example `{"max_connections": "20"}`.

    Yields:
        The running server.

    Raises:
        MissingPackageError: PostgreSQL is not installed.
        ServerError: it did not start.
    """
    initdb, postgres = _find_postgresql("initdb"), _find_postgresql("postgres")
    passwords = {role: secrets.token_urlsafe(12) for role in ("postgres", *POSTGRESQL_ROLES)}
    ca = write_server_certificate(tmp, "postgresql")
    with _postgresql_home() as (home, user):
        for name in ("postgresql.pem", "postgresql.key"):
            shutil.copy(tmp / name, home / name)
        (home / "postgresql.key").chmod(0o600)
        (home / "password").write_text(passwords["postgres"])
        if user is not None:
            for path in home.iterdir():
                shutil.chown(path, user, user)
        _run(
            [
                initdb,
                f"--pgdata={home / 'data'}",
                "--username=postgres",
                f"--pwfile={home / 'password'}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            user=user,
        )
        port = free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": str(home / "postgresql.pem"),
            "ssl_key_file": str(home / "postgresql.key"),
            "timezone": "UTC",
            **(settings or {}),
        }
        # In a file, which its replicas get with the data; each server's port is its own.
        with (home / "data" / "postgresql.conf").open("a", encoding="utf-8") as stream:
            stream.writelines(f"{key} = '{value}'\n" for key, value in options.items())
        process = _postgresql_process(postgres, home, port, passwords["postgres"], tmp / "postgresql.log", user)
        process.start()
        try:
            server = PostgresqlServer(process, "localhost", port, "linkrift", passwords, ca)
            for role in POSTGRESQL_ROLES:
                server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{passwords[role]}'", "postgres", "postgres")
            server.execute("CREATE DATABASE linkrift OWNER linkrift_owner", "postgres", "postgres")
            yield server
        finally:
            process.thaw()
            process.stop()


@contextmanager
def postgresql_replica(tmp: Path, primary: PostgresqlServer) -> Iterator[PostgresqlServer]:
    """Run a server that follows another one by streaming replication.

    Args:
        tmp: directory for its log.
        primary: must run while this begins; it may stop and start later.

    Yields:
        The running replica, which answers reads.

    Raises:
        MissingPackageError: PostgreSQL is not installed.
        ServerError: it did not start.
        RuntimeError: the primary's data could not be copied.
    """
    copy, postgres = _find_postgresql("pg_basebackup"), _find_postgresql("postgres")
    password = primary.passwords["postgres"]
    with _postgresql_home() as (home, user):
        source = f"host=127.0.0.1 port={primary.port} user=postgres"
        command = [copy, f"--dbname={source}", f"--pgdata={home / 'data'}", "--write-recovery-conf", "--no-sync"]
        _run([*command, "--checkpoint=fast", "--wal-method=stream"], user=user, environment={"PGPASSWORD": password})
        port = free_port()
        # So that it goes on soon when the primary comes back.
        options = {"wal_retrieve_retry_interval": "100ms"}
        process = _postgresql_process(postgres, home, port, password, tmp / "postgresql-replica.log", user, options)
        process.start()
        try:
            yield replace(primary, process=process, port=port)
        finally:
            process.thaw()
            process.stop()


@contextmanager
def redis_server(
    tmp: Path, *, options: dict[str, str] | None = None, users: dict[str, str] | None = None
) -> Iterator[RedisServer]:
    """Run a Redis server that keeps its data (append-only file), so that a restart loses nothing.

    Args:
        tmp: directory for its data and log.
        options: configuration on top, for example `{"maxmemory": "4mb"}`.
        users: rights of further users, for example `{"reader": "~* -@all +get"}`.

    Yields:
        The running server.

    Raises:
        MissingPackageError: Redis is not installed.
        ServerError: it did not start.
    """
    program = find_program("redis-server", "redis-server")
    home = tmp / "redis"
    home.mkdir()
    port = free_port()
    password = secrets.token_urlsafe(12)
    configuration = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(home),
        "requirepass": password,
        "appendonly": "yes",
        "save": '""',
        "maxmemory-policy": "volatile-lru",
        **(options or {}),
    }
    passwords = {name: secrets.token_urlsafe(12) for name in users or {}}
    lines = [f"{key} {value}\n" for key, value in configuration.items()]
    lines += [f"user {name} on >{passwords[name]} {rights}\n" for name, rights in (users or {}).items()]
    (home / "redis.conf").write_text("".join(lines))
    process = ServerProcess(
        [program, str(home / "redis.conf")], log=tmp / "redis.log", answers=lambda: _redis_answers(port, password)
    )
    process.start()
    try:
        yield RedisServer(process, "127.0.0.1", port, password, passwords)
    finally:
        process.thaw()
        process.stop()


@contextmanager
def clickhouse_server(tmp: Path) -> Iterator[ClickHouseServer]:
    """Run a ClickHouse server with the database `linkrift_analytics` and the user `linkrift`.

    Args:
        tmp: directory for its data, configuration and log.

    Yields:
        The running server.

    Raises:
        MissingPackageError: ClickHouse is not installed.
        ServerError: it did not start.
    """
    program = find_program("clickhouse-server", "clickhouse-server")
    home = tmp / "clickhouse"
    home.mkdir()
    port, secure_port = free_port(), free_port()
    password = secrets.token_urlsafe(12)
    ca = write_server_certificate(home, "clickhouse")
    (home / "config.xml").write_text(_CLICKHOUSE_CONFIG.format(home=home, port=port, secure_port=secure_port))
    (home / "users.xml").write_text(_CLICKHOUSE_USERS.format(password=password))

    def connect(database: str) -> clickhouse_driver.Client:
        return clickhouse_driver.Client("127.0.0.1", port, database, "linkrift", password, connect_timeout=5)

    def answers() -> bool:
        # The client logs every refused connection, so the port is tried first.
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        client = connect("default")
        try:
            return bool(client.execute("SELECT 1"))
        finally:
            client.disconnect()

    process = ServerProcess(
        [program, f"--config-file={home / 'config.xml'}"], log=tmp / "clickhouse.log", answers=answers
    )
    process.start()
    try:
        client = connect("default")
        client.execute("CREATE DATABASE linkrift_analytics")
        client.disconnect()
        yield ClickHouseServer(process, "127.0.0.1", port, secure_port, ca, "linkrift_analytics", "linkrift", password)
    finally:
        process.thaw()
        process.stop()


def _find_postgresql(program: str) -> str:
    """Return one of PostgreSQL's programs, of the newest version that is there."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return find_program(program, "postgresql", *map(str, versions))


@contextmanager
def _postgresql_home() -> Iterator[tuple[Path, str | None]]:
    """Make a directory for a server's data; yields it, and the user it belongs to, where that is not ours."""
    user = "postgres" if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="linkrift-postgresql-"))
    try:
        if user is not None:
            shutil.chown(home, user, user)
        yield home, user
    finally:
        shutil.rmtree(home)


def _postgresql_process(
    postgres: str,
    home: Path,
    port: int,
    password: str,
    log: Path,
    user: str | None,
    options: dict[str, str] | None = None,
) -> ServerProcess:
    arguments = [f"--{key}={value}" for key, value in {"port": str(port), **(options or {})}.items()]
    return ServerProcess(
        [postgres, "-D", str(home / "data"), *arguments],
        log=log,
        answers=lambda: _postgresql_answers(port, password),
        user=user,
        stop_signal=signal.SIGINT,  # "fast": it does not wait for clients
    )


def _run(command: list[str], *, user: str | None, environment: dict[str, str] | None = None) -> None:
    """Run a command to its end, as a user; its output goes into the error."""
    result = subprocess.run(
        command,
        user=user,
        group=user,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {result.returncode}: {result.stderr.strip()}")


def _postgresql_answers(port: int, password: str) -> bool:
    try:
        psycopg2.connect(
            host="127.0.0.1", port=port, dbname="postgres", user="postgres", password=password, connect_timeout=5
        ).close()
    except psycopg2.OperationalError:
        return False
    return True


def _redis_answers(port: int, password: str) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
        received = b""
        while received.count(b"\r\n") < 2:
            chunk = connection.recv(256)
            if not chunk:
                return False
            received += chunk
        # Where `options` switch the default user off, it refuses us, which is an answer.
        return received == b"+OK\r\n+PONG\r\n" or received.startswith(b"-WRONGPASS")


# `yandex` is the root element up to 22.x; current servers still accept it.
_CLICKHOUSE_CONFIG = """<?xml version="1.0"?>
<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <listen_host>127.0.0.2</listen_host>
  <tcp_port>{port}</tcp_port>
  <tcp_port_secure>{secure_port}</tcp_port_secure>
  <openSSL>
    <server>
      <certificateFile>{home}/clickhouse.pem</certificateFile>
      <privateKeyFile>{home}/clickhouse.key</privateKeyFile>
      <verificationMode>none</verificationMode>
      <loadDefaultCAFile>false</loadDefaultCAFile>
    </server>
  </openSSL>
  <path>{home}/data/</path>
  <tmp_path>{home}/tmp/</tmp_path>
  <user_files_path>{home}/files/</user_files_path>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <mark_cache_size>67108864</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <timezone>UTC</timezone>
</yandex>
"""
_CLICKHOUSE_USERS = """<?xml version="1.0"?>
<yandex>
  <profiles><default></default></profiles>
  <quotas><default></default></quotas>
  <users>
    <linkrift>
      <password>{password}</password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </linkrift>
  </users>
</yandex>
"""
