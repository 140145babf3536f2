"""Migration files: what a directory of `NNNNNN_name.up.sql` holds, and what each file says about itself.

The first comment lines of an up file are its header:

    -- linkrift: expand                       older releases go on working
    -- linkrift: contract oldest=<N>          only releases of schema level N and newer go on working
    -- linkrift: no-transaction               one statement that cannot run in a transaction (CONCURRENTLY)

The names are golang-migrate's, so that either tool can apply them. Everything is checked here, before a
database is asked anything.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_FILE_NAME = re.compile(r"^(?P<version>\d{6})_(?P<name>[a-z0-9_]+)\.up\.sql$")
_DIRECTIVE = re.compile(r"^--\s*linkrift\s*:\s*(?P<words>.*?)\s*$", re.IGNORECASE)
_CONTRACT = re.compile(r"^contract\s+oldest=(?P<oldest>\d+)$")
_TRANSACTION_CONTROL = re.compile(
    r"^(BEGIN|START\s+TRANSACTION|COMMIT|ROLLBACK|ABORT|PREPARE\s+TRANSACTION)\b", re.IGNORECASE
)
_CONCURRENTLY = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)
_REFRESH = re.compile(r"^REFRESH\s+MATERIALIZED\s+VIEW\b", re.IGNORECASE)
_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[A-Za-z_][A-Za-z0-9_$]*)'
_CREATE_INDEX = re.compile(
    rf"^CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<index>{_IDENTIFIER})\s+"
    rf"ON\s+(?:ONLY\s+)?(?:(?P<schema>{_IDENTIFIER})\.)?{_IDENTIFIER}",
    re.IGNORECASE,
)
# Comments, and text that may hold a semicolon or a keyword without meaning it.
_OPAQUE = re.compile(
    r"""
      (?P<line_comment>--[^\n]*)
    | (?P<block_comment>/\*)
    | (?P<escape_string>(?<![A-Za-z0-9_$])[eE]'(?:[^'\\]|''|\\.)*')
    | (?P<string>'(?:[^']|'')*')
    | (?P<identifier>"(?:[^"]|"")*")
    | (?P<dollar>(?<![A-Za-z0-9_$])\$(?P<tag>[A-Za-z_]\w*)?\$)
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class MigrationError(Exception):
    """Something an operator has to decide or repair; the message says what."""


@dataclass(frozen=True)
class Migration:
    """One `NNNNNN_name.up.sql`.

    Attributes:
        version: its number, 1 for the first.
        name: the words of its file name.
        path: the file.
        sql: the whole text of the file.
        checksum: SHA-256 of the file's bytes, hexadecimal.
        oldest: None for an expand migration; for a contract migration the oldest schema level whose releases go on
            working after it.
        transactional: False when the file holds one statement that PostgreSQL refuses inside a transaction.
        concurrent_index: the (schema-qualified, quoted as written) index of a CREATE INDEX CONCURRENTLY, else None.
    """

    version: int
    name: str
    path: Path
    sql: str
    checksum: str
    oldest: int | None
    transactional: bool
    concurrent_index: str | None

    @property
    def kind(self) -> str:
        """`expand` or `contract`."""
        return "expand" if self.oldest is None else "contract"

    @property
    def label(self) -> str:
        """The file name, for messages."""
        return self.path.name


