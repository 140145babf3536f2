# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module pg_info: what a server that is in trouble says comes back in words, and soon."""

from __future__ import annotations

import json
from typing import Any

import psycopg2
import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils._migrate_files import MigrationError
from ansible_collections.linkrift.platform.plugins.modules import pg_info

PASSWORD = "not for everybody"
ARGUMENTS = {"host": "db.example.com", "password": PASSWORD}


class Server:
    """A connection; what it was asked; and what it says to a query that has a word in it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.says: dict[str, Exception] = {}
        self.autocommit = self.closed = False
        self.description: Any = None
        self._rows: list[tuple[Any, ...]] = []

    def cursor(self) -> Server:
        return self

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def execute(self, query: str, values: Any = None) -> None:
        self.asked.append((query, values))
        for word, error in self.says.items():
            if word in query:
                raise error
        rows = {
            "to_regclass('public.": [(True, False)],
            "FROM public.schema_migrations": [(4, False)],
            "max_connections": [(300, 3)],
            "pg_stat_activity": [("linkrift_owner", 1), ("linkrift_api", 12)],
            "current_user": [("linkrift_owner",)],
        }
        self._rows = next((found for word, found in rows.items() if word in query), [])
        self.description = True

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(psycopg2, "connect", lambda **_wished: made)
    return made


def run(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    with patch_module_args(ARGUMENTS), pytest.raises(SystemExit):
        pg_info.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_a_look_has_an_end(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys)
    assert (result["schema_level"], result["in_use"]) == (4, {"linkrift_api": 12})
    query, values = server.asked[0]
    assert ("statement_timeout" in query, "lock_timeout" in query) == (True, True)
    assert values == ("10000", "5000")
    assert server.closed


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (psycopg2.errors.QueryCanceled("canceling statement due to\n  statement timeout"), "pg_stat_activity"),
        (psycopg2.errors.InsufficientPrivilege(f"permission denied ({PASSWORD})"), "FROM public.schema_migrations"),
        (psycopg2.OperationalError("server closed the connection unexpectedly"), "set_config"),
        (psycopg2.InterfaceError(""), "current_user"),
    ],
)
def test_what_the_server_refuses_comes_back_in_words(
    server: Server, capsys: pytest.CaptureFixture[str], error: Exception, word: str
) -> None:
    server.says = {word: error}
    result = run(capsys)
    assert result["failed"]
    assert "exception" not in result
    said = " ".join(str(error).split()).replace(PASSWORD, "********") or "InterfaceError"
    assert result["msg"] == (
        f"database linkrift on db.example.com:5432 does not tell linkrift_owner about itself: {said}"
    )
    assert server.closed


def test_a_server_that_cannot_be_reached_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_wished: Any) -> None:
        raise psycopg2.OperationalError("connection refused")

    monkeypatch.setattr(psycopg2, "connect", refuse)
    assert run(capsys)["msg"].startswith("cannot connect to database linkrift on db.example.com:5432")


def test_the_password_is_masked_before_ansible_does(server: Server) -> None:
    server.says = {"max_connections": psycopg2.ProgrammingError(f"near {PASSWORD}")}
    wished = {"port": 5432, "database": "linkrift", "user": "linkrift_owner", "sslmode": "require", "sslrootcert": None}
    with pytest.raises(MigrationError, match=r"about itself: near \*{8}$"):
        pg_info.look({**ARGUMENTS, **wished})
