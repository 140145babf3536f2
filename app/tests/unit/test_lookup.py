"""Finding links, with made-up stores: what is asked, what is kept, what is answered while stores are away."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import AsyncMock

import asyncpg
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from app.tests.unit.rows import link_row
from linkrift.links import LinkState
from linkrift.postgres import DatabaseAwayError
from linkrift.redirect import feed as feed_module
from linkrift.redirect import lookup as lookup_module
from linkrift.redirect import warm_up
from linkrift.redirect.cache import Entry, MemoryCache, TargetError
from linkrift.redirect.feed import Feed
from linkrift.redirect.lookup import Lookup, LookupUnavailableError

MOMENT = datetime(2026, 11, 1, tzinfo=timezone.utc)


class FakeDatabase:
    """Answers queries with what it holds, after `gate` is open."""

    def __init__(self, row: dict[str, Any] | None = None) -> None:
        self.row = row
        self.changed: list[dict[str, Any]] = []
        self.many: list[dict[str, Any]] = []
        self.places: list[tuple[Any, ...]] = []
        self.now = MOMENT
        self.gate = asyncio.Event()
        self.gate.set()
        self.queries = 0
        self.error: Exception | None = None

    def connection(self, query_type: str) -> FakeDatabase:
        return self

    async def __aenter__(self) -> FakeDatabase:
        if self.error is not None:
            raise self.error
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def fetchrow(self, query: str, code: str) -> dict[str, Any] | None:
        self.queries += 1
        row = self.row
        await self.gate.wait()
        return row

    async def fetchval(self, query: str) -> datetime:
        return self.now

    async def fetch(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        if "ANY" in query:
            return [row for row in self.many if row["short_code"] in arguments[0]]
        limit, *place = arguments
        self.places.append(tuple(place))
        return [row for row in self.changed if [row["updated_at"], row["short_code"]] > place][:limit]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def row(url: str, version: int = 1) -> dict[str, Any]:
    return link_row(original_url=url, version=version)


def encoded(url: str, version: int = 1) -> bytes:
    return LinkState(url, version).encode().encode()


def make_lookup(
    database: FakeDatabase, timeout: float = 5.0, replicas: tuple[FakeDatabase, ...] = ()
) -> tuple[Lookup, MemoryCache, AsyncMock]:
    cache = MemoryCache(1 << 20)
    redis = AsyncMock()
    redis.get.return_value = None
    lookup = Lookup(cache, redis, database, timeout=timeout, replicas=replicas)  # type: ignore[arg-type] # stand-ins
    return lookup, cache, redis


def leads_to(entry: Entry | None) -> str | None:
    return None if entry is None else entry.location.decode()


def grow_old(cache: MemoryCache, code: str = "a") -> None:
    cache.links[code].fresh_until = time.monotonic() - 1.0


async def test_many_visitors_of_one_link_ask_once() -> None:
    database = FakeDatabase(row("https://x"))
    database.gate.clear()
    lookup, cache, redis = make_lookup(database)
    asking = [asyncio.create_task(lookup.find("a")) for _ in range(50)]
    await asyncio.sleep(0.01)
    # One of them goes away; the others still get their answer.
    asking[0].cancel()
    database.gate.set()
    entries = await asyncio.gather(*asking[1:])
    assert {leads_to(entry) for entry in entries} == {"https://x"}
    assert database.queries == 1
    await lookup.close()
    redis.set.assert_awaited_once_with("linkrift:link:a", LinkState("https://x", 1).encode(), ex=300, nx=True)
    assert "a" in cache.links


async def test_redis_is_asked_first() -> None:
    database = FakeDatabase()
    lookup, _, redis = make_lookup(database)
    redis.get.return_value = encoded("https://x")
    assert leads_to(await lookup.find("a")) == "https://x"
    assert database.queries == 0


@pytest.mark.parametrize("trouble", [RedisConnectionError("away"), b"nonsense"])
async def test_trouble_with_redis_is_no_trouble(trouble: object) -> None:
    lookup, _, redis = make_lookup(FakeDatabase(row("https://x")))
    redis.get.side_effect = [trouble]
    redis.set.side_effect = RedisConnectionError("away")
    assert leads_to(await lookup.find("a")) == "https://x"
    await lookup.close()


async def test_no_such_link_is_remembered() -> None:
    lookup, cache, _ = make_lookup(FakeDatabase())
    assert await lookup.find("a") is None
    assert cache.is_unknown("a", time.monotonic())


async def test_a_link_that_is_made_is_no_change_to_remember() -> None:
    lookup, cache, _ = make_lookup(FakeDatabase())
    for _ in range(2):
        assert await lookup.find("a") is None
        lookup.changed("a", 1)
        assert not cache.is_unknown("a", time.monotonic())
    assert lookup._changes.at_least("a") == 0


async def test_a_link_that_changes_while_it_is_looked_up_is_not_kept() -> None:
    database = FakeDatabase(row("https://old"))
    database.gate.clear()
    lookup, cache, _ = make_lookup(database)
    before = asyncio.create_task(lookup.find("a"))
    await until(lambda: database.queries == 1)
    lookup.changed("a", 2)
    database.row = row("https://new", 2)
    # Who comes after the change does not get what was asked for before it.
    after = asyncio.create_task(lookup.find("a"))
    await until(lambda: database.queries == 2)
    database.gate.set()
    assert leads_to(await before) == "https://old"
    assert leads_to(await after) == "https://new"
    assert leads_to(cache.links["a"]) == "https://new"
    await lookup.close()


@pytest.mark.parametrize("doubt", [lambda lookup: lookup.doubt_all(), lambda lookup: lookup.forget("a")])
async def test_neither_is_one_that_may_have_changed(doubt: Callable[[Lookup], None]) -> None:
    database = FakeDatabase(row("https://old"))
    database.gate.clear()
    lookup, cache, _ = make_lookup(database)
    asking = asyncio.create_task(lookup.find("a"))
    await until(lambda: database.queries == 1)
    doubt(lookup)
    after = asyncio.create_task(lookup.find("a"))
    await until(lambda: database.queries == 2)
    after.cancel()
    lookup.forget("a")
    database.gate.set()
    assert leads_to(await asking) == "https://old"
    assert "a" not in cache.links
    await lookup.close()


async def test_what_redis_holds_must_be_as_new_as_what_was_announced() -> None:
    database = FakeDatabase(row("https://new", 3))
    lookup, cache, redis = make_lookup(database)
    # The API could not put the new state there: no memory, or it was killed.
    redis.get.return_value = encoded("https://old", 2)
    assert leads_to(await lookup.find("a")) == "https://old"
    lookup.changed("a", 3)
    assert "a" not in cache.links
    assert leads_to(await lookup.find("a")) == "https://new"
    redis.get.return_value = encoded("https://newest", 4)
    cache.links.clear()
    assert leads_to(await lookup.find("a")) == "https://newest"
    # What is known is no news, however often it is told.
    lookup.changed("a", 3)
    assert "a" in cache.links
    await lookup.close()


async def test_a_known_link_is_answered_while_the_stores_are_away() -> None:
    database = FakeDatabase(row("https://x"))
    lookup, cache, redis = make_lookup(database)
    await lookup.find("a")
    lookup.doubt_all()
    assert cache.links["a"].fresh_until == 0.0
    database.error = DatabaseAwayError("gone")
    redis.get.side_effect = RedisConnectionError("away")
    assert leads_to(await lookup.find("a")) == "https://x"
    with pytest.raises(LookupUnavailableError, match="gone"):
        await lookup.find("b")
    # What it changed to nobody can say, but it is no longer this.
    lookup.changed("a", 2)
    with pytest.raises(LookupUnavailableError, match="gone"):
        await lookup.find("a")
    await lookup.close()


async def test_a_statement_that_is_refused_is_an_outage_too() -> None:
    database = FakeDatabase()
    database.error = asyncpg.InsufficientPrivilegeError("permission denied")
    lookup, _, _ = make_lookup(database)
    with pytest.raises(LookupUnavailableError, match="permission denied"):
        await lookup.find("a")


async def test_nobody_waits_for_a_newer_copy_of_what_is_only_old() -> None:
    database = FakeDatabase(row("https://x"))
    lookup, cache, _ = make_lookup(database, timeout=60.0)
    cache.heard = True
    await lookup.find("a")
    grow_old(cache)
    database.gate.clear()
    for _ in range(10):
        assert leads_to(await lookup.find("a")) == "https://x"
    await until(lambda: database.queries == 2)
    database.gate.set()
    await until(lambda: cache.links["a"].fresh_until > time.monotonic())
    assert database.queries == 2
    await lookup.close()


@pytest.mark.parametrize("untold", [True, False])
async def test_for_a_copy_of_what_may_have_changed_a_visitor_waits_a_little(
    untold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup_module, "GRACE_SHARE", 0.001)
    database = FakeDatabase(row("https://old"))
    lookup, cache, _ = make_lookup(database, timeout=50.0)
    cache.heard = True
    await lookup.find("a")
    if untold:
        cache.heard = False
        grow_old(cache)
    else:
        lookup.doubt_all()
    database.row = row("https://new")
    assert leads_to(await lookup.find("a")) == "https://new"
    lookup.doubt_all()
    database.gate.clear()
    began = time.monotonic()
    assert leads_to(await lookup.find("a")) == "https://new"
    assert time.monotonic() - began >= 0.04
    database.gate.set()
    await lookup.close()


async def test_a_lookup_has_a_deadline(caplog: pytest.LogCaptureFixture) -> None:
    database = FakeDatabase({})  # a row without columns: the lookup will fail, when nobody waits any more
    database.gate.clear()
    lookup, _, _ = make_lookup(database, timeout=0.02)
    with pytest.raises(LookupUnavailableError, match="timed out"):
        await lookup.find("a")
    database.gate.set()
    await until(lambda: not lookup._flights)
    gc.collect()
    assert "never retrieved" not in caplog.text
    assert "a lookup failed" in caplog.text


async def test_lookups_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_module, "MAXIMUM_FLIGHTS", 3)
    database = FakeDatabase(row("https://x"))
    lookup, _, _ = make_lookup(database)
    await lookup.find("known")
    lookup.doubt_all()
    database.gate.clear()
    asking = [asyncio.create_task(lookup.find(code)) for code in "abc"]
    await until(lambda: database.queries == 4)
    with pytest.raises(LookupUnavailableError, match="too many"):
        await lookup.find("d")
    assert leads_to(await lookup.find("known")) == "https://x"
    joined = asyncio.create_task(lookup.find("a"))
    await asyncio.sleep(0)
    database.gate.set()
    assert {leads_to(entry) for entry in await asyncio.gather(*asking, joined)} == {"https://x"}
    await lookup.close()


async def test_replicas_are_asked_in_turn_and_before_the_primary() -> None:
    primary, one, two = FakeDatabase(), FakeDatabase(row("https://x")), FakeDatabase(row("https://x"))
    lookup, cache, redis = make_lookup(primary, replicas=(one, two))
    for code in "abcd":
        assert leads_to(await lookup.find(code)) == "https://x"
    assert (one.queries, two.queries, primary.queries) == (2, 2, 0)
    await lookup.close()
    redis.set.assert_not_awaited()  # they may be behind, and nobody told what changed
    cache.checked_until = time.monotonic() + 60.0
    await lookup.find("e")
    await lookup.close()
    redis.set.assert_awaited_once()


async def test_a_replica_that_is_behind_resurrects_nothing() -> None:
    primary, replica = FakeDatabase(row("https://new", 3)), FakeDatabase(row("https://old", 2))
    lookup, _, _ = make_lookup(primary, replicas=(replica,))
    lookup.changed("a", 3)
    assert leads_to(await lookup.find("a")) == "https://new"
    # It lacks a link that is new.
    replica.row = None
    assert leads_to(await lookup.find("b")) == "https://new"
    # Rather no answer than an old one.
    primary.error = DatabaseAwayError("gone")
    replica.row = row("https://old", 2)
    lookup.changed("a", 4)
    with pytest.raises(LookupUnavailableError):
        await lookup.find("a")
    # But what it lacks was never made, as far as anybody can tell.
    replica.row = None
    assert await lookup.find("c") is None
    with pytest.raises(LookupUnavailableError):
        await lookup.find("a")
    await lookup.close()


@pytest.mark.parametrize("error", [DatabaseAwayError("gone"), asyncpg.SerializationError("conflict with recovery")])
async def test_without_a_replica_the_primary_is_asked(error: Exception) -> None:
    primary, replica, other = FakeDatabase(row("https://x")), FakeDatabase(), FakeDatabase(row("https://other"))
    replica.error = error
    lookup, _, _ = make_lookup(primary, replicas=(replica,))
    assert leads_to(await lookup.find("a")) == "https://x"
    lookup_of_two, _, _ = make_lookup(primary, replicas=(replica, other))
    assert {leads_to(await lookup_of_two.find(code)) for code in "abc"} == {"https://other"}
    await lookup.close()


def change(code: str, version: int, seconds: float = 0.0) -> dict[str, Any]:
    return {"short_code": code, "version": version, "updated_at": MOMENT + timedelta(seconds=seconds)}


def make_feed(database: FakeDatabase) -> tuple[Feed, Lookup, MemoryCache]:
    lookup, cache, _ = make_lookup(database)
    return Feed(database, cache, lookup), lookup, cache  # type: ignore[arg-type] # a stand-in


async def test_the_feed_tells_what_no_message_did() -> None:
    database = FakeDatabase()
    feed, lookup, cache = make_feed(database)
    for code in "abc":
        cache.store(code, LinkState("https://old", 2), time.monotonic())
    database.changed = [change("a", 3), change("b", 2)]
    assert not cache.told(time.monotonic())
    assert await feed.poll()
    assert list(cache.links) == ["b", "c"]
    assert lookup._changes.at_least("a") == 3
    assert cache.told(time.monotonic())
    assert not cache.told(time.monotonic() + feed_module.GOOD_SECONDS)
    await feed.poll()
    # First everything that Redis may be wrong about, then what is new since we asked, and a little more.
    first, _, second = (MOMENT - moment for moment, _ in database.places)
    assert first == timedelta(seconds=310 + feed_module.OVERLAP_SECONDS)
    assert second == timedelta(seconds=feed_module.OVERLAP_SECONDS)


async def test_a_change_whose_transaction_took_long_is_found() -> None:
    database = FakeDatabase()
    feed, lookup, _ = make_feed(database)
    await feed.poll()
    database.changed = [change("late", 2, -60.0)]
    await feed.poll()
    assert lookup._changes.at_least("late") == 0
    feed._again_at = 0.0
    await feed.poll()
    assert lookup._changes.at_least("late") == 2


async def test_after_an_outage_the_feed_tells_all_of_it() -> None:
    database = FakeDatabase()
    feed, _, cache = make_feed(database)
    await feed.poll()
    database.error = DatabaseAwayError("gone")
    cache.checked_until = 0.0
    assert not await feed.poll()
    assert cache.checked_until == 0.0
    # Whatever our own clock did meanwhile.
    database.error, database.now = None, MOMENT + timedelta(seconds=5000)
    assert await feed.poll()
    assert database.places[-1] == (MOMENT - timedelta(seconds=feed_module.OVERLAP_SECONDS), "")


async def test_when_the_servers_clock_goes_back_everything_is_doubted() -> None:
    database = FakeDatabase()
    feed, _, cache = make_feed(database)
    await feed.poll()
    cache.store("a", LinkState("https://x", 1), time.monotonic())
    database.now = MOMENT - timedelta(seconds=1)
    await feed.poll()
    assert cache.links["a"].fresh_until > 0.0
    database.now = MOMENT - timedelta(seconds=100)
    await feed.poll()
    assert cache.links["a"].fresh_until == 0.0
    assert MOMENT - timedelta(seconds=410 + feed_module.OVERLAP_SECONDS) in [moment for moment, _ in database.places]


async def test_in_doubt_redis_is_asked_only_where_nobody_else_answers() -> None:
    database = FakeDatabase(row("https://new", 2))
    lookup, _, redis = make_lookup(database)
    redis.get.return_value = encoded("https://old")
    lookup.doubt_all()
    assert leads_to(await lookup.find("a")) == "https://new"
    database.error = DatabaseAwayError("gone")
    assert leads_to(await lookup.find("b")) == "https://old"
    await lookup.close()


async def test_after_a_lookup_that_failed_the_next_one_waits_a_moment() -> None:
    database = FakeDatabase(row("https://x"))
    lookup, cache, _ = make_lookup(database)
    cache.heard = True
    await lookup.find("a")
    grow_old(cache)
    database.error = DatabaseAwayError("gone")
    assert leads_to(await lookup.find("a")) == "https://x"
    await until(lambda: cache.links["a"].fresh_until > time.monotonic())
    await lookup.close()


async def test_a_feed_that_is_refused_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    database = FakeDatabase()
    feed, _, _ = make_feed(database)
    database.error = asyncpg.InsufficientPrivilegeError("permission denied")
    assert not await feed.poll()
    assert not await feed.poll()
    assert caplog.text.count("permission denied") == 1


async def test_many_changes_are_read_page_by_page_and_too_many_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "PAGE", 10)
    monkeypatch.setattr(feed_module, "MAXIMUM_PAGES", 3)
    database = FakeDatabase()
    feed, lookup, cache = make_feed(database)
    cache.store("other", LinkState("https://x", 1), time.monotonic())
    # All at the same moment: the code decides.
    database.changed = [change(f"code{number:02d}", 2) for number in range(29)]
    await feed.poll()
    assert all(lookup._changes.at_least(f"code{number:02d}") == 2 for number in range(29))
    assert cache.links["other"].fresh_until > 0.0
    database.changed = [change(f"more{number:03d}", 2, number) for number in range(100)]
    cache.checked_until = 0.0
    assert not await feed.poll()
    assert cache.links["other"].fresh_until == 0.0
    assert not cache.told(time.monotonic())
    # The rest is read the next times, and nothing twice.
    cache.store("other", LinkState("https://x", 1), time.monotonic())
    assert [await feed.poll() for _ in range(3)] == [False, False, True]
    assert cache.links["other"].fresh_until > 0.0
    assert lookup._changes.at_least("more099") == 2
    assert cache.told(time.monotonic())


async def test_the_links_used_last_are_written_down_for_the_next_process() -> None:
    cache = MemoryCache(1 << 20)
    redis = AsyncMock()
    redis.get.return_value = None
    await warm_up.remember(redis, cache, 4)
    redis.set.assert_not_awaited()
    for code in ("aaa", "bbb", "ccc"):
        cache.store(code, LinkState("https://x", 1), 0.0)
    cache.links.move_to_end("aaa")
    redis.get.return_value = b"ddd bbb eee"
    await warm_up.remember(redis, cache, 4)
    redis.set.assert_awaited_once_with("linkrift:link:#recent", "aaa ccc bbb ddd", ex=7 * 86400)


def listed(*codes: str) -> Callable[[str], Any]:
    async def get(key: str) -> bytes | None:
        return " ".join(codes).encode() if key == warm_up.KEY else None

    return get


async def test_a_new_process_begins_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "CHUNK", 2)
    database = FakeDatabase()
    database.many = [{"short_code": code, **row(f"https://{code}")} for code in ("aaa", "bbb", "ddd", "eee")]
    lookup, cache, redis = make_lookup(database)
    redis.get = listed("aaa", "no.code", "bbb", "ccc", "\u00fc", "ddd", "eee")
    lookup.changed("bbb", 2)
    assert await warm_up.warm_up(redis, cache, lookup, 4) == 2
    assert list(cache.links) == ["ddd", "aaa"]
    assert cache.links["aaa"].location == b"https://aaa"


async def test_however_many_there_are_each_is_put_in_its_place_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "CHUNK", 3)
    codes = [f"code{number}" for number in range(10)]
    database = FakeDatabase()
    database.many = [{"short_code": code, **row(f"https://{code}")} for code in codes]
    lookup, cache, redis = make_lookup(database)
    redis.get = listed(*codes)
    placed: list[str] = []
    put_in_place = cache.defer

    def defer(some: Sequence[str]) -> None:
        placed.extend(some)
        put_in_place(some)

    monkeypatch.setattr(cache, "defer", defer)
    assert await warm_up.warm_up(redis, cache, lookup, 10) == 10
    assert placed == cache.recent(10) == codes


async def test_without_postgresql_it_begins_with_what_redis_has() -> None:
    database = FakeDatabase()
    database.error = DatabaseAwayError("gone")
    lookup, cache, redis = make_lookup(database)
    redis.get = listed("aaa", "bbb", "ccc", "ddd")
    pipeline = AsyncMock()
    pipeline.get = lambda key: None
    pipeline.execute.return_value = [encoded("https://x"), None, b"nonsense", encoded("https://y")]
    redis.pipeline = lambda transaction: pipeline
    assert await warm_up.warm_up(redis, cache, lookup, 10) == 2
    # The one used last is the last to go.
    assert list(cache.links) == ["ddd", "aaa"]


async def test_a_start_does_not_wait_for_stores_that_hang(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(warm_up, "DEADLINE_SECONDS", 0.01)
    lookup, cache, redis = make_lookup(FakeDatabase())

    async def never(key: str) -> None:
        await asyncio.Event().wait()

    redis.get = never
    assert await warm_up.warm_up(redis, cache, lookup, 10) == 0
    redis.get = AsyncMock(side_effect=RedisConnectionError("away"))
    assert await warm_up.warm_up(redis, cache, lookup, 10) == 0
    assert "no time left" in caplog.text
    assert "away" in caplog.text


@pytest.mark.parametrize("target", ["https://x/\u00fc", "https://x/\r\nSet-Cookie: a=b", ""])
async def test_a_target_that_fits_into_no_header_harms_no_other_link(
    target: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = FakeDatabase(row(target, 2))
    database.many = [{"short_code": "aaa", **row(target)}, {"short_code": "bbb", **row("https://y")}]
    lookup, cache, redis = make_lookup(database)
    redis.get = listed("aaa", "bbb")
    assert await warm_up.warm_up(redis, cache, lookup, 4) == 2
    assert list(cache.links) == ["bbb"]
    assert "cannot be followed" in caplog.text
    redis.get = AsyncMock(return_value=None)
    with pytest.raises(LookupUnavailableError, match="no header"):
        await lookup.find("aaa")
    used = cache.used_bytes()
    with pytest.raises(TargetError):
        cache.store("bbb", LinkState(target, 2), time.monotonic())
    assert cache.used_bytes() == used
    await lookup.close()


async def test_whatever_goes_wrong_with_warming_up_a_process_starts(caplog: pytest.LogCaptureFixture) -> None:
    lookup, cache, redis = make_lookup(FakeDatabase())
    redis.get = AsyncMock(side_effect=KeyError("unforeseen"))
    assert await warm_up.warm_up(redis, cache, lookup, 4) == 0
    assert "unforeseen" in caplog.text