def load_migrations(directory: Path) -> list[Migration]:
    """Read and check every up file of a directory.

    Args:
        directory: holds `NNNNNN_name.up.sql` and `.down.sql`; other files are ignored.

    Returns:
        The migrations in their order; their versions are 1, 2, 3 … without a gap.

    Raises:
        MigrationError: the directory cannot be read or is empty; a number is missing or given twice; a file has no
            header, a contradicting one, or statements that do not fit to it. All findings are in one message.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.name.endswith(".up.sql"))
    except OSError as error:
        raise MigrationError(f"cannot read the migrations in {directory}: {error.strerror}") from error
    if not paths:
        raise MigrationError(f"there is no migration (NNNNNN_name.up.sql) in {directory}")
    read = [_read_or_fault(path) for path in paths]
    migrations = [migration for migration in read if isinstance(migration, Migration)]
    findings = [fault for fault in read if isinstance(fault, str)] or _numbering_faults(migrations)
    if findings:
        raise MigrationError("the migrations are not usable, nothing was run: " + "; ".join(findings))
    return migrations


def _read_or_fault(path: Path) -> Migration | str:
    """Return a migration, or what is wrong with it: one run shows the faults of all files."""
    try:
        return read_migration(path)
    except MigrationError as error:
        return str(error)


def _numbering_faults(migrations: list[Migration]) -> list[str]:
    """Say which numbers are given twice or missing."""
    faults: list[str] = []
    by_version: dict[int, list[str]] = {}
    for migration in migrations:
        by_version.setdefault(migration.version, []).append(migration.label)
    faults.extend(
        f"number {version:06d} is given twice: {' and '.join(labels)}"
        for version, labels in sorted(by_version.items())
        if len(labels) > 1
    )
    faults.extend(
        f"number {version:06d} is missing" for version in range(1, max(by_version) + 1) if version not in by_version
    )
    if 0 in by_version:
        faults.append(f"{by_version[0][0]}: numbers start at 000001")
    return faults


def read_migration(path: Path) -> Migration:
    """Read one up file and check its header against its statements.

    Raises:
        MigrationError: the name, the header or the statements are not acceptable; the message names the file.
    """
    match = _FILE_NAME.match(path.name)
    if not match:
        raise MigrationError(f"{path.name}: the name is not NNNNNN_lower_case_words.up.sql")
    try:
        content = path.read_bytes()
        sql = content.decode("utf-8")
    except OSError as error:
        raise MigrationError(f"{path.name}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MigrationError(f"{path.name}: is not UTF-8 at byte {error.start}") from error
    version = int(match["version"])
    oldest, transactional = _parse_header(path.name, version, sql)
    statements = split_statements(sql)
    _check_statements(path.name, statements, transactional=transactional)
    return Migration(
        version=version,
        name=match["name"],
        path=path,
        sql=sql,
        checksum=hashlib.sha256(content).hexdigest(),
        oldest=oldest,
        transactional=transactional,
        concurrent_index=None if transactional else _concurrent_index(statements[0]),
    )


def _parse_header(label: str, version: int, sql: str) -> tuple[int | None, bool]:
    """Return (oldest, transactional) as the first comment lines state them."""
    kinds: list[int | None] = []
    transactional = True
    in_header = True
    for line in sql.splitlines():
        text = line.strip()
        if text and not text.startswith("--"):
            in_header = False
        directive = _DIRECTIVE.match(text)
        if not directive:
            continue
        words = directive["words"]
        if not in_header:
            raise MigrationError(
                f"{label}: '-- linkrift: {words}' stands below the first statement, where it says nothing"
            )
        contract = _CONTRACT.match(words)
        if words == "expand":
            kinds.append(None)
        elif contract:
            kinds.append(int(contract["oldest"]))
        elif words == "no-transaction":
            transactional = False
        else:
            raise MigrationError(
                f"{label}: '-- linkrift: {words}' is not known; "
                "there are 'expand', 'contract oldest=<N>' and 'no-transaction'"
            )
    if not kinds:
        raise MigrationError(f"{label}: has no header '-- linkrift: expand' or '-- linkrift: contract oldest=<N>'")
    if len(kinds) > 1:
        raise MigrationError(f"{label}: states more than once whether it expands or contracts")
    oldest = kinds[0]
    if oldest is not None and not 1 <= oldest <= version:
        raise MigrationError(f"{label}: oldest={oldest} is not a schema level between 1 and its own number {version}")
    return oldest, transactional


def _check_statements(label: str, statements: list[str], *, transactional: bool) -> None:
    """Refuse statements that would break the promise of how the file is run."""
    if not statements:
        raise MigrationError(f"{label}: holds no statement")
    for statement in statements:
        control = _TRANSACTION_CONTROL.match(statement)
        if control:
            raise MigrationError(
                f"{label}: {control[0].upper()} is not for a migration, which is run in a transaction of its own"
            )
    if not transactional:
        if len(statements) > 1:
            raise MigrationError(
                f"{label}: holds {len(statements)} statements; without a transaction there must be exactly one a file"
            )
        return
    for statement in statements:
        if _CONCURRENTLY.search(statement) and not _REFRESH.match(statement):
            raise MigrationError(
                f"{label}: CONCURRENTLY does not run in a transaction; put that one statement into a file of its own "
                "with '-- linkrift: no-transaction'"
            )


def _concurrent_index(statement: str) -> str | None:
    """Return the index that a CREATE INDEX CONCURRENTLY makes."""
    match = _CREATE_INDEX.match(statement)
    if not match:
        return None
    return f"{match['schema']}.{match['index']}" if match["schema"] else match["index"]


def split_statements(sql: str) -> list[str]:
    """Split a script at its semicolons.

    Returns:
        Each statement without comments and with the content of its strings left out ('' and $$$$ stay): for looking
        at keywords and identifiers, not for running.
    """
    statements: list[str] = []
    current: list[str] = []
    position = 0
    while True:
        match = _OPAQUE.search(sql, position)
        if not match:
            current.append(sql[position:])
            break
        current.append(sql[position : match.start()])
        position = match.end()
        if match["end"]:
            statements.append("".join(current).strip())
            current = []
        elif match["identifier"]:
            current.append(match[0])
        elif match["dollar"]:
            closing = sql.find(match[0], position)
            position = len(sql) if closing < 0 else closing + len(match[0])
            current.append("$$$$")
        elif match["block_comment"]:
            position = _end_of_comment(sql, position)
            current.append(" ")
        else:
            current.append(" " if match["line_comment"] else "''")
    statements.append("".join(current).strip())
    return [statement for statement in statements if statement]


def _end_of_comment(sql: str, position: int) -> int:
    """Return where a block comment ends that was opened before `position`; they nest."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(sql, position)
        if not edge:
            return len(sql)
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return position
