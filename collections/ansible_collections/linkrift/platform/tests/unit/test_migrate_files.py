"""What a migration file may look like, and how it is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._migrate_files import (
    MigrationError,
    load_migrations,
    read_migration,
    split_statements,
)

EXPAND = "-- linkrift: expand\n"


def write(directory: Path, name: str, sql: str) -> Path:
    path = directory / name
    path.write_text(sql, encoding="utf-8")
    return path


def test_an_expand_migration(tmp_path: Path) -> None:
    path = write(tmp_path, "000001_create_users.up.sql", EXPAND + "CREATE TABLE users (id int);\n")
    migration = read_migration(path)
    assert (migration.version, migration.name, migration.kind) == (1, "create_users", "expand")
    assert migration.transactional
    assert migration.checksum == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_contract_migration_names_the_oldest_level(tmp_path: Path) -> None:
    path = write(tmp_path, "000007_x.up.sql", "-- Why.\n\n-- linkrift: contract oldest=5\nALTER TABLE t DROP COLUMN c;")
    migration = read_migration(path)
    assert (migration.kind, migration.oldest) == ("contract", 5)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("CREATE INDEX CONCURRENTLY i ON links (code)", "i"),
        ("create unique index concurrently if not exists i on only public.links (code)", "public.i"),
        ('CREATE INDEX CONCURRENTLY "My ""I""" ON "S".links (code)', '"S"."My ""I"""'),
        ("DROP INDEX CONCURRENTLY i", None),
        ("VACUUM links", None),
    ],
)
def test_a_migration_without_transaction(tmp_path: Path, statement: str, index: str | None) -> None:
    path = write(tmp_path, "000002_x.up.sql", f"{EXPAND}-- linkrift: no-transaction\n/* why */ {statement};\n")
    migration = read_migration(path)
    assert not migration.transactional
    assert migration.concurrent_index == index


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("SELECT 1;", "has no header"),
        (EXPAND, "holds no statement"),
        (EXPAND + "-- linkrift: contract oldest=1\nSELECT 1;", "more than once"),
        ("-- linkrift: contract\nSELECT 1;", "is not known"),
        ("-- linkrift: expand oldest=1\nSELECT 1;", "is not known"),
        ("-- linkrift: contract oldest=4\nSELECT 1;", "oldest=4 is not a schema level between 1 and its own number 3"),
        ("-- linkrift: contract oldest=0\nSELECT 1;", "oldest=0 is not"),
        ("-- linkrift: shrink\nSELECT 1;", "'-- linkrift: shrink' is not known"),
        (EXPAND + "SELECT 1;\n-- linkrift: no-transaction\n", "below the first statement"),
        (EXPAND + "CREATE INDEX CONCURRENTLY i ON t (c);", "CONCURRENTLY does not run in a transaction"),
        (EXPAND + "-- linkrift: no-transaction\nVACUUM a; VACUUM b;", "holds 2 statements"),
        (EXPAND + "BEGIN; SELECT 1; COMMIT;", "BEGIN is not for a migration"),
        (EXPAND + "SELECT 1; /* done */ commit;", "COMMIT is not for a migration"),
    ],
)
def test_a_file_that_is_refused(tmp_path: Path, sql: str, complaint: str) -> None:
    path = write(tmp_path, "000003_x.up.sql", sql)
    with pytest.raises(MigrationError, match="000003_x") as caught:
        read_migration(path)
    assert complaint in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "000001_x.up.sql"
    path.write_bytes(b"-- \xff")
    with pytest.raises(MigrationError, match="is not UTF-8 at byte 3"):
        read_migration(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "000001_x.up.sql").mkdir()
    with pytest.raises(MigrationError, match=r"000001_x\.up\.sql: cannot be read"):
        load_migrations(tmp_path)


def test_a_materialized_view_may_be_refreshed_concurrently(tmp_path: Path) -> None:
    path = write(tmp_path, "000001_x.up.sql", EXPAND + "REFRESH MATERIALIZED VIEW CONCURRENTLY v;")
    assert read_migration(path).transactional


def test_a_directory_in_order(tmp_path: Path) -> None:
    for number in (2, 1, 10, 3, 4, 5, 6, 7, 8, 9):
        write(tmp_path, f"{number:06d}_x.up.sql", EXPAND + "SELECT 1;")
    write(tmp_path, "000001_x.down.sql", "SELECT 1;")
    write(tmp_path, "README.md", "")
    assert [migration.version for migration in load_migrations(tmp_path)] == list(range(1, 11))


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["000001_a", "000003_c"], "number 000002 is missing"),
        (["000002_b"], "number 000001 is missing"),
        (["000001_a", "000001_b"], "number 000001 is given twice: 000001_a.up.sql and 000001_b.up.sql"),
        (["000000_a", "000001_b"], "numbers start at 000001"),
        (["1_a"], "1_a.up.sql: the name is not NNNNNN_"),
        ([], "there is no migration"),
    ],
)
def test_a_directory_that_is_refused(tmp_path: Path, names: list[str], complaint: str) -> None:
    for name in names:
        write(tmp_path, f"{name}.up.sql", EXPAND + "SELECT 1;")
    with pytest.raises(MigrationError) as caught:
        load_migrations(tmp_path)
    assert complaint in str(caught.value)


def test_all_faulty_files_are_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, "000001_a.up.sql", "SELECT 1;")
    write(tmp_path, "000002_b.up.sql", EXPAND)
    with pytest.raises(MigrationError, match=r"000001_a.*000002_b"):
        load_migrations(tmp_path)


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match=r"cannot read the migrations in .*nothing-here: No such file"):
        load_migrations(tmp_path / "nothing-here")


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; ;; SELECT 'it''s;'", ["SELECT ''", "SELECT ''"]),
        (r"SELECT E'\';'; SELECT 2", ["SELECT ''", "SELECT 2"]),
        ("SELECT 1 -- ; no\n; /* ; /* ; */ ; */ SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ('SELECT "a;b"', ['SELECT "a;b"']),
        ("DO $$ BEGIN; COMMIT; END $$; SELECT 2", ["DO $$$$", "SELECT 2"]),
        ("DO $body$ x; $$ ; $body$; SELECT 2", ["DO $$$$", "SELECT 2"]),
        ("SELECT a$1; SELECT 2", ["SELECT a$1", "SELECT 2"]),
        ("SELECT 1 /* never closed ; ", ["SELECT 1"]),
        ("DO $$ never closed ; ", ["DO $$$$"]),
        ("  \n -- nothing\n", []),
    ],
)
def test_statements_are_split_where_they_end(sql: str, statements: list[str]) -> None:
    assert split_statements(sql) == statements
