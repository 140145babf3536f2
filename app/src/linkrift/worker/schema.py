"""The ClickHouse schema: numbered SQL files, applied in order, each once."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from clickhouse_driver import Client
from clickhouse_driver.errors import Error as DriverError
from clickhouse_driver.errors import ErrorCodes, NetworkError, ServerException

from linkrift.clickhouse import ClickHouseAwayError, make_client
from linkrift.environment import Environment
from linkrift.settings import ClickHouseSettings, read_clickhouse

_NAME = re.compile(r"(?P<number>\d{6})_[a-z0-9_]+\.sql")
_CLIENT = "linkrift-schema"
# What ClickHouse says of a column that it has already; 18.16 says the second.
_THERE_ALREADY = (ErrorCodes.DUPLICATE_COLUMN, ErrorCodes.ILLEGAL_COLUMN)
_RECORDS = """
CREATE TABLE IF NOT EXISTS schema_migrations (version UInt32, applied_at DateTime)
ENGINE = MergeTree() PARTITION BY tuple() ORDER BY version
"""


class SchemaError(Exception):
    """The schema files are missing or damaged."""


@dataclass(frozen=True)
class SchemaFile:
    """A numbered file with one or more statements, each ending with a semicolon at the end of a line."""

    number: int
    path: Path

    def statements(self) -> list[str]:
        """Return the statements without comments."""
        lines = [line for line in self.path.read_text(encoding="utf-8").splitlines() if not line.startswith("--")]
        parts = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
        return [part.strip() for part in parts if part.strip()]


def migrations_directory(variables: dict[str, str] | None = None) -> Path:
    """Return where the release keeps its ClickHouse files.

    That is `clickhouse/` in LINKRIFT_MIGRATIONS_DIR, or in `migrations/` beside the virtual environment.
    """
    configured = (os.environ if variables is None else variables).get("LINKRIFT_MIGRATIONS_DIR")
    base = Path(configured) if configured else Path(sys.prefix).resolve().parent / "migrations"
    return base / "clickhouse"


def schema_files(directory: Path) -> list[SchemaFile]:
    """Return the files in order.

    Raises:
        SchemaError: there are none, or two with one number.
    """
    matches = [(_NAME.fullmatch(path.name), path) for path in directory.glob("*.sql")]
    files = sorted((SchemaFile(int(match["number"]), path) for match, path in matches if match), key=_number)
    if not files:
        raise SchemaError(f"no files such as 000001_name.sql in {directory}")
    if len({file.number for file in files}) != len(files):
        raise SchemaError(f"two files with one number in {directory}")
    return files


def _number(file: SchemaFile) -> int:
    return file.number


def apply(settings: ClickHouseSettings, files: list[SchemaFile]) -> list[int]:
    """Apply the files that were not applied before; the database is made if it is missing.

    A file that was applied and could not be recorded is applied again: its statements must allow that.

    Returns:
        The numbers of those that were applied now.

    Raises:
        ClickHouseAwayError: it cannot be reached, or refused a statement.
    """
    try:
        _make_database(settings)
        client = make_client(settings, settings.database, client_name=_CLIENT)
        try:
            return _apply(client, files)
        finally:
            client.disconnect()
    except (DriverError, OSError, EOFError) as error:
        raise ClickHouseAwayError.of(error) from error


def ensure_schema() -> int:
    """Apply the schema as the environment says; prints `changed` or `unchanged`; returns the exit code.

    Raises:
        ConfigurationError: with everything that is wrong with the settings.
    """
    environment = Environment(os.environ)
    settings = read_clickhouse(environment)
    environment.finish()
    try:
        applied = apply(settings, schema_files(migrations_directory()))
    except (SchemaError, ClickHouseAwayError) as error:
        print(f"ensure-schema: {error}", file=sys.stderr)
        return 1
    print("changed" if applied else "unchanged")
    return 0


def _make_database(settings: ClickHouseSettings) -> None:
    """Make the database where it is missing; one cannot even log in to one that is."""
    if _database_is_there(settings):
        return
    client = make_client(settings, "default", client_name=_CLIENT)
    try:
        quoted = settings.database.replace("\\", "\\\\").replace("`", "\\`")
        client.execute(f"CREATE DATABASE IF NOT EXISTS `{quoted}`")
    finally:
        client.disconnect()


def _database_is_there(settings: ClickHouseSettings) -> bool:
    client = make_client(settings, settings.database, client_name=_CLIENT)
    try:
        client.execute("SELECT 1")
    except NetworkError:
        # The server hangs up on a login to an unknown database; its reason may be lost on the way.
        return False
    except ServerException as error:
        if error.code == ErrorCodes.UNKNOWN_DATABASE:
            return False
        raise
    finally:
        client.disconnect()
    return True


def _apply(client: Client, files: list[SchemaFile]) -> list[int]:
    client.execute(_RECORDS)
    known = {row[0] for row in client.execute("SELECT DISTINCT version FROM schema_migrations")}
    missing = [file for file in files if file.number not in known]
    for file in missing:
        for statement in file.statements():
            _run(client, statement)
        client.execute(
            "INSERT INTO schema_migrations (version, applied_at) SELECT toUInt32(%(version)s), now()",
            {"version": file.number},
        )
    return [file.number for file in missing]


def _run(client: Client, statement: str) -> None:
    """Run a statement; a column that is there already was added by an earlier run that could not record it."""
    try:
        client.execute(statement)
    except ServerException as error:
        if error.code not in _THERE_ALREADY or " ADD COLUMN " not in statement:
            raise
