"""pg_migrate against a real PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils._migrate_postgresql import (
    Settings,
    connect,
    migration_lock,
)
from ansible_collections.linkrift.platform.plugins.modules import pg_info, pg_migrate
from tools.testing.certificates import write_server_certificate
from tools.testing.servers import PostgresqlServer, postgresql_server

pytestmark = pytest.mark.servers

EXPAND = "-- linkrift: expand\n"
ALONE = EXPAND + "-- linkrift: no-transaction\n"
COLLECTIONS = Path(__file__).parents[5]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresqlServer]:
    with postgresql_server(tmp_path_factory.mktemp("postgresql")) as running:
        yield running


class Case:
    """A database of its own, and a directory of migrations to write into."""

    def __init__(self, server: PostgresqlServer, directory: Path, database: str) -> None:
        self.server = server
        self.directory = directory
        self.database = database

    def write(self, version: int, sql: str, name: str = "step") -> Path:
        path = self.directory / f"{version:06d}_{name}.up.sql"
        path.write_text(sql, encoding="utf-8")
        return path

    def query(self, sql: str, role: str = "linkrift_owner") -> list[tuple[Any, ...]]:
        with closing(self.server.connect(role, self.database)) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    @property
    def level(self) -> tuple[int, bool]:
        return self.query("SELECT version, dirty FROM schema_migrations")[0]

    def params(self, **changes: Any) -> dict[str, Any]:
        return {
            "migrations": str(self.directory),
            "host": self.server.host,
            "port": self.server.port,
            "database": self.database,
            "password": self.server.passwords["linkrift_owner"],
            "sslrootcert": str(self.server.ca),
            "release": "0.1.0+abc",
            "lock_wait": 20,
            "lock_timeout": 0.2,
            **changes,
        }

    def settings(self, **changes: Any) -> Settings:
        params = {
            key: value
            for key, value in self.params().items()
            if key not in ("migrations", "release", "password", "sslrootcert")
        }
        return Settings(
            user="linkrift_owner",
            password=self.server.passwords["linkrift_owner"],
            sslrootcert=str(self.server.ca),
            **{**params, **changes},
        )

    @contextmanager
    def started(self, **changes: Any) -> Iterator[subprocess.Popen[str]]:
        """Run the module in a process of its own."""
        code = (
            "import sys, json\n"
            "from ansible.module_utils.testing import patch_module_args\n"
            "from ansible_collections.linkrift.platform.plugins.modules import pg_migrate\n"
            "with patch_module_args(json.load(sys.stdin)): pg_migrate.main()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdin
        process.stdin.write(json.dumps(self.params(**changes)))
        process.stdin.close()
        process.stdin = None
        with process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def case(server: PostgresqlServer, tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    database = f"t{abs(hash(request.node.name)) % 10**8}"
    server.execute(f"CREATE DATABASE {database} OWNER linkrift_owner", "postgres", "postgres")
    directory = tmp_path / "migrations"
    directory.mkdir()
    return Case(server, directory, database)


@pytest.fixture
def run(case: Case, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Run the module in this process and return its answer."""

    def _run(**changes: Any) -> dict[str, Any]:
        check = changes.pop("check", False)
        capsys.readouterr()
        with (
            patch_module_args({**case.params(**changes), "_ansible_check_mode": check}),
            pytest.raises(SystemExit),
        ):
            pg_migrate.main()
        output = capsys.readouterr().out
        assert case.server.passwords["linkrift_owner"] not in output
        answer: dict[str, Any] = json.loads(output)
        return answer

    return _run


def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


Run = Callable[..., dict[str, Any]]


