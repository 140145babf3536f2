"""The redirect service's parts, with made-up stores."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisConnectionError

from linkrift import codes, metrics
from linkrift.board import Board
from linkrift.lifecycle import Process
from linkrift.links import LinkState
from linkrift.redirect.buffer import ClickBuffer, RawClick
from linkrift.redirect.service import RedirectService
from linkrift.redirect.settings import read_settings
from linkrift.redirect.tally import Tally
from linkrift.release import Release
from linkrift.visitors import VisitorNetworks, referrer_host

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "network"),
    [
        ("198.51.100.77", "", "198.51.100.0"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1::"),
        ("::ffff:198.51.100.77", "", "198.51.100.0"),
        # Only a trusted peer is believed.
        ("198.51.100.77", "203.0.113.9", "198.51.100.0"),
        ("10.1.2.3", "203.0.113.9", "203.0.113.0"),
        ("fd00::1", "2001:db8:9::1", "2001:db8:9::"),
        # What a visitor wrote stands before what the proxies added.
        ("10.1.2.3", "192.0.2.1, 203.0.113.9, 10.9.9.9", "203.0.113.0"),
        ("10.1.2.3", "203.0.113.9, nonsense", "10.1.2.0"),
        ("10.1.2.3", "", "10.1.2.0"),
        ("10.1.2.3", "10.4.5.6", "10.4.5.0"),
        ("", "", ""),
    ],
)
def test_a_visitors_network(peer: str, forwarded_for: str, network: str) -> None:
    assert VisitorNetworks(TRUSTED).of(peer, forwarded_for) == network


@pytest.mark.parametrize(
    ("referrer", "host"),
    [
        ("https://News.Example.org./a?b#c", "news.example.org"),
        ("https://user:secret@example.org:8443/", "example.org"),
        ("android-app://com.example/", "com.example"),
        ("nonsense", ""),
        ("https://[::1", ""),
        ("https://" + "x" * 300, ""),
    ],
)
def test_a_referring_host(referrer: str, host: str) -> None:
    assert referrer_host(referrer) == host


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


class FakePipeline:
    def __init__(self, redis: FakeRedis) -> None:
        self._redis = redis
        self._entries: list[str] = []

    def xadd(self, stream: str, fields: dict[str, str]) -> None:
        assert stream == "linkrift:clicks"
        self._entries.append(fields["events"])

    async def execute(self) -> None:
        if self._redis.away:
            raise RedisConnectionError("away")
        self._redis.entries += self._entries


class FakeRedis:
    def __init__(self) -> None:
        self.away = False
        self.entries: list[str] = []

    def pipeline(self, *, transaction: bool) -> FakePipeline:
        return FakePipeline(self)

    def events(self) -> list[dict[str, Any]]:
        return [event for entry in self.entries for event in json.loads(entry)]


def make_buffer(size: int = 1000) -> tuple[ClickBuffer, FakeRedis]:
    redis = FakeRedis()
    return ClickBuffer(redis, VisitorNetworks(TRUSTED), size=size), redis  # type: ignore[arg-type] # a stand-in


def click(number: int = 1) -> RawClick:
    return RawClick(
        f"code{number}", 1_790_000_000.5, "visit", "https://a.example/b", "agent\udcff/1", "10.0.0.1", "203.0.113.9"
    )


async def test_clicks_travel_together_and_say_no_more_than_they_must() -> None:
    buffer, redis = make_buffer()
    for number in range(250):
        buffer.capture(click(number))
    await buffer.send()
    assert [len(json.loads(entry)) for entry in redis.entries] == [100, 100, 50]
    events = redis.events()
    assert [event["code"] for event in events] == [f"code{number}" for number in range(250)]
    assert len({event["id"] for event in events}) == 250
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


async def test_following_the_canary_is_no_click() -> None:
    variables = {
        "LINKRIFT_DB_HOST": "127.0.0.1",
        "LINKRIFT_DB_USER": "nobody",
        "LINKRIFT_DB_PASSWORD": "none",
        "LINKRIFT_DB_SSL_MODE": "disable",
        "LINKRIFT_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    process = Process(0, Board(1), lambda: None)
    service = RedirectService(read_settings(variables), Release("1.2.3+0123456789ab", "1.2.3"), process)
    waiting = []
    for code in (codes.CANARY, "abc1234"):
        service._cache.store(code, LinkState("https://x", 1), time.monotonic())
        await service.handle(make_mocked_request("GET", f"/{code}"))
        waiting.append(service._clicks.waiting())
    assert waiting == [0, 1]


async def test_clicks_wait_while_redis_is_away_and_are_dropped_beyond_the_bound() -> None:
    buffer, redis = make_buffer(size=150)
    redis.away = True
    dropped = value_of(metrics.CLICKS_DROPPED)
    for number in range(200):
        buffer.capture(click(number))
    with pytest.raises(RedisConnectionError):
        await buffer.send()
    buffer.capture(click(200))
    assert buffer.waiting() == 150
    buffer.refresh_metrics()
    assert value_of(metrics.CLICKS_DROPPED) - dropped == 51
    redis.away = False
    await buffer.send()
    assert [event["code"] for event in redis.events()] == [f"code{number}" for number in range(150)]


async def test_the_background_task_sends_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("linkrift.redirect.buffer.FLUSH_SECONDS", 0.001)
    monkeypatch.setattr("linkrift.redirect.buffer.RETRY_FIRST_SECONDS", 0.001)
    caplog.set_level("INFO")
    buffer, redis = make_buffer()
    redis.away = True
    buffer.capture(click())
    sending = asyncio.create_task(buffer.run())
    await until(lambda: "clicks wait" in caplog.text)
    redis.away = False
    await until(lambda: "takes clicks again" in caplog.text)
    assert len(redis.entries) == 1
    sending.cancel()
    assert caplog.text.count("clicks wait") == 1


async def test_the_last_flush_has_a_deadline() -> None:
    buffer, redis = make_buffer()
    redis.away = True
    dropped = value_of(metrics.CLICKS_DROPPED)
    buffer.capture(click())
    await buffer.flush(0.15)
    assert value_of(metrics.CLICKS_DROPPED) - dropped == 1


def value_of(counter: Any) -> float:
    return float(counter.collect()[0].samples[0].value)


def test_the_tally_is_handed_over() -> None:
    tally = Tally()
    tally.add("GET", 302, 0.00004)
    tally.add("GET", 302, 0.00005)
    tally.add("GET", 302, 0.003)
    tally.add("HEAD", 404, 100.0)
    labels = {"method": "GET", "path": "/{code}", "status": "302"}

    def sample(name: str, **more: str) -> float:
        return REGISTRY.get_sample_value(name, {**labels, **more}) or 0.0

    before = sample("http_requests_total"), sample("http_request_duration_seconds_bucket", le="5e-05")
    tally.hand_over()
    tally.hand_over()
    assert sample("http_requests_total") - before[0] == 3
    # A bucket holds what is less than or equal to its bound.
    assert sample("http_request_duration_seconds_bucket", le="5e-05") - before[1] == 2
    assert sample("http_request_duration_seconds_bucket", le="+Inf") >= 3
