"""Counts on their way back to PostgreSQL, with made-up stores."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import asyncpg
import pytest
from clickhouse_driver.errors import ServerException

from linkrift.clickhouse import ClickHouseAwayError
from linkrift.clicks import Click
from linkrift.postgres import DatabaseAwayError
from linkrift.worker import counts as counts_module
from linkrift.worker.counts import ClickCounts

OCTOBER, NOVEMBER = 1_790_812_800_000, 1_793_491_200_000  # the first moments of both, 2026


class FakeClickHouse:
    """Holds (code, milliseconds) for each event."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.away = False
        self.asked = 0
        self.most = 1_000_000
        self.too_large: set[str] = set()
        self.meanwhile: Callable[[], None] = lambda: None

    async def execute(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        self.asked += 1
        await asyncio.sleep(0)
        self.meanwhile()
        if self.away:
            raise ClickHouseAwayError("away")
        codes = values.get("codes", ())
        if len(codes) > self.most or self.too_large & {*codes, "DISTINCT" if "DISTINCT" in statement else ""}:
            raise ClickHouseAwayError.of(ServerException("memory limit exceeded", 241))
        if "DISTINCT" in statement:
            return [(code,) for code in {code for code, at in self.events if at >= values["since"] * 1000}]
        found = [
            code
            for code, at in self.events
            if code in values["codes"] and values["since"] * 1000 <= at < values["until"] * 1000
        ]
        return [(code, found.count(code)) for code in set(found)]


class FakeDatabase:
    def __init__(self) -> None:
        self.stored: dict[tuple[str, date], int] = {}
        self.away = False
        self.statements: list[str] = []
        self.breaks: Exception | None = None

    @asynccontextmanager
    async def connection(self, query_type: str) -> AsyncIterator[FakeDatabase]:
        if self.away:
            raise DatabaseAwayError("away")
        if self.breaks is not None:
            raise self.breaks
        yield self

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield

    async def execute(self, statement: str, *values: Any) -> None:
        self.statements.append(statement)
        if "INSERT" in statement:
            self.stored.update({(code, month): count for code, month, count in zip(*values, strict=True)})


def make(admitted: bool = True) -> tuple[ClickCounts, FakeClickHouse, FakeDatabase]:
    clickhouse, database = FakeClickHouse(), FakeDatabase()
    counts = ClickCounts(
        clickhouse,  # type: ignore[arg-type] # a stand-in
        database,  # type: ignore[arg-type] # a stand-in
        lambda: admitted,
        interval=0.01,
    )
    return counts, clickhouse, database


async def until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 10.0
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


def click(code: str, at: int) -> Click:
    return Click(str(uuid.uuid4()), code, at)


async def test_what_was_clicked_is_counted_by_month() -> None:
    counts, clickhouse, database = make()
    clickhouse.events = [("a", OCTOBER), ("a", NOVEMBER - 1), ("a", NOVEMBER), ("b", NOVEMBER), ("c", NOVEMBER)]
    counts.touch([click("a", OCTOBER), click("a", NOVEMBER), click("b", NOVEMBER)])
    counts._swept = True
    await counts.count()
    october, november = date(2026, 10, 1), date(2026, 11, 1)
    assert database.stored == {("a", october): 2, ("a", november): 1, ("b", november): 1}
    asked = clickhouse.asked
    await counts.count()
    assert clickhouse.asked == asked, "nothing was clicked since"


async def test_one_that_is_clicked_while_it_is_counted_is_counted_again() -> None:
    counts, clickhouse, database = make()
    counts._swept = True
    clickhouse.events = [("a", NOVEMBER)]

    def late() -> None:
        if clickhouse.asked == 1:
            # It is not in the answer that comes.
            asyncio.get_running_loop().call_soon(clickhouse.events.append, ("a", NOVEMBER))
            counts.touch([click("a", NOVEMBER)])

    clickhouse.meanwhile = late
    counts.touch([click("a", NOVEMBER)])
    await counts.count()
    assert list(database.stored.values()) == [2]


@pytest.mark.parametrize("store", ["clickhouse", "postgresql"])
async def test_what_could_not_be_counted_is_counted_later(store: str) -> None:
    counts, clickhouse, database = make()
    counts._swept = True
    clickhouse.events = [("a", NOVEMBER)]
    counts.touch([click("a", NOVEMBER)])
    clickhouse.away, database.away = store == "clickhouse", store == "postgresql"
    with pytest.raises((ClickHouseAwayError, DatabaseAwayError)):
        await counts.count()
    clickhouse.away = database.away = False
    await counts.count()
    assert list(database.stored.values()) == [1]


async def test_after_a_start_what_the_one_before_left_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOVEMBER / 1000 + 60)
    counts, clickhouse, database = make()
    clickhouse.events = [("a", NOVEMBER), ("b", NOVEMBER - 1), ("old", OCTOBER)]
    await counts.count()
    assert database.stored == {("a", date(2026, 11, 1)): 1, ("b", date(2026, 10, 1)): 1}