def test_from_nothing_and_again(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE links (id int, note text DEFAULT '100 %s');")
    case.write(2, "-- linkrift: contract oldest=1\nALTER TABLE links DROP COLUMN note;")
    foreseen = run(check=True)
    assert (foreseen["changed"], foreseen["from"], foreseen["to"]) == (True, 0, 2)
    assert foreseen["msg"] == "to apply: 000001_step.up.sql, 000002_step.up.sql"
    assert case.query("SELECT to_regclass('schema_migrations')") == [(None,)]

    answer = run()
    assert (answer["changed"], answer["from"], answer["to"], answer["floor"]) == (True, 0, 2, 1)
    assert [(step["version"], step["kind"]) for step in answer["applied"]] == [(1, "expand"), (2, "contract")]
    assert all(step["duration"] >= 0 and step["attempts"] == 1 for step in answer["applied"])
    assert case.level == (2, False)
    assert case.query("SELECT version, kind, oldest, release FROM linkrift_migrations ORDER BY 1") == [
        (1, "expand", None, "0.1.0+abc"),
        (2, "contract", 1, "0.1.0+abc"),
    ]

    again = run()
    assert (again["changed"], again["applied"], again["floor"]) == (False, [], 1)
    assert not run(check=True)["changed"]


def test_a_failing_migration_leaves_nothing_and_says_where(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int);")
    case.write(2, EXPAND + "CREATE TABLE b (id int);\nCREATE TABLE c (id nonsense);\n")
    answer = run()
    assert answer["failed"]
    assert "000002_step.up.sql: failed, nothing of it was applied" in answer["msg"]
    assert 'type "nonsense" does not exist (SQLSTATE 42704), line 3' in answer["msg"]
    assert case.level == (1, False)
    assert case.query("SELECT to_regclass('b')") == [(None,)]
    case.write(2, EXPAND + "CREATE TABLE b (id int);")
    assert run()["to"] == 2


def test_a_changed_file_is_refused(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int);")
    run()
    case.write(1, EXPAND + "CREATE TABLE a (id bigint);")
    case.write(2, EXPAND + "CREATE TABLE b (id int);")
    answer = run()
    assert answer["failed"]
    assert "000001_step.up.sql was changed after it was applied" in answer["msg"]
    assert case.level == (1, False)
    assert run(check=True)["failed"]


def test_contract_is_refused_before_anything_runs(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int, old int);")
    run()
    case.write(2, EXPAND + "CREATE TABLE b (id int);")
    case.write(3, "-- linkrift: contract oldest=2\nALTER TABLE a DROP COLUMN old;")
    answer = run()
    assert answer["failed"]
    assert "000003_step.up.sql would break releases below schema level 2" in answer["msg"]
    assert case.level == (1, False)
    assert run(target=2)["to"] == 2
    allowed = run(allow_contract=True)
    assert (allowed["to"], allowed["floor"]) == (3, 2)


def test_an_older_release_is_told_whether_the_database_serves_it(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int, old int);")
    second = case.write(2, EXPAND + "CREATE TABLE b (id int);")
    run()
    third = case.write(3, "-- linkrift: contract oldest=2\nALTER TABLE a DROP COLUMN old;")
    run(allow_contract=True)
    third.unlink()
    answer = run()
    assert not answer["changed"]
    assert answer["msg"].startswith("the database is at level 3, newer than this release's 2")
    assert (answer["to"], answer["floor"]) == (3, 2)
    second.unlink()
    refused = run()
    assert refused["failed"]
    assert "serves only releases of schema level 2 and newer; this one has level 1" in refused["msg"]


def test_two_at_once_do_it_once(case: Case) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int); SELECT pg_sleep(1);")
    case.write(2, EXPAND + "CREATE TABLE b (id int);")
    with case.started() as one, case.started() as other, ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(lambda process: process.communicate(timeout=60)[0], (one, other)))
    answers = sorted((json.loads(output) for output in outputs), key=lambda answer: bool(answer["changed"]))
    assert [answer["changed"] for answer in answers] == [False, True], outputs
    assert [len(answer["applied"]) for answer in answers] == [0, 2]
    assert case.level == (2, False)


def test_who_waits_too_long_hears_who_holds_the_lock(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int);")
    settings = case.settings(applied_by="someone", release="9.9.9")
    with connect(settings) as connection, migration_lock(connection, settings):
        answer = run(lock_wait=0.3)
    assert answer["failed"]
    assert "waited 0.3 s for it: pid " in answer["msg"]
    assert "application 'linkrift pg_migrate 9.9.9 by someone'" in answer["msg"]
    assert run()["changed"]


