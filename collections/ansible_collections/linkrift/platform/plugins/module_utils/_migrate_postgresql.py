"""Apply migrations to a PostgreSQL database. A kill at any moment leaves a state that the next run understands.

- One runner at a time: an advisory lock, the same that golang-migrate takes, asked for by polling. (A session that
  blocks on the lock would hold a snapshot, and CREATE INDEX CONCURRENTLY waits for snapshots: a deadlock.)
- A migration, its version and its record are one transaction. A lock that it does not get within lock_timeout lets
  it step back, so that visitors' queries do not queue up behind it, and try again a little later.
- A statement that cannot run in a transaction is marked dirty before and clean afterwards.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.linkrift.platform.plugins.module_utils._migrate_files import Migration, MigrationError
from ansible_collections.linkrift.platform.plugins.module_utils._migrate_plan import Plan, Record, State

try:
    import psycopg2
    from psycopg2 import errors
except ImportError:  # the module asks for another interpreter, or says what is missing
    HAS_PSYCOPG2 = False
else:
    HAS_PSYCOPG2 = True

if TYPE_CHECKING:
    from psycopg2 import extensions

# golang-migrate's salt (database/util.go), so that its lock and ours are one.
_LOCK_SALT = 1486364155
_POLL_SECONDS = 0.5
_LONGEST_BACKOFF = 15.0
_LOOK_SECONDS = 10.0
"""For each statement of a look, which takes no longer than that on a server that is well."""

_CREATE_TABLES = """
CREATE TABLE IF NOT EXISTS public.schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL);
CREATE TABLE IF NOT EXISTS public.linkrift_migrations (
    version bigint NOT NULL PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('expand', 'contract')),
    oldest bigint CHECK ((kind = 'contract') = (oldest IS NOT NULL)),
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by text NOT NULL,
    release text NOT NULL,
    duration_ms bigint NOT NULL
);
"""


class NoConnectionError(MigrationError):
    """The database does not answer, does not exist or does not let us in."""


# The options of modules that say where the server is, and which interpreter has psycopg2.
CONNECTION: dict[str, Any] = {
    "python": {"type": "path"},
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 5432},
    "database": {"type": "str", "default": "linkrift"},
    "user": {"type": "str", "default": "linkrift_owner"},
    "password": {"type": "str", "required": True, "no_log": True},
    "sslmode": {
        "type": "str",
        "choices": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
        "default": "verify-full",
    },
    "sslrootcert": {"type": "path"},
}


@dataclass(frozen=True)
class Settings:
    """How to connect, and how long to wait for what (seconds).

    Attributes:
        host: name or address of the server.
        port: its port.
        database: name of the database.
        user: role that owns the schema.
        password: its password; never part of a message.
        sslmode: libpq's.
        sslrootcert: file with the certificate authority; empty for none.
        connect_timeout: for the connection.
        lock_wait: for another runner to finish.
        lock_timeout: for a lock within a transactional migration, each time.
        lock_attempts: how often a migration is tried when it does not get a lock.
        statement_timeout: for each statement of a transactional migration.
        concurrent_timeout: for the one statement of a migration without transaction.
        applied_by: who applies, for the record.
        release: release id, for the record.
    """

    host: str
    port: int
    database: str
    user: str
    password: str
    sslmode: str = "verify-full"
    sslrootcert: str = ""
    connect_timeout: int = 10
    lock_wait: float = 120.0
    lock_timeout: float = 5.0
    lock_attempts: int = 10
    statement_timeout: float = 300.0
    concurrent_timeout: float = 3600.0
    applied_by: str = ""
    release: str = ""


@dataclass(frozen=True)
class Applied:
    """A migration that was applied: how long the successful attempt took (seconds), and how many there were."""

    migration: Migration
    duration: float
    attempts: int


def advisory_lock_id(database: str) -> int:
    """Return the key of the lock that golang-migrate takes for a database given by URL.

    It joins schema, table and the URL's path (which begins with a slash) with NUL characters.
    """
    name = "\0".join(("public", "schema_migrations", f"/{database}"))
    return (zlib.crc32(name.encode()) * _LOCK_SALT) & 0xFFFFFFFF


@contextmanager
def connect(settings: Settings, *, read_only: bool = False) -> Iterator[extensions.connection]:
    """Connect, in autocommit mode; close at the end.

    Raises:
        NoConnectionError: the message says where to, and why, without the password.
    """
    # A server notices within a second that its client died, ends the statement and releases the lock.
    options = (
        f"-c client_connection_check_interval=1000 -c search_path=public -c default_transaction_read_only={read_only}"
    )
    try:
        connection = psycopg2.connect(
            host=settings.host,
            port=settings.port,
            dbname=settings.database,
            user=settings.user,
            password=settings.password,
            sslmode=settings.sslmode,
            sslrootcert=settings.sslrootcert or None,
            connect_timeout=settings.connect_timeout,
            application_name=f"linkrift pg_migrate {settings.release} by {settings.applied_by}"[:63],
            options=options,
        )
    except psycopg2.OperationalError as error:
        raise NoConnectionError(
            f"cannot connect to database {settings.database} on {settings.host}:{settings.port} as {settings.user}: "
            + _without_password(str(error).strip(), settings)
        ) from None
    try:
        connection.autocommit = True
        yield connection
    finally:
        connection.close()


@contextmanager
def looking(settings: Settings) -> Iterator[extensions.connection]:
    """Connect for a look, which no lock of others holds up for long; close at the end.

    Raises:
        MigrationError: the server cannot be reached, refuses a statement or takes too long; without the password.
    """
    try:
        with connect(settings, read_only=True) as connection:
            rows_of(
                connection,
                "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)",
                f"{_LOOK_SECONDS * 1000:.0f}",
                f"{settings.lock_timeout * 1000:.0f}",
            )
            yield connection
    except psycopg2.Error as error:
        raise MigrationError(
            f"database {settings.database} on {settings.host}:{settings.port} does not tell {settings.user} about "
            "itself: " + _without_password(" ".join(str(error).split()) or type(error).__name__, settings)
        ) from None


def _without_password(text: str, settings: Settings) -> str:
    """Return an error's text such that it can be shown."""
    return text.replace(settings.password, "********") if settings.password else text