async def test_it_counts_only_while_it_is_admitted_and_goes_on_after_trouble(caplog: pytest.LogCaptureFixture) -> None:
    counts, clickhouse, _ = make(admitted=False)
    idle = asyncio.create_task(counts.run())
    await asyncio.sleep(0.05)
    idle.cancel()
    assert clickhouse.asked == 0

    counts, clickhouse, database = make()
    counts._swept = True
    clickhouse.events = [("a", NOVEMBER)]
    clickhouse.away = True
    counts.touch([click("a", NOVEMBER)])
    running = asyncio.create_task(counts.run())
    await until(lambda: clickhouse.asked >= 3)
    clickhouse.away = False
    await until(lambda: bool(database.stored))
    running.cancel()
    assert caplog.text.count("not counted") == 1


async def test_too_many_at_once_are_counted_by_fewer_and_one_that_is_too_large_alone_holds_nobody_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counts, clickhouse, database = make()
    codes = [f"code{number}" for number in range(50)]
    clickhouse.events = [(code, NOVEMBER) for code in codes]
    clickhouse.most, clickhouse.too_large = 8, {"code7", "DISTINCT"}
    counts.touch([click(code, NOVEMBER) for code in codes])
    await counts.count()
    assert {code for code, _ in database.stored} == set(codes) - {"code7"}
    assert caplog.text.count("too many clicks") == 1
    asked = clickhouse.asked
    counts.touch([click("code7", NOVEMBER)])
    await counts.count()
    assert clickhouse.asked == asked, "it is left alone for a while, and so is the question what was clicked before"


async def test_a_question_for_all_that_fails_forbids_no_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, clickhouse, database = make()

    async def sweep() -> None:
        raise ClickHouseAwayError("timed out")

    monkeypatch.setattr(counts, "_sweep", sweep)
    clickhouse.events = [("a", NOVEMBER)]
    counts.touch([click("a", NOVEMBER)])
    with pytest.raises(ClickHouseAwayError):
        await counts.count()
    assert list(database.stored.values()) == [1]


async def test_trouble_that_nobody_foresaw_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    counts, clickhouse, database = make()
    clickhouse.events = [("a", NOVEMBER)]
    database.breaks = asyncpg.DiskFullError("no space left on device")
    counts.touch([click("a", NOVEMBER)])
    running = asyncio.create_task(counts.run())
    await until(lambda: clickhouse.asked >= 3)
    database.breaks = None
    await until(lambda: bool(database.stored))
    running.cancel()
    assert caplog.text.count("Traceback") == 1


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "CODES_WAITING", 10)
    counts, *_ = make()
    counts.touch([click(f"code{number}", NOVEMBER) for number in range(100)])
    assert len(counts._waiting) == 10


async def test_a_december_ends_in_january() -> None:
    assert counts_module._next(date(2026, 12, 1)) == date(2027, 1, 1)
    assert counts_module._seconds(date(2200, 1, 1)) < 2**32
