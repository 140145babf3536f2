"""Taking clicks of links that have a maximum, with a made-up PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from app.tests.unit.rows import link_row
from linkrift.links import LinkState
from linkrift.redirect import clicks_left as clicks_left_module
from linkrift.redirect.clicks_left import ClicksLeft, UncountableError


class FakeDatabase:
    """Has one link with so many clicks left; statements wait until `gate` is open."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.version = 1
        self.lent = 0
        self.most_lent = 0
        self.statements: list[str] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def connection(self, query_type: str) -> FakeDatabase:
        return self

    async def __aenter__(self) -> FakeDatabase:
        self.lent += 1
        self.most_lent = max(self.most_lent, self.lent)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.lent -= 1

    async def execute(self, statement: str) -> None:
        self.statements.append(statement)

    async def fetchval(self, query: str, code: str, version: int) -> bool | None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if version != self.version or not self.left:
            return None
        self.left -= 1
        return True

    async def fetchrow(self, query: str, code: str) -> dict[str, Any]:
        self.statements.append("look")
        return {**link_row(version=self.version, limited=True), "left": self.left > 0}


def make(database: FakeDatabase, timeout: float = 5.0, at_once: int = 3) -> ClicksLeft:
    return ClicksLeft(database, timeout=timeout, at_once=at_once)  # type: ignore[arg-type] # a stand-in


async def test_one_link_holds_one_connection_and_all_together_a_few() -> None:
    database = FakeDatabase(left=100)
    database.gate.clear()
    clicks = make(database)
    asking = [asyncio.create_task(clicks.take("a", 1)) for _ in range(10)]
    await asyncio.sleep(0.01)
    assert database.lent == 1
    asking += [asyncio.create_task(clicks.take(code, 1)) for code in "bcdefg"]
    await asyncio.sleep(0.01)
    assert database.lent == 3
    database.gate.set()
    assert all(await asyncio.gather(*asking))
    assert (database.most_lent, database.left) == (3, 84)
    assert not clicks._turns


async def test_who_waits_too_long_for_a_turn_is_told() -> None:
    database = FakeDatabase(left=100)
    database.gate.clear()
    clicks = make(database, timeout=0.01)
    results = await asyncio.gather(*(clicks.take("a", 1) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, UncountableError) for result in results)
    assert database.lent == 0


async def test_a_link_that_is_used_up_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clicks_left_module, "MAXIMUM_REMEMBERED", 2)
    database = FakeDatabase(left=1)
    clicks = make(database)
    results = await asyncio.gather(*(clicks.take("a", 1) for _ in range(5)))
    assert results == [True, False, False, False, False]
    assert database.statements == ["BEGIN READ WRITE", "COMMIT"] * 2 + ["look"]
    assert await clicks.look("a", 1) is False
    assert len(database.statements) == 5
    # More clicks are a new version.
    database.version, database.left = 2, 1
    assert await clicks.take("a", 2) is True
    assert isinstance(await clicks.take("b", 1), LinkState)
    for code in "bcd":
        assert await clicks.take(code, 2) is False
    assert list(clicks._used_up) == ["c", "d"]


@pytest.mark.parametrize("error", [asyncpg.DiskFullError("no space"), asyncpg.InsufficientPrivilegeError("denied")])
async def test_a_click_that_postgresql_refuses_is_not_taken(error: Exception) -> None:
    database = FakeDatabase(left=1)
    database.error = error
    with pytest.raises(UncountableError, match=str(error)):
        await make(database).take("a", 1)
    assert database.statements == ["BEGIN READ WRITE", "ROLLBACK"]