def rows_of(connection: extensions.connection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []


def read_state(connection: extensions.connection) -> State:
    """Ask a database for its schema level and records; neither table needs to be there yet."""
    exists = rows_of(
        connection,
        "SELECT to_regclass('public.schema_migrations') IS NOT NULL,"
        " to_regclass('public.linkrift_migrations') IS NOT NULL",
    )[0]
    version, dirty = 0, False
    if exists[0]:
        rows = rows_of(connection, "SELECT version, dirty FROM public.schema_migrations")
        if len(rows) > 1:
            raise MigrationError(f"schema_migrations holds {len(rows)} rows where there must be one: repair it by hand")
        # golang-migrate writes -1 when its first down migration was interrupted.
        version, dirty = (max(int(rows[0][0]), 0), bool(rows[0][1])) if rows else (0, False)
    records: tuple[Record, ...] = ()
    if exists[1]:
        rows = rows_of(
            connection, "SELECT version, name, checksum, oldest FROM public.linkrift_migrations ORDER BY version"
        )
        records = tuple(Record(*row) for row in rows)
    invalid = rows_of(
        connection,
        "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
        " WHERE NOT indisvalid AND relnamespace = 'public'::regnamespace ORDER BY 1",
    )
    return State(version=version, dirty=dirty, records=records, invalid_indexes=tuple(row[0] for row in invalid))


@contextmanager
def migration_lock(connection: extensions.connection, settings: Settings) -> Iterator[None]:
    """Hold the advisory lock.

    Raises:
        MigrationError: somebody else holds it for longer than lock_wait; the message says who.
    """
    key = advisory_lock_id(settings.database)
    deadline = time.monotonic() + settings.lock_wait
    while not rows_of(connection, "SELECT pg_try_advisory_lock(%s)", key)[0][0]:
        if time.monotonic() >= deadline:
            raise MigrationError(
                f"another migration of {settings.database} is running, waited {settings.lock_wait:g} s for it: "
                + _lock_holder(connection, key)
            )
        time.sleep(min(_POLL_SECONDS, max(deadline - time.monotonic(), 0)))
    try:
        yield
    finally:
        # A broken connection has released it already.
        if not connection.closed:
            rows_of(connection, "SELECT pg_advisory_unlock(%s)", key)


def _lock_holder(connection: extensions.connection, key: int) -> str:
    """Describe the session that holds the advisory lock."""
    rows = rows_of(
        connection,
        "SELECT a.pid, a.usename, a.application_name, host(a.client_addr), to_char(a.backend_start, 'HH24:MI:SS TZ')"
        " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s AND l.objid = %s AND l.objsubid = 1"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        key >> 32,
        key & 0xFFFFFFFF,
    )
    if not rows:
        return "it has just ended, try again"
    pid, user, application, address, since = rows[0]
    origin = f"from {address or 'a local socket'}, since {since or 'unknown'}"
    return f"pid {pid}, role {user}, application '{application}', {origin}"


def carry_out(
    connection: extensions.connection, settings: Settings, plan: Plan, progress: Callable[[Applied], None] | None = None
) -> list[Applied]:
    """Do what a plan says. The caller holds the lock, and made the plan while holding it.

    Args:
        connection: in autocommit mode, as connect() gives it.
        settings: timeouts and what to record.
        plan: see make_plan().
        progress: called after each migration.

    Raises:
        MigrationError: a migration failed. Those before it are applied and recorded; it is named, with the line and
            what PostgreSQL said.
    """
    _prepare(connection, settings, plan)
    done: list[Applied] = []
    level = plan.start
    for migration in plan.pending:
        if migration.transactional:
            applied = _apply_in_transaction(connection, settings, migration)
        else:
            applied = _apply_without_transaction(
                connection, settings, migration, level, resumed=migration is plan.resume
            )
        level = migration.version
        done.append(applied)
        if progress:
            progress(applied)
    return done


def _prepare(connection: extensions.connection, settings: Settings, plan: Plan) -> None:
    """Create the tables, and bring the records in line with what another tool did."""
    with _transaction(connection) as run:
        run(_CREATE_TABLES)
        if plan.forget:
            run("DELETE FROM public.linkrift_migrations WHERE version = ANY(%s)", list(plan.forget))
        for migration in plan.adopt:
            _record(run, migration, 0.0, f"another tool, recorded by {settings.applied_by}", "")


@contextmanager
def _transaction(connection: extensions.connection) -> Iterator[Callable[..., None]]:
    """Run statements in one transaction: all of them, or none."""
    connection.autocommit = False
    try:
        with connection, connection.cursor() as cursor:
            # Without values psycopg2 leaves percent signs in a migration alone.
            yield lambda statement, *values: cursor.execute(statement, values or None)
    finally:
        if not connection.closed:
            connection.autocommit = True


def _record(run: Callable[..., None], migration: Migration, duration: float, applied_by: str, release: str) -> None:
    """Write a migration's row."""
    run(
        "INSERT INTO public.linkrift_migrations"
        " (version, name, checksum, kind, oldest, applied_by, release, duration_ms)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        migration.version,
        migration.name,
        migration.checksum,
        migration.kind,
        migration.oldest,
        applied_by,
        release,
        round(duration * 1000),
    )


def _set_version(run: Callable[..., None], version: int, *, dirty: bool) -> None:
    """Write the one row of schema_migrations, as golang-migrate does; no row stands for the empty schema."""
    run("DELETE FROM public.schema_migrations")
    if version:
        run("INSERT INTO public.schema_migrations (version, dirty) VALUES (%s, %s)", version, dirty)


def _apply_in_transaction(connection: extensions.connection, settings: Settings, migration: Migration) -> Applied:
    """Apply one migration, its version and its record at once; step back and retry when a lock is not to be had."""
    attempt = 0
    while True:
        attempt += 1
        started = time.monotonic()
        try:
            with _transaction(connection) as run:
                run("SELECT set_config('lock_timeout', %s, true)", f"{settings.lock_timeout * 1000:.0f}")
                run("SELECT set_config('statement_timeout', %s, true)", f"{settings.statement_timeout * 1000:.0f}")
                run(migration.sql)
                duration = time.monotonic() - started
                _set_version(run, migration.version, dirty=False)
                _record(run, migration, duration, settings.applied_by, settings.release)
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            if attempt >= settings.lock_attempts:
                raise MigrationError(
                    f"{migration.label}: did not get its locks within {settings.lock_timeout:g} s, {attempt} times; "
                    "a long transaction holds them (look at pg_stat_activity for the oldest xact_start). "
                    f"Nothing of it was applied. {_details(error, migration)}"
                ) from None
            # Lets the queries through that queued up behind the attempt.
            time.sleep(min(settings.lock_timeout * 0.5 * attempt, _LONGEST_BACKOFF))
        except psycopg2.Error as error:
            raise MigrationError(
                f"{migration.label}: failed, nothing of it was applied: {_details(error, migration)}"
            ) from None
        else:
            return Applied(migration, duration, attempt)


def _apply_without_transaction(
    connection: extensions.connection, settings: Settings, migration: Migration, level: int, *, resumed: bool
) -> Applied:
    """Apply a migration of one statement that PostgreSQL does not run in a transaction.

    An index being built concurrently is the one such step that can always be taken back: what an interrupted or
    failed attempt left is dropped, concurrently, too.
    """
    index = migration.concurrent_index
    with _transaction(connection) as run:
        _set_version(run, migration.version, dirty=True)
    started = time.monotonic()
    try:
        # It waits for old transactions without holding up anybody: no lock timeout, but one for the whole.
        rows_of(connection, "SELECT set_config('lock_timeout', '0', false)")
        rows_of(
            connection, "SELECT set_config('statement_timeout', %s, false)", f"{settings.concurrent_timeout * 1000:.0f}"
        )
        if index:
            _drop_if_invalid(connection, index)
        if not (resumed and index and _is_valid(connection, index)):
            rows_of(connection, migration.sql)
    except psycopg2.Error as error:
        if index and not connection.closed:
            _drop_if_invalid(connection, index)
            with _transaction(connection) as run:
                _set_version(run, level, dirty=False)
            state = "the index was taken back"
        else:
            state = f"the database is marked dirty at {migration.version}"
        raise MigrationError(f"{migration.label}: failed, {state}: {_details(error, migration)}") from None
    duration = time.monotonic() - started
    with _transaction(connection) as run:
        _set_version(run, migration.version, dirty=False)
        _record(run, migration, duration, settings.applied_by, settings.release)
    return Applied(migration, duration, 1)


def _is_valid(connection: extensions.connection, index: str) -> bool | None:
    """Return whether an index is usable; None when there is none of that name."""
    rows = rows_of(connection, "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", index)
    return bool(rows[0][0]) if rows else None


def _drop_if_invalid(connection: extensions.connection, index: str) -> None:
    """Remove what an interrupted CREATE INDEX CONCURRENTLY left; IF NOT EXISTS would take it for the index."""
    if _is_valid(connection, index) is False:
        # The name stands in the migration as an identifier, quoted where it must be (see _migrate_files).
        rows_of(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {index}")


def _details(error: Any, migration: Migration) -> str:
    """Say what PostgreSQL objects to, where in the file, and what it hints at."""
    diagnostics = error.diag
    text = diagnostics.message_primary or str(error).strip() or type(error).__name__
    parts = [f"{text} (SQLSTATE {error.pgcode})" if error.pgcode else text]
    if diagnostics.statement_position and error.cursor is not None:
        line = migration.sql.count("\n", 0, int(diagnostics.statement_position) - 1) + 1
        parts.append(f"line {line}")
    if diagnostics.message_detail:
        parts.append(diagnostics.message_detail)
    if diagnostics.message_hint:
        parts.append(f"hint: {diagnostics.message_hint}")
    return ", ".join(parts)
