"""Clicks on their way out of a redirect process, with a made-up Redis and a real disk."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from linkrift import metrics
from linkrift.clicks import USER_AGENT_LENGTH, EventIds
from linkrift.redirect import buffer as buffer_module
from linkrift.redirect.buffer import ClickBuffer
from linkrift.redirect.capture import ClickCapture
from linkrift.redirect.merged import MergedClicks
from linkrift.redirect.spool import Kind, Record, Spool
from linkrift.redirect.visitor_ids import DAY_SECONDS, VisitorIds, VisitorSalts
from linkrift.visitors import VisitorNetworks

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"),)
MOMENT = 1_790_000_000.5
MIB = 1024 * 1024


class FakePipeline:
    def __init__(self, redis: FakeRedis) -> None:
        self._redis = redis
        self._entries: list[str] = []

    def xadd(self, stream: str, fields: dict[str, str]) -> None:
        assert stream == "linkrift:clicks"
        self._entries.append(fields["events"])

    async def execute(self) -> None:
        if self._redis.hangs:
            await asyncio.Event().wait()
        if self._redis.away:
            raise RedisConnectionError("away")
        if self._redis.takes is not None:
            self._redis.takes -= 1
            self._redis.away = self._redis.takes == 0
        self._redis.entries += self._entries


class FakeRedis:
    """Attributes: `takes` is how many pipelines it takes before it goes away."""

    def __init__(self) -> None:
        self.away = False
        self.hangs = False
        self.takes: int | None = None
        self.entries: list[str] = []
        self.values: dict[str, bytes] = {}
        self.lifetimes: dict[str, int] = {}
        self.forbids = False

    def pipeline(self, *, transaction: bool) -> FakePipeline:
        return FakePipeline(self)

    async def set(self, key: str, value: str | bytes, *, ex: int, nx: bool) -> None:
        if self.away:
            raise RedisConnectionError("away")
        if self.forbids:
            raise NoPermissionError("no")
        if key not in self.values:
            self.values[key], self.lifetimes[key] = value if isinstance(value, bytes) else value.encode(), ex

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def events(self) -> list[dict[str, Any]]:
        return [event for entry in self.entries for event in json.loads(entry)]

    def ids(self) -> list[str]:
        return [event["id"] for event in self.events()]


class Visit(NamedTuple):
    """A request that is a click."""

    code: str
    clicked_at: float = MOMENT
    user_agent: str = "agent\udcff/1"
    referrer: str = "https://a.example/b"
    peer: str = "10.0.0.1"
    forwarded_for: str = "203.0.113.9"
    country: str = ""

    def headers(self) -> CIMultiDictProxy[str]:
        fields = {"User-Agent": self.user_agent, "X-Forwarded-For": self.forwarded_for, "CF-IPCountry": self.country}
        return CIMultiDictProxy(CIMultiDict({name: value for name, value in fields.items() if value}))


class VisitedBuffer(ClickBuffer):
    """A buffer that is told of visits."""

    def __init__(self, redis: Any, *, visitors: VisitorSalts | None = None, **more: Any) -> None:
        ids = EventIds()
        super().__init__(redis, ids, **more)
        self._capture = ClickCapture(self, ids, VisitorNetworks(TRUSTED), visitors)

    def capture(self, visit: Visit) -> None:
        self._capture.take(visit.headers(), visit.peer, visit.code, "visit", visit.clicked_at, visit.referrer)


def make_buffer(redis: FakeRedis, spool: Spool | None = None, size: int = 1000, **more: Any) -> VisitedBuffer:
    return VisitedBuffer(redis, size=size, spool=spool, **more)


def click(number: int = 1, **more: Any) -> Visit:
    return Visit(f"code{number}", **more)


def salt_of(salts: VisitorSalts, day: int) -> bytes | None:
    ids = salts.ids(day)
    return ids.salt if ids else None


def value_of(counter: Any) -> float:
    return float(counter.collect()[0].samples[0].value)


@pytest.fixture
def dropped() -> Callable[[], float]:
    """Tell how many clicks were dropped since the beginning of the test."""
    before = value_of(metrics.CLICKS_DROPPED)
    return lambda: value_of(metrics.CLICKS_DROPPED) - before


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLUSH_SECONDS", "RETRY_FIRST_SECONDS", "RETRY_MOST_SECONDS"):
        monkeypatch.setattr(buffer_module, name, 0.001)
    monkeypatch.setattr(buffer_module, "ADOPT_SECONDS", 0.01)


def files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 10.0
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.002)


async def test_clicks_travel_together_and_say_no_more_than_they_must() -> None:
    redis = FakeRedis()
    buffer = make_buffer(redis)
    for number in range(250):
        buffer.capture(click(number))
    await buffer.send()
    assert [len(json.loads(entry)) for entry in redis.entries] == [100, 100, 50]
    events = redis.events()
    assert [event["code"] for event in events] == [f"code{number}" for number in range(250)]
    assert len(set(redis.ids())) == 250
    del events[0]["id"]
    assert events[0] == {
        "code": "code0",
        "at": 1_790_000_000_500,
        "request": "visit",
        "referrer": "a.example",
        "agent": "agent?/1",
        "network": "203.0.113.0",
    }
    assert buffer.waiting() == 0


@pytest.mark.parametrize(
    ("country", "peer", "known"),
    [("AT", "10.0.0.1", "AT"), ("XX", "10.0.0.1", None), ("at<", "10.0.0.1", None), ("AT", "203.0.113.9", None)],
)
async def test_a_country_is_believed_from_a_trusted_proxy_only(country: str, peer: str, known: str | None) -> None:
    redis = FakeRedis()
    buffer = make_buffer(redis)
    buffer.capture(click(country=country)._replace(peer=peer))
    await buffer.send()
    assert redis.events()[0].get("country") == known


async def test_visitors_are_told_apart_for_a_day_and_no_longer() -> None:
    redis = FakeRedis()
    salts = [VisitorSalts(redis), VisitorSalts(redis)]  # type: ignore[arg-type] # a stand-in
    day = int(MOMENT) // DAY_SECONDS
    for each in salts:
        assert await each.refresh(MOMENT) == 0
    salt = salt_of(salts[0], day)
    assert salt
    assert salt_of(salts[1], day) == salt, "whoever came first made it"
    (key, lifetime), *_ = redis.lifetimes.items()
    assert key == f"linkrift:visitors:{day}"
    assert 86_400 < lifetime <= 2 * 86_400

    buffer = make_buffer(redis, visitors=salts[0])
    for who in ("203.0.113.9", "203.0.113.9", "203.0.113.10"):
        buffer.capture(click()._replace(forwarded_for=who))
    buffer.capture(click(user_agent="another"))
    buffer.capture(click()._replace(clicked_at=MOMENT + 2 * DAY_SECONDS))
    await buffer.send()
    one, same, neighbour, another, later = (event.get("visitor") for event in redis.events())
    assert one == same
    assert len({one, neighbour, another}) == 3
    assert later is None, "there is no salt for that day"
    assert not any("203.0.113.9" in entry or "203.0.113.10" in entry for entry in redis.entries)

    assert one == VisitorIds(salt).of(bytes((203, 0, 113, 9)), b"agent?/1")
    redis.away = True
    assert await salts[0].refresh(MOMENT + 2 * DAY_SECONDS) == 1
    assert salt_of(salts[0], day) is None, "an old salt is forgotten, whether there is a new one or not"


async def test_a_salt_that_redis_gave_up_comes_back_and_what_redis_has_counts(caplog: pytest.LogCaptureFixture) -> None:
    redis = FakeRedis()
    first, second = VisitorSalts(redis), VisitorSalts(redis)  # type: ignore[arg-type] # a stand-in
    day = int(MOMENT) // DAY_SECONDS
    await first.refresh(MOMENT)
    salt = salt_of(first, day)
    redis.values.clear()
    await first.refresh(MOMENT)
    await second.refresh(MOMENT)
    assert salt_of(second, day) == salt_of(first, day) == salt, "no host has another one"
    redis.values = dict.fromkeys(redis.values, b"another")
    await first.refresh(MOMENT)
    assert salt_of(first, day) == b"another"
    redis.away = True
    assert await first.refresh(MOMENT) == 0
    assert "told apart" not in caplog.text


async def test_the_next_days_salt_is_there_before_midnight(caplog: pytest.LogCaptureFixture) -> None:
    redis = FakeRedis()
    redis.forbids = True
    salts = VisitorSalts(redis)  # type: ignore[arg-type] # a stand-in
    evening = 100 * DAY_SECONDS - 3600.0
    for _ in range(2):
        assert await salts.refresh(evening) == 2
    assert caplog.text.count("cannot be told apart") == 1
    redis.forbids = False
    assert await salts.refresh(evening) == 0
    assert None not in (salt_of(salts, 99), salt_of(salts, 100))


async def test_a_visitor_is_known_as_soon_as_the_salt_is() -> None:
    redis = FakeRedis()
    salts = VisitorSalts(redis)  # type: ignore[arg-type] # a stand-in
    buffer = make_buffer(redis, visitors=salts)
    buffer.capture(click())
    await buffer.send()
    await salts.refresh(MOMENT)
    buffer.capture(click())
    await buffer.send()
    assert ["visitor" in event for event in redis.events()] == [False, True]


async def test_without_a_disk_clicks_wait_then_only_how_many_then_they_are_dropped(
    dropped: Callable[[], float],
) -> None:
    redis = FakeRedis()
    buffer = make_buffer(redis, size=150)
    buffer._merged = MergedClicks(keys=3)
    redis.away = True
    for number in range(200):
        buffer.capture(click(number % 5))
    with pytest.raises(RedisConnectionError):
        await buffer.send()
    # 150 whole ones; of the 50 others those on three links.
    assert buffer.waiting() == 150 + 30
    buffer.refresh_metrics()
    assert dropped() == 20
    redis.away = False
    await buffer.send()
    events = redis.events()
    assert len(set(redis.ids())) == len(events) == 180
    merged = [event for event in events if event["at"] % 60_000 == 0]
    assert sorted(event["code"] for event in merged) == ["code0"] * 10 + ["code1"] * 10 + ["code2"] * 10
    assert all(set(event) == {"id", "code", "at"} for event in merged)


async def test_the_background_task_sends_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    redis = FakeRedis()
    buffer = make_buffer(redis)
    redis.away = True
    buffer.capture(click())
    sending = asyncio.create_task(buffer.run())
    await until(lambda: "clicks wait" in caplog.text)
    redis.away = False
    await until(lambda: "takes clicks again" in caplog.text)
    assert len(redis.entries) == 1
    sending.cancel()
    assert caplog.text.count("clicks wait") == 1


async def test_while_redis_is_away_clicks_are_on_the_disk_and_come_later(
    tmp_path: Path, dropped: Callable[[], float]
) -> None:
    redis = FakeRedis()
    redis.away = True
    buffer = make_buffer(redis, Spool(tmp_path, MIB), size=10)
    sending = asyncio.create_task(buffer.run())
    for number in range(100):
        buffer.capture(click(number))
        # Many more than fit into memory, one after the other.
        await until(lambda: buffer.waiting() == 0)
    assert redis.entries == []
    assert files(tmp_path)
    redis.away = False
    await until(lambda: len(set(redis.ids())) >= 100)
    codes = {event["id"]: event["code"] for event in redis.events()}
    assert sorted(codes.values()) == sorted(f"code{number}" for number in range(100))
    await until(lambda: not files(tmp_path))
    buffer.refresh_metrics()
    assert dropped() == 0
    sending.cancel()


async def test_a_quiet_outage_fills_one_file_and_ends_when_redis_takes_something(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    redis = FakeRedis()
    redis.away = True
    buffer = make_buffer(redis, Spool(tmp_path, MIB))
    sending = asyncio.create_task(buffer.run())
    for number in range(5):
        buffer.capture(click(number))
        await until(lambda: buffer.waiting() == 0)
        # Rounds in which nothing is in memory.
        await asyncio.sleep(0.02)
    assert len(files(tmp_path)) == 1
    assert "takes clicks again" not in caplog.text
    redis.away = False
    await until(lambda: "takes clicks again" in caplog.text)
    await until(lambda: not files(tmp_path))
    assert len(set(redis.ids())) == 5
    sending.cancel()


@pytest.mark.parametrize("letter", ["a", "\N{GRINNING FACE}"])
async def test_long_headers_leave_room_for_fewer_clicks(letter: str) -> None:
    redis = FakeRedis()
    redis.away = True
    buffer = make_buffer(redis, size=100)
    for number in range(200):
        buffer.capture(click(number, user_agent=letter * 10_000))
        if number == 50:
            with pytest.raises(RedisConnectionError):
                await buffer.send()
    held = sum(map(len, buffer._events)) + sum(len(record.content) for record in buffer._packed)
    # The last of them may be beyond it: twelve characters for each of its program's, and the rest of it.
    assert held <= 100 * buffer_module.CLICK_CHARACTERS + 12 * USER_AGENT_LENGTH + 300
    assert buffer._merged.clicks > 0
    assert buffer.waiting() == 200, "they count all the same"
    redis.away = False
    await buffer.send()
    assert (len(set(redis.ids())), buffer._characters) == (200, 0)


async def test_a_click_that_cannot_be_sent_costs_no_other(
    dropped: Callable[[], float], caplog: pytest.LogCaptureFixture
) -> None:
    redis = FakeRedis()
    buffer = make_buffer(redis)
    for number in range(3):
        buffer.capture(click(number)._replace(clicked_at=float("nan") if number == 1 else MOMENT))
    await buffer.send()
    buffer.refresh_metrics()
    assert ([event["code"] for event in redis.events()], dropped()) == (["code0", "code2"], 1)
    assert "cannot be made an event" in caplog.text


async def test_trouble_that_nobody_foresaw_ends_no_sending(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = FakeRedis()
    buffer = make_buffer(redis)
    send = buffer.send

    async def fail() -> None:
        raise KeyError("nobody knows")

    monkeypatch.setattr(buffer, "send", fail)
    sending = asyncio.create_task(buffer.run())
    buffer.capture(click())
    await until(lambda: "failed unforeseen" in caplog.text)
    monkeypatch.setattr(buffer, "send", send)
    await until(lambda: len(redis.ids()) == 1)
    sending.cancel()
    assert caplog.text.count("failed unforeseen") == 1


async def test_the_last_flush_goes_to_the_disk_whatever_is_wrong_with_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise KeyError("nobody knows")

    buffer = make_buffer(FakeRedis(), Spool(tmp_path, MIB))
    monkeypatch.setattr(buffer, "send", fail)
    buffer.capture(click())
    await buffer.flush(5.0)
    assert (buffer.waiting(), len(files(tmp_path))) == (0, 1)


async def test_a_disk_that_takes_nothing_is_known_before_an_outage(tmp_path: Path) -> None:
    buffer = make_buffer(FakeRedis(), Spool(tmp_path / "missing", MIB))
    sending = asyncio.create_task(buffer.run())

    def failing() -> bool:
        buffer.refresh_metrics()
        return value_of(metrics.CLICK_SPOOL_FAILING) == 1

    await until(failing)
    sending.cancel()


async def test_many_merged_clicks_go_in_parts_and_let_others_through(tmp_path: Path) -> None:
    redis = FakeRedis()
    redis.away = True
    first = make_buffer(redis, Spool(tmp_path, MIB), size=1)
    first._merged.add("a", 60_000)
    first._merged._counts["a", 60_000] = first._merged.clicks = 120_000
    await first._last_to_disk()
    first.close()
    assert len(files(tmp_path)) == 3
    redis.away = False
    second = make_buffer(redis, Spool(tmp_path, MIB))
    second._merged.add("b", 60_000)
    await second._send_spooled()
    events = redis.events()
    assert len(set(redis.ids())) == len(events) == 120_001
    assert "b" in {event["code"] for event in events[:10_000]}


async def test_the_last_flush_leaves_everything_to_another_process(
    tmp_path: Path, dropped: Callable[[], float]
) -> None:
    redis = FakeRedis()
    redis.away = True
    first = make_buffer(redis, Spool(tmp_path, MIB), size=150)
    for number in range(400):
        first.capture(click(number % 7))
    await first.flush(5.0)
    first.close()
    assert first.waiting() == 0
    assert dropped() == 0

    redis.away = False
    second = make_buffer(redis, Spool(tmp_path, MIB))
    await second._send_spooled()
    assert len(set(redis.ids())) == len(redis.ids()) == 400
    assert files(tmp_path) == []


async def test_the_last_words_of_a_process_fit_into_a_spool_that_is_full(
    tmp_path: Path, dropped: Callable[[], float]
) -> None:
    spool = Spool(tmp_path, 4096)
    assert spool.append([Record(Kind.ENTRY, "x" * 1000, 1)] * 10) == 5
    redis = FakeRedis()
    redis.away = True
    buffer = make_buffer(redis, spool, size=10)
    for number in range(50):
        buffer.capture(click(number))
    await buffer._to_disk()
    assert buffer.waiting() == 50, "it is full"
    await buffer.flush(5.0)
    assert (buffer.waiting(), dropped()) == (0, 0)


class SlowSpool(Spool):
    """On a disk that takes its time."""

    def append(self, records: Sequence[Record], *, beyond_limit: bool = False) -> int:
        threading.Event().wait(0.05)
        return super().append(records, beyond_limit=beyond_limit)


async def test_a_redis_that_hangs_leaves_time_for_the_disk(tmp_path: Path, dropped: Callable[[], float]) -> None:
    redis = FakeRedis()
    redis.hangs = True
    buffer = make_buffer(redis, SlowSpool(tmp_path, MIB))
    buffer.capture(click())
    await buffer.flush(1.0)
    assert (buffer.waiting(), dropped()) == (0, 0)


async def test_what_no_one_takes_at_the_end_is_counted(tmp_path: Path, dropped: Callable[[], float]) -> None:
    redis = FakeRedis()
    redis.away = True
    for spool in (None, Spool(tmp_path / "missing", MIB)):
        buffer = make_buffer(redis, spool)
        buffer.capture(click())
        await buffer.flush(0.1)
    assert dropped() == 2


async def test_redis_that_goes_away_in_the_middle_of_a_file_costs_nothing(tmp_path: Path) -> None:
    redis = FakeRedis()
    spool = Spool(tmp_path, MIB)
    spool.append([Record(Kind.ENTRY, json.dumps([{"id": str(number)}]), 1) for number in range(120)])
    redis.takes = 1
    buffer = make_buffer(redis, spool)
    with pytest.raises(RedisConnectionError):
        await buffer._send_spooled()
    redis.away, redis.takes = False, None
    # Another one does it, and does it from the beginning: what came twice has the same id.
    await make_buffer(redis, Spool(tmp_path, MIB))._send_spooled()
    assert len(redis.ids()) == 170
    assert set(redis.ids()) == {str(number) for number in range(120)}


async def test_a_damaged_record_is_counted_as_dropped(tmp_path: Path, dropped: Callable[[], float]) -> None:
    redis = FakeRedis()
    spool = Spool(tmp_path, MIB)
    spool.append([Record(Kind.ENTRY, f'[{{"id":"{number}"}}]', 7) for number in range(3)])
    spool.release()
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b'"1"') + 1] ^= 1
    path.write_bytes(bytes(data))
    buffer = make_buffer(redis, Spool(tmp_path, MIB))
    await buffer._send_spooled()
    buffer.refresh_metrics()
    assert (redis.ids(), dropped()) == (["0", "2"], 7)


def test_addresses_are_cut_as_configured() -> None:
    networks = VisitorNetworks(TRUSTED, ipv4_prefix=16, ipv6_prefix=32)
    assert networks.of("203.0.113.9", "") == "203.0.0.0"
    assert networks.of("2001:db8:1::1", "") == "2001:db8::"
    assert VisitorNetworks(TRUSTED, ipv4_prefix=0).of("203.0.113.9", "") == "0.0.0.0"
