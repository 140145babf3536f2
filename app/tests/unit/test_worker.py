"""The worker's parts, with made-up stores."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from linkrift import tasks
from linkrift.clickhouse import ClickHouseAwayError
from linkrift.clicks import Click, request_id_of
from linkrift.worker import consumer as consumer_module
from linkrift.worker.consumer import Consumer
from linkrift.worker.queue import ClickQueue, StreamEntry
from linkrift.worker.schema import SchemaError, migrations_directory, schema_files


def entry(number: int, events: int = 1) -> StreamEntry:
    return StreamEntry(f"{number}-0".encode(), [Click(str(uuid.uuid4()), "abc", 1) for _ in range(events)])


class FakeQueue:
    def __init__(self, waiting: list[StreamEntry]) -> None:
        self.waiting = waiting
        self.own: list[StreamEntry] = []
        self.others: list[StreamEntry] = []
        self.acknowledged: list[bytes] = []
        self.away = False
        self.refuses_acknowledgements = False
        self.reclaimed_at_once = 1000

    def _check(self) -> None:
        if self.away:
            raise RedisConnectionError("away")

    async def open(self) -> None:
        self._check()

    async def read(self, count: int, wait_seconds: float) -> list[StreamEntry]:
        self._check()
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        await asyncio.sleep(0 if taken else min(wait_seconds, 0.005))
        return taken

    async def read_own(self, count: int, after: bytes) -> list[StreamEntry]:
        self._check()
        taken, self.own = self.own[:count], self.own[count:]
        return taken

    async def reclaim(self, idle_seconds: float, count: int) -> list[StreamEntry]:
        self._check()
        count = min(count, self.reclaimed_at_once)
        taken, self.others = self.others[:count], self.others[count:]
        return taken

    async def acknowledge(self, entries: Sequence[StreamEntry]) -> None:
        if self.refuses_acknowledgements:
            raise RedisConnectionError("away")
        self.acknowledged += [each.id for each in entries]

    async def set_aside(self, entries: Sequence[StreamEntry]) -> int:
        return sum(len(each.rejected) for each in entries)


class FakeClickHouse:
    def __init__(self) -> None:
        self.inserts: list[int] = []
        self.away = False
        self.attempts = 0

    async def insert(self, statement: str, columns: Sequence[Sequence[Any]]) -> None:
        self.attempts += 1
        await asyncio.sleep(0)
        if self.away:
            raise ClickHouseAwayError("away")
        self.inserts.append(len(columns[0]))


class Stage:
    """A consumer with its stores, and whether it is admitted."""

    def __init__(self, waiting: list[StreamEntry], **settings: Any) -> None:
        self.queue = FakeQueue(waiting)
        self.clickhouse = FakeClickHouse()
        self.admitted = True
        options: dict[str, Any] = {
            "concurrency": 2,
            "batch_size": 1000,
            "batch_limit": 1000,
            "flush_interval": 0.05,
            "reclaim_after": 60.0,
            **settings,
        }
        self.consumer = Consumer(
            self.queue,  # type: ignore[arg-type] # a stand-in
            self.clickhouse,  # type: ignore[arg-type] # a stand-in
            lambda: self.admitted,
            **options,
        )

    async def __aenter__(self) -> Stage:
        self.running = asyncio.create_task(self.consumer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.consumer.stop()
        await asyncio.wait_for(self.running, 10.0)

    async def until(self, condition: Any) -> None:
        deadline = time.monotonic() + 5.0
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(consumer_module, "FINISH_SECONDS", 0.1)
    monkeypatch.setattr(consumer_module, "RETRY_FIRST_SECONDS", 0.01)


async def test_a_batch_goes_when_it_is_full() -> None:
    async with Stage([entry(number, 100) for number in range(25)], flush_interval=60.0) as stage:
        await stage.until(lambda: len(stage.clickhouse.inserts) == 2)
        assert stage.clickhouse.inserts == [1000, 1000]
        await stage.until(lambda: stage.consumer.pending() == 5)
    # What was left went when it was stopped.
    assert stage.clickhouse.inserts == [1000, 1000, 500]
    assert len(stage.queue.acknowledged) == 25


async def test_a_batch_goes_when_it_is_due() -> None:
    async with Stage([entry(1, 3)], flush_interval=0.05) as stage:
        await stage.until(lambda: stage.queue.acknowledged == [b"1-0"])
        assert stage.clickhouse.inserts == [3]


async def test_no_insert_is_larger_than_a_batch() -> None:
    async with Stage([entry(1, 2500)], flush_interval=60.0) as stage:
        await stage.until(lambda: stage.queue.acknowledged == [b"1-0"])
    assert stage.clickhouse.inserts == [1000, 1000, 500]


async def test_batches_grow_while_more_waits_and_shrink_afterwards() -> None:
    options = {"batch_size": 1000, "batch_limit": 4000, "flush_interval": 0.05}
    async with Stage([entry(number, 100) for number in range(200)], **options) as stage:
        await stage.until(lambda: len(stage.queue.acknowledged) == 200)
        assert sum(stage.clickhouse.inserts) == 20_000
        assert max(stage.clickhouse.inserts) == 4000
        assert len(stage.clickhouse.inserts) < 10
        await stage.until(lambda: stage.consumer._wanted_size == 4000)
        stage.queue.waiting = [entry(1000, 1)]
        await stage.until(lambda: len(stage.queue.acknowledged) == 201)
        assert stage.consumer._wanted_size == 1000


class StreamOfAGroup:
    """What Redis and ClickHouse keep while workers come and go.

    At one of the steps the worker is killed: what it began there, and whatever it does later, never comes to an end.
    """

    def __init__(self, entries: list[StreamEntry], kill_at: tuple[str, int]) -> None:
        self.entries = {each.id: each for each in entries}
        self.taken: set[bytes] = set()
        self.stored: list[str] = []
        self.aside: list[str] = []
        self.steps: list[str] = []
        self.kill_at: tuple[str, int] | None = kill_at
        self.killed = asyncio.Event()

    async def step(self, name: str) -> None:
        self.steps.append(name)
        if self.kill_at == (name, self.steps.count(name)):
            self.killed.set()
        if self.killed.is_set():
            await asyncio.Event().wait()

    async def open(self) -> None:
        await self.step("open")

    async def read(self, count: int, wait_seconds: float) -> list[StreamEntry]:
        found = [each for each in self.entries.values() if each.id not in self.taken][:count]
        self.taken |= {each.id for each in found}
        await asyncio.sleep(0 if found else 0.002)
        await self.step("taken" if found else "nothing taken")
        return found

    async def read_own(self, count: int, after: bytes) -> list[StreamEntry]:
        own = sorted(each for each in self.taken if each in self.entries and each > after)[:count]
        return [self.entries[each] for each in own]

    async def reclaim(self, idle_seconds: float, count: int) -> list[StreamEntry]:
        return []

    async def insert(self, statement: str, columns: Sequence[Sequence[Any]]) -> None:
        await self.step("before the insert")
        self.stored += map(str, columns[0])
        await self.step("after the insert")

    async def set_aside(self, entries: Sequence[StreamEntry]) -> int:
        self.aside += [content for each in entries for content, _ in each.rejected]
        await self.step("set aside")
        return sum(len(each.rejected) for each in entries)

    async def acknowledge(self, entries: Sequence[StreamEntry]) -> None:
        await self.step("before the acknowledgement")
        for each in entries:
            del self.entries[each.id]
        await self.step("after the acknowledgement")

    def worker(self) -> Consumer:
        return Consumer(
            self,  # type: ignore[arg-type] # a stand-in
            self,  # type: ignore[arg-type] # a stand-in
            lambda: True,
            concurrency=1,
            batch_size=20,
            batch_limit=20,
            flush_interval=0.01,
            reclaim_after=60.0,
        )


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize(
    "step",
    [
        "taken",
        "before the insert",
        "after the insert",
        "set aside",
        "before the acknowledgement",
        "after the acknowledgement",
    ],
)
async def test_a_worker_that_is_killed_at_any_step_loses_nothing(step: str, nth: int) -> None:
    poison = StreamEntry(b"15-0", [], [("nonsense", "not JSON")])
    sent = [*(entry(number, 5) for number in range(10, 15)), poison, *(entry(number, 5) for number in range(16, 20))]
    expected = {click.event_id for each in sent for click in each.clicks}
    stream = StreamOfAGroup(sent, kill_at=(step, nth))
    first = stream.worker()
    running = asyncio.create_task(first.run())
    await asyncio.wait_for(stream.killed.wait(), 5.0)
    await tasks.end([running, *first._storing])

    stream.kill_at = None
    stream.killed.clear()
    second = stream.worker()
    running = asyncio.create_task(second.run())
    deadline = time.monotonic() + 5.0
    while stream.entries:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)
    second.stop()
    await asyncio.wait_for(running, 5.0)
    assert stream.entries == {}
    assert set(stream.stored) == expected, "all are there, however often: the same ids"
    assert set(stream.aside) == {"nonsense"}


async def test_nothing_is_acknowledged_before_it_is_stored() -> None:
    async with Stage([entry(number, 10) for number in range(3)], flush_interval=0.01) as stage:
        stage.clickhouse.away = True
        await stage.until(lambda: stage.clickhouse.attempts >= 3)
        assert stage.queue.acknowledged == []
        assert stage.consumer.pending() == 3
        stage.clickhouse.away = False
        await stage.until(lambda: len(stage.queue.acknowledged) == 3)
    assert sum(stage.clickhouse.inserts) == 30


async def test_memory_is_bounded_while_clickhouse_is_away() -> None:
    async with Stage([entry(number, 100) for number in range(200)]) as stage:
        stage.clickhouse.away = True
        await stage.until(lambda: stage.clickhouse.attempts >= 10)
        # Two batches on their way and one that fills.
        assert stage.consumer.pending() <= 30
    assert stage.queue.acknowledged == []


async def test_it_pauses_when_the_admission_goes_and_goes_on_when_it_comes() -> None:
    stage = Stage([], flush_interval=60.0)
    stage.admitted = False
    async with stage:
        stage.queue.waiting = [entry(1, 5)]
        await asyncio.sleep(0.05)
        assert stage.consumer.paused
        assert len(stage.queue.waiting) == 1
        stage.admitted = True
        await stage.until(lambda: stage.consumer.pending() == 1)
        assert not stage.consumer.paused
        stage.admitted = False
        await stage.until(lambda: stage.consumer.paused)
        assert stage.queue.acknowledged == [b"1-0"]
        assert stage.consumer.pending() == 0
        stage.queue.own = [entry(2, 1)]
        stage.admitted = True
        await stage.until(lambda: stage.consumer.pending() == 1)
    assert stage.queue.acknowledged == [b"1-0", b"2-0"]


async def test_what_cannot_be_stored_in_time_is_left_to_others() -> None:
    async with Stage([entry(1, 5)], flush_interval=60.0) as stage:
        stage.clickhouse.away = True
        await stage.until(lambda: stage.consumer.pending() == 1)
        stage.admitted = False
        await stage.until(lambda: stage.consumer.paused)
        assert stage.consumer.pending() == 0
    assert stage.queue.acknowledged == []


async def test_what_it_took_before_and_what_others_left_comes_first() -> None:
    stage = Stage([entry(3)], flush_interval=60.0)
    stage.queue.own = [entry(1)]
    stage.queue.others = [entry(2)]
    async with stage:
        await stage.until(lambda: stage.consumer.pending() == 3)
    assert stage.queue.acknowledged == [b"1-0", b"2-0", b"3-0"]


async def test_all_that_a_lost_host_left_is_taken_without_a_pause() -> None:
    stage = Stage([], flush_interval=0.01)
    stage.queue.others = [entry(number) for number in range(500)]
    async with stage:
        await stage.until(lambda: len(stage.queue.acknowledged) == 500)


async def test_what_could_not_be_acknowledged_is_acknowledged_later() -> None:
    async with Stage([entry(1)], flush_interval=0.01) as stage:
        stage.queue.refuses_acknowledgements = True
        await stage.until(lambda: stage.clickhouse.inserts == [1])
        await asyncio.sleep(0.02)
        assert stage.consumer.pending() == 1
        stage.queue.refuses_acknowledgements = False
        await stage.until(lambda: stage.queue.acknowledged == [b"1-0"])
    assert stage.clickhouse.inserts == [1]


async def test_a_batch_that_fails_unforeseen_is_told_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise KeyError("a column")

    monkeypatch.setattr(consumer_module, "columns", fail)
    async with Stage([entry(1)], flush_interval=0.01) as stage:
        await stage.until(lambda: "failed unforeseen" in caplog.text)
        monkeypatch.undo()
        stage.queue.waiting = [entry(2)]
        await stage.until(lambda: stage.queue.acknowledged == [b"2-0"])


class PendingRedis:
    """Has the pending entries of consumers, by name: ids and how long they are idle."""

    def __init__(self, pending: dict[str, list[tuple[bytes, int]]]) -> None:
        self.pending = pending
        self.claimed: list[bytes] = []

    async def xpending(self, stream: str, group: str) -> dict[str, Any]:
        consumers = [{"name": name.encode(), "pending": len(ids)} for name, ids in self.pending.items()]
        return {"consumers": consumers}

    async def xpending_range(
        self, stream: str, group: str, first: str, last: str, count: int, name: str | None = None
    ) -> list[dict[str, Any]]:
        return [
            {"message_id": each, "consumer": consumer.encode(), "time_since_delivered": idle}
            for consumer, ids in self.pending.items()
            if name in (None, consumer)
            for each, idle in ids
        ][:count]

    async def xclaim(self, stream: str, group: str, name: str, idle: int, ids: list[bytes]) -> list[Any]:
        self.claimed = ids
        return [(each, {}) for each in ids]


async def test_what_a_worker_has_itself_hides_nothing_that_others_left() -> None:
    own = [(f"{number}-0".encode(), 10**6) for number in range(200)]
    redis = PendingRedis({"me": own, "busy": [(b"300-0", 10)], "lost": [(b"400-0", 10**6), (b"401-0", 10**6)]})
    queue = ClickQueue(redis, "me")  # type: ignore[arg-type] # a stand-in
    assert [each.id for each in await queue.reclaim(60.0, 1)] == [b"400-0"]
    assert [each.id for each in await queue.reclaim(60.0, 10)] == [b"400-0", b"401-0"]


async def test_redis_may_go_and_come(caplog: pytest.LogCaptureFixture) -> None:
    async with Stage([entry(1)], flush_interval=0.01) as stage:
        await stage.until(lambda: stage.queue.acknowledged == [b"1-0"])
        stage.queue.away = True
        await stage.until(lambda: "Redis is away" in caplog.text)
        stage.queue.away = False
        stage.queue.waiting = [entry(2)]
        await stage.until(lambda: stage.queue.acknowledged == [b"1-0", b"2-0"])
        stage.queue.refuses_acknowledgements = True
        stage.queue.waiting = [entry(3)]
        await stage.until(lambda: "cannot acknowledge" in caplog.text)
    assert stage.queue.acknowledged == [b"1-0", b"2-0"]


async def test_what_cannot_be_read_is_acknowledged_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    poison = StreamEntry(b"1-0", [], [("nonsense", "not JSON")])
    async with Stage([poison], flush_interval=0.01) as stage:
        await stage.until(lambda: stage.queue.acknowledged == [b"1-0"])
    assert stage.clickhouse.inserts == []
    assert "set aside" in caplog.text


async def test_log_lines_carry_the_request_that_a_click_came_with(caplog: pytest.LogCaptureFixture) -> None:
    poison = StreamEntry(b"1-0", [], [('{"id": "x", "request": "request-1"}', "no UUID"), ("nonsense", "not JSON")])
    many = StreamEntry(b"2-0", [], [("{}", "nothing")] * 100)
    with caplog.at_level(logging.DEBUG, "linkrift.worker.consumer"):
        async with Stage([poison, many, entry(3)], flush_interval=0.01) as stage:
            await stage.until(lambda: "click stored" in caplog.text)
    aside = [record.__dict__ for record in caplog.records if record.message == "click event set aside"]
    assert [(line["entry"], line["reason"], line["request_id"]) for line in aside[:2]] == [
        ("1-0", "no UUID", "request-1"),
        ("1-0", "not JSON", ""),
    ]
    assert len(aside) == 10, "a flood of them does not flood the log"
    assert [record.__dict__["event_id"] for record in caplog.records if record.message == "click stored"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [('{"request": "r"}', "r"), ('{"request": "a\\nb"}', ""), ('{"request": 1}', ""), ("[1]", ""), ("{", "")],
)
def test_the_request_of_an_event_that_cannot_be_read(content: str, expected: str) -> None:
    assert request_id_of(content) == expected


def test_schema_files_are_found_in_order(tmp_path: Path) -> None:
    (tmp_path / "000002_b.sql").write_text("-- why\nALTER x;\n\nALTER y ;\n")
    (tmp_path / "000001_a.sql").write_text("CREATE x\n(\n)\n")
    (tmp_path / "notes.txt").write_text("")
    files = schema_files(tmp_path)
    assert [file.number for file in files] == [1, 2]
    assert files[0].statements() == ["CREATE x\n(\n)"]
    assert files[1].statements() == ["ALTER x", "ALTER y"]
    (tmp_path / "000002_c.sql").write_text("")
    with pytest.raises(SchemaError, match="two files"):
        schema_files(tmp_path)
    with pytest.raises(SchemaError, match="no files"):
        schema_files(tmp_path / "none")


def test_where_schema_files_are() -> None:
    assert migrations_directory({"LINKRIFT_MIGRATIONS_DIR": "/m"}) == Path("/m/clickhouse")
    assert migrations_directory({}).parts[-2:] == ("migrations", "clickhouse")