def test_it_steps_back_from_a_lock_and_gets_it_later(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int);")
    run()
    case.write(2, EXPAND + "ALTER TABLE a ADD COLUMN b int;")
    with closing(case.server.connect("linkrift_owner", case.database)) as visitor:
        cursor = visitor.cursor()
        cursor.execute("BEGIN; SELECT * FROM a")
        timer = threading.Timer(1.0, cursor.execute, ["COMMIT"])
        timer.start()
        answer = run()
        timer.join()
    assert answer["to"] == 2
    assert answer["applied"][0]["attempts"] > 1


def test_it_gives_up_when_the_lock_is_never_free(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int);")
    run()
    case.write(2, EXPAND + "ALTER TABLE a ADD COLUMN b int;")
    with closing(case.server.connect("linkrift_owner", case.database)) as visitor, visitor.cursor() as cursor:
        cursor.execute("BEGIN; SELECT * FROM a")
        answer = run(lock_attempts=2)
    assert answer["failed"]
    assert "did not get its locks within 0.2 s, 2 times" in answer["msg"]
    assert case.level == (1, False)


def test_killed_in_the_middle_of_a_transaction(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int);")
    case.write(2, EXPAND + "CREATE TABLE b (id int); SELECT pg_sleep(60);")
    running = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%b (id int)%' AND pid <> pg_backend_pid()"
    with case.started():
        wait_until(lambda: case.query(running))
    case.write(2, EXPAND + "CREATE TABLE b (id int);")
    # The server notices that its client is gone, and lets the lock go.
    answer = run()
    assert (answer["from"], answer["to"]) == (1, 2)
    assert case.level == (2, False)


def test_an_index_is_built_without_transaction(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int);")
    case.write(2, ALONE + "CREATE INDEX CONCURRENTLY a_id ON a (id);")
    case.write(3, ALONE + "VACUUM a;")
    assert run()["to"] == 3
    assert case.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'a_id'::regclass") == [(True,)]


def test_killed_in_the_middle_of_an_index(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int);")
    run()
    case.write(2, ALONE + "CREATE INDEX CONCURRENTLY IF NOT EXISTS a_id ON a (id);")
    case.write(3, EXPAND + "CREATE TABLE b (id int);")
    with closing(case.server.connect("linkrift_owner", case.database)) as writer, writer.cursor() as cursor:
        cursor.execute("BEGIN; INSERT INTO a VALUES (1)")  # the build waits for it
        begun = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('a_id') AND NOT indisvalid"
        with case.started():
            wait_until(lambda: case.query(begun))
        # The server notices that its client is gone, and gives up.
        running = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'linkrift pg_migrate%'"
        wait_until(lambda: not case.query(running))
    assert case.level == (2, True)
    assert case.query(begun)
    answer = run()
    assert (answer["from"], answer["to"], answer["changed"]) == (1, 3, True)
    assert case.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'a_id'::regclass") == [(True,)]
    assert case.level == (3, False)


def test_an_index_that_was_finished_but_not_recorded(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int);")
    run()
    case.write(2, ALONE + "CREATE INDEX CONCURRENTLY a_id ON a (id);")
    case.query("CREATE INDEX a_id ON a (id); UPDATE schema_migrations SET version = 2, dirty = true")
    assert run()["to"] == 2
    assert case.level == (2, False)


def test_an_index_that_fails_is_taken_back(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int); INSERT INTO a VALUES (1), (1);")
    run()
    case.write(2, ALONE + "CREATE UNIQUE INDEX CONCURRENTLY a_id ON a (id);")
    answer = run()
    assert "failed, the index was taken back: could not create unique index" in answer["msg"]
    assert case.level == (1, False)
    assert case.query("SELECT to_regclass('a_id')") == [(None,)]
    case.query("DELETE FROM a")
    assert run()["to"] == 2


