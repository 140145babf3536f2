"""The redirect service's parts, with made-up stores."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Callable

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from prometheus_client import REGISTRY

from linkrift import codes
from linkrift.board import Board
from linkrift.lifecycle import Process
from linkrift.links import LinkState
from linkrift.redirect import capture
from linkrift.redirect.service import RedirectService
from linkrift.redirect.settings import read_settings
from linkrift.redirect.tally import Tally
from linkrift.release import Release
from linkrift.visitors import VisitorNetworks, last_hops, referrer_host

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
        ("10.1.2.3", "203.0.113.09", "10.1.2.0"),
        ("10.1.2.3", "203.0.113.9\udcff", "10.1.2.0"),
        ("10.1.2.3", "203.0.113.9\x00", "10.1.2.0"),
        ("fe80::1%eth0", "203.0.113.9", "fe80::"),
        ("::ffff:10.1.2.3", "::ffff:203.0.113.9", "203.0.113.0"),
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


@pytest.mark.parametrize("length", [0, 400, 512, 600, 9000])
def test_the_end_of_the_hops_tells_the_same(length: int) -> None:
    hops = "203.0.113.9, " + "10.9.9.9," * (length // 9) + "10.9.9.9"
    cut = last_hops(hops)
    assert len(cut) <= 512
    assert hops.endswith(cut)
    assert cut == hops or cut.startswith("10.9.9.9,")
    assert last_hops("x" * 600) == ""


def test_what_is_remembered_of_networks_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = VisitorNetworks(TRUSTED)
    seen: list[str] = []
    find = networks.packed

    def note(peer: str, hops: str) -> bytes | None:
        seen.append(hops)
        return find(peer, hops)

    monkeypatch.setattr(networks, "packed", note)
    assert networks.of("10.1.2.3", "x," * 4000 + "203.0.113.9") == "203.0.113.0"
    assert len(seen[0]) <= 512


async def test_of_long_headers_a_click_keeps_no_more_than_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    service = make_service()
    hops: list[str] = []
    referrers: list[str] = []

    def host_of(referrer: str) -> str:
        referrers.append(referrer)
        return "a.example"

    monkeypatch.setattr(service._networks, "packed", lambda _peer, forwarded_for: hops.append(forwarded_for))
    monkeypatch.setattr(capture, "referrer_host", host_of)
    for count in (1, 8000):
        headers = CIMultiDict(
            {
                "User-Agent": "a" * count,
                "X-Forwarded-For": ",".join(["10.9.9.9"] * count),
                "CF-IPCountry": "AT" * count,
            }
        )
        request = make_mocked_request("GET", "/abc", headers=headers)
        service._take_click(request, "abc", "visit", 1.0, "r" * count)
    short, long = map(json.loads, service._clicks._events)
    assert (short["agent"], referrers[0], hops[0]) == ("a", "r", "10.9.9.9")
    assert (len(long["agent"]), len(referrers[1])) == (512, 1024)
    assert 400 < len(hops[1]) <= 512


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def make_service() -> RedirectService:
    variables = {
        "LINKRIFT_DB_HOST": "127.0.0.1",
        "LINKRIFT_DB_USER": "nobody",
        "LINKRIFT_DB_PASSWORD": "none",
        "LINKRIFT_DB_SSL_MODE": "disable",
        "LINKRIFT_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    process = Process(0, Board(1), lambda: None)
    return RedirectService(read_settings(variables), Release("1.2.3+0123456789ab", "1.2.3"), process)


async def test_following_the_canary_is_no_click() -> None:
    service = make_service()
    waiting = []
    for code in (codes.CANARY, "abc1234"):
        service._cache.store(code, LinkState("https://x", 1), time.monotonic())
        await service.handle(make_mocked_request("GET", f"/{code}"))
        waiting.append(service._clicks.waiting())
    assert waiting == [0, 1]


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