def test_a_failed_statement_without_transaction_leaves_the_database_dirty(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "CREATE TABLE a (id int);")
    run()
    case.write(2, ALONE + "VACUUM nothing_here;")
    assert "failed, the database is marked dirty at 2" in run()["msg"]
    assert case.level == (2, True)
    refused = run()
    assert refused["failed"]
    assert "the database is dirty: 000002_step.up.sql was begun and not finished" in refused["msg"]


def test_golang_migrate_may_take_over_and_give_back(case: Case, run: Run) -> None:
    for version in (1, 2, 3):
        case.write(version, EXPAND + f"CREATE TABLE IF NOT EXISTS t{version} (id int);")
    run(target=1)
    case.query("CREATE TABLE t2 (id int); TRUNCATE schema_migrations; INSERT INTO schema_migrations VALUES (2, false)")
    answer = run()
    assert (answer["from"], answer["to"]) == (2, 3)
    assert "recorded, applied by another tool: 000002_step.up.sql" in answer["msg"]
    case.query("DROP TABLE t3; TRUNCATE schema_migrations; INSERT INTO schema_migrations VALUES (2, false)")
    assert run()["to"] == 3
    assert case.query("SELECT count(*) FROM linkrift_migrations") == [(3,)]
    assert not run()["changed"]


def test_a_wrong_password_and_a_database_that_is_not_there(case: Case, run: Run) -> None:
    case.write(1, EXPAND + "SELECT 1;")
    answer = run(password="not-the-password")
    assert answer["failed"]
    assert "as linkrift_owner: " in answer["msg"]
    assert "not-the-password" not in json.dumps(answer)
    foreseen = run(database="nothing_here", check=True)
    assert foreseen["changed"]
    assert foreseen["msg"].startswith("unknown until the database exists: cannot connect to database nothing_here on")
    assert run(database="nothing_here")["failed"]


def test_a_server_of_another_authority_is_not_trusted(case: Case, run: Run, tmp_path: Path) -> None:
    case.write(1, EXPAND + "SELECT 1;")
    answer = run(sslrootcert=str(write_server_certificate(tmp_path, "other")))
    assert answer["failed"]
    assert "certificate verify failed" in answer["msg"]


def test_the_interpreter_of_a_release_that_is_not_there_yet(case: Case, run: Run, tmp_path: Path) -> None:
    foreseen = run(python=str(tmp_path / "python"), check=True)
    assert foreseen["changed"]
    assert foreseen["msg"].startswith("unknown until the release is installed")
    assert run(python=str(tmp_path / "python"))["failed"]
    assert run(migrations=str(tmp_path / "none"), check=True)["changed"]


def test_pg_info_tells_what_the_server_says(case: Case, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def ask(**changes: Any) -> dict[str, Any]:
        names = ("host", "port", "database", "password", "sslrootcert")
        wished = {name: value for name, value in case.params(**changes).items() if name in names}
        capsys.readouterr()
        with patch_module_args(wished), pytest.raises(SystemExit):
            pg_info.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    before = ask()
    assert (before["schema_level"], before["floor"], before["dirty"], before["changed"]) == (0, 0, False, False)
    case.write(1, EXPAND + "SELECT 1;")
    run()
    case.write(2, "-- linkrift: contract oldest=1\nSELECT 2;")
    run(allow_contract=True)
    case.server.execute("ALTER ROLE linkrift_api CONNECTION LIMIT 7", "postgres", "postgres")
    try:
        with closing(case.server.connect("linkrift_api", case.database)):
            after = ask()
    finally:
        case.server.execute("ALTER ROLE linkrift_api CONNECTION LIMIT -1", "postgres", "postgres")
    assert (after["schema_level"], after["floor"]) == (2, 1)
    assert (after["in_use"], after["limits"]) == ({"linkrift_api": 1}, {"linkrift_api": 7})
    assert str(after["max_connections"]) == case.query("SHOW max_connections")[0][0]
    assert after["reserved_connections"] == 3
    assert "cannot connect" in ask(password="not-the-password")["msg"]
