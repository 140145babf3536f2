"""Requests to the redirect service byte by byte: whom they are for, and forms that others read otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import web

from linkrift.board import Board
from linkrift.health import State
from linkrift.lifecycle import Process, listening_socket
from linkrift.links import LinkState, Rules
from linkrift.redirect.service import RedirectService
from linkrift.redirect.settings import read_settings
from linkrift.release import Release

VARIABLES = {
    "LINKRIFT_DB_HOST": "127.0.0.1",
    "LINKRIFT_DB_PORT": "1",
    "LINKRIFT_DB_USER": "nobody",
    "LINKRIFT_DB_PASSWORD": "none",
    "LINKRIFT_DB_SSL_MODE": "disable",
    "LINKRIFT_REDIS_URL": "redis://127.0.0.1:1/0",
    "LINKRIFT_PUBLIC_HOSTS": "go.example.test,short.example.test",
}
HOST = b"Host: go.example.test\r\n"
TARGET = b"https://example.org/"


@dataclass
class Server:
    service: RedirectService
    port: int

    async def send(self, data: bytes) -> list[bytes]:
        """Send bytes and return the answers' statuses, in order, until the connection is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            answered = await asyncio.wait_for(reader.read(), 10.0)
        finally:
            writer.close()
        self.answered = answered
        return [line.partition(b" ")[2][:3] for line in answered.split(b"\r\n") if line.startswith(b"HTTP/1.")]

    async def get(self, target: bytes, headers: bytes = HOST) -> list[bytes]:
        """Ask for something, and once more on a connection that stays open, which may be answered at once."""
        request = b"GET " + target + b" HTTP/1.1\r\n" + headers
        statuses = await self.send(request + b"Connection: close\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request + b"\r\n")
            again = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10.0)
        finally:
            writer.close()
        first = self.answered.partition(b"\r\n\r\n")[0].split(b"\r\n")
        if statuses != [b"429"]:
            assert _without_ids(again.removesuffix(b"\r\n\r\n").split(b"\r\n")) == _without_ids(first)
        return statuses


def _without_ids(lines: list[bytes]) -> list[bytes]:
    """Leave out of an answer's head what is never the same twice."""
    return [line for line in lines if not line.startswith((b"Date:", b"X-Request-ID:", b"Connection:"))]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    service = RedirectService(read_settings(VARIABLES), Release("1.2.3+0123456789ab", "1.2.3"), make_process())
    listener = listening_socket("127.0.0.1", 0, shared=False)
    runner = service.make_runner(1.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    service.health.state = State.SERVING
    now = time.monotonic()
    service._cache.store("abc1234", LinkState(TARGET.decode(), 1), now)
    service._cache.store("forward", LinkState(TARGET.decode(), 1, rules=Rules(forward_query=True)), now)
    service._cache.store("unknown", None, now)
    yield Server(service, listener.getsockname()[1])
    await runner.cleanup()
    await service.close()


def make_process() -> Process:
    return Process(0, Board(1), lambda: None)


@pytest.mark.parametrize(
    "host",
    [
        b"go.example.test",
        b"GO.Example.Test.",
        b"go.example.test:443",
        b"short.example.test",
        b"127.0.0.1:8081",
        b"127.0.0.2",
        b"[::1]:8081",
        b"localhost",
    ],
)
async def test_requests_for_us(server: Server, host: bytes) -> None:
    for _ in range(2):
        assert await server.get(b"/abc1234", b"Host: " + host + b"\r\n") == [b"302"]


@pytest.mark.parametrize(
    "host",
    [
        b"example.test",
        b"evil.example",
        b"go.example.test.evil.example",
        b"go.example.test@evil.example",
        b"evil@go.example.test",
        b"go.example.test/x",
        b"go.example.test:port",
        b"go.example.test, evil.example",
        b"192.0.2.1",
        b"[2001:db8::1]",
        b"[::1",
        b"",
        b"0.0.0.0",
    ],
)
async def test_requests_for_somebody_else_are_answered_before_any_cache(server: Server, host: bytes) -> None:
    for code in (b"/abc1234", b"/unknown", b"/robots.txt", b"/abc1234+"):
        assert await server.get(code, b"Host: " + host + b"\r\n") == [b"421"]
        assert TARGET not in server.answered
    # Balancers and gates come by whatever name or address they have.
    assert await server.get(b"/health", b"Host: " + host + b"\r\n") == [b"200"]
    assert server.service._clicks.waiting() == 0


async def test_what_is_known_of_hosts_is_bounded(server: Server) -> None:
    for port in range(1, 200):
        assert await server.get(b"/abc1234", b"Host: go.example.test:%d\r\n" % port) == [b"302"]
    assert len(server.service._hosts.known) == 64 + 2
    assert {"go.example.test", "short.example.test"} <= server.service._hosts.known


@pytest.mark.parametrize("headers", [b"", HOST * 2, HOST + b"Host: evil.example\r\n", b"Host : go.example.test\r\n"])
async def test_a_request_names_one_host(server: Server, headers: bytes) -> None:
    assert await server.get(b"/abc1234", headers) == [b"400"]


async def test_a_host_in_the_request_line_counts_more_than_the_header(server: Server) -> None:
    assert await server.get(b"http://go.example.test/abc1234?x") == [b"302"]
    assert await server.get(b"HTTPS://GO.example.test:443/abc1234") == [b"302"]
    assert await server.get(b"http://evil.example/abc1234") == [b"421"]
    assert await server.get(b"http://evil.example/abc1234", b"Host: evil.example\r\n") == [b"421"]
    assert await server.get(b"http://go.example.test/abc1234", b"Host: evil.example\r\n") == [b"421"]
    assert await server.send(b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n") == [b"405"]
    assert await server.send(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n") == [b"405"]


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//abc1234",
        b"//evil.example/abc1234",
        b"/./abc1234",
        b"/x/../abc1234",
        b"/abc1234/",
        b"/abc1234%00",
        b"/abc1234%0d%0aSet-Cookie:%20a=b",
        b"/%0a",
        b"/%C3%BC",
        b"/%ff%fe",
        b"/%E2%80%8Babc1234",
        b"/" + b"a" * 65,
        b"/" + b"a" * 8000,
        b"/abc1234;x",
        b"/+",
        b"/++",
        b"/abc1234++",
        b"/.well-known/security.txt",
    ],
)
async def test_paths_that_are_no_codes(server: Server, target: bytes) -> None:
    assert await server.get(target) == [b"404"]
    assert b"Set-Cookie" not in server.answered


@pytest.mark.parametrize(
    "line",
    [
        b"GET /abc\x001234 HTTP/1.1",
        b"GET /abc\r1234 HTTP/1.1",
        "GET /bücher HTTP/1.1".encode(),
        b"GET /\xff HTTP/1.1",
        b"GET /abc 1234 HTTP/1.1",
        b"GET abc1234 HTTP/1.1",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1",
        b" GET /abc1234 HTTP/1.1",
        b"G@T /abc1234 HTTP/1.1",
    ],
)
async def test_request_lines_that_are_refused(server: Server, line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    answers = await server.send(line + b"\r\n" + HOST + b"\r\n")
    assert set(answers) == {b"400"}
    assert b"Server: linkrift\r\n" in server.answered
    # What anybody sends is neither repeated nor written down.
    assert b"GET" not in server.answered
    assert "GET" not in caplog.text


BODY = b"0\r\n\r\nGET /abc1234 HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: -1\r\n",
        b"X: a\r\n b\r\n",
        b"X: a\nContent-Length: 4\r\n",
        b"X: a\rContent-Length: 4\r\n",
        b"X: \x00\r\n",
        b"X: " + b"y" * 9000 + b"\r\n",
    ],
)
async def test_requests_that_two_readers_could_take_for_different_ones(server: Server, headers: bytes) -> None:
    for method in (b"POST", b"GET"):
        answers = await server.send(method + b" /unknown HTTP/1.1\r\n" + HOST + headers + b"\r\n" + BODY)
        # One answer: what follows is not taken for a second request.
        assert answers == [b"400"]
        assert TARGET not in server.answered


async def test_bare_line_ends_are_refused(server: Server) -> None:
    assert set(await server.send(b"GET /abc1234 HTTP/1.1\n" + HOST.replace(b"\r", b"") + b"\n")) == {b"400"}
    chunked = b"POST /unknown HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\n\n"
    assert await server.send(chunked) == [b"400"]


async def test_a_body_that_is_not_read_is_no_second_request(server: Server) -> None:
    inner = b"GET /abc1234 HTTP/1.1\r\n" + HOST + b"\r\n"
    length = b"Content-Length: %d\r\n" % len(inner)
    for method in (b"POST", b"PUT", b"DELETE"):
        answers = await server.send(method + b" /abc1234 HTTP/1.1\r\n" + HOST + length + b"\r\n" + inner)
        assert answers == [b"405"]
    assert await server.send(b"POST /unknown HTTP/1.1\r\n" + HOST + length + b"\r\n" + inner) == [b"404"]
    # A body with GET is read away.
    last = b"GET /unknown HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    first = b"GET /abc1234 HTTP/1.1\r\n" + HOST + length + b"\r\n" + inner
    assert await server.send(first + last) == [b"302", b"404"]


async def test_a_query_cannot_get_out_of_the_location(server: Server) -> None:
    assert await server.get(b'/forward?a=<"%0d%0aX:y>&b=1#c') == [b"302"]
    assert b"Location: https://example.org/?a=%3C%22%0d%0aX:y%3E&b=1\r\n" in server.answered


async def test_what_comes_before_http_1_1(server: Server) -> None:
    assert await server.send(b"GET /abc1234 HTTP/1.0\r\n" + HOST + b"\r\n") == [b"302"]
    assert await server.send(b"GET /abc1234 HTTP/1.0\r\n\r\n") == [b"421"]
    assert await server.send(b"GET /health HTTP/1.0\r\n\r\n") == [b"200"]


@dataclass
class Kept:
    """A connection that stays open."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> bytes:
        """Return the next answer's status; it has no body, or one that is left out."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10.0)
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
        await self.reader.readexactly(int(length.partition(b" ")[2]))
        return head.partition(b" ")[2][:3]


@pytest.fixture
async def kept(server: Server) -> AsyncIterator[Kept]:
    assert await server.get(b"/abc1234") == [b"302"]
    server.service._at_once._hits = 0
    connection = Kept(*await asyncio.open_connection("127.0.0.1", server.port))
    yield connection
    # What was written and not read yet would keep the connection.
    connection.writer.transport.abort()
    await asyncio.gather(connection.writer.wait_closed(), return_exceptions=True)


REQUEST = b"GET /abc1234 HTTP/1.1\r\n" + HOST + b"\r\n"


async def test_what_is_in_memory_is_answered_at_once(server: Server, kept: Kept) -> None:
    for method in (b"GET", b"HEAD", b"GET"):
        kept.writer.write(REQUEST.replace(b"GET", method))
        assert await kept.answer() == b"302"
    assert server.service._at_once._hits == 3
    # A HEAD is no click; the visits before were two.
    assert server.service._clicks.waiting() == 2 + 2


@pytest.mark.parametrize("size", [1, 7])
async def test_a_head_may_come_in_pieces(server: Server, kept: Kept, size: int) -> None:
    for at in range(0, len(REQUEST), size):
        kept.writer.write(REQUEST[at : at + size])
        await kept.writer.drain()
        await asyncio.sleep(0)
    assert await kept.answer() == b"302"
    assert server.service._at_once._hits == 1


async def test_requests_are_answered_in_their_order(
    server: Server, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, found = asyncio.Event(), asyncio.Event()

    async def find(code: str) -> None:
        asked.set()
        await found.wait()

    monkeypatch.setattr(server.service._lookup, "find", find)
    kept.writer.write(REQUEST.replace(b"abc1234", b"waits12"))
    await asyncio.wait_for(asked.wait(), 10.0)
    # In memory, but behind one that is looked up; one by one, and two together.
    kept.writer.write(REQUEST)
    await kept.writer.drain()
    kept.writer.write(REQUEST.replace(b"GET", b"HEAD") + REQUEST.replace(b"abc1234", b"robots.txt"))
    await kept.writer.drain()
    found.set()
    assert [await kept.answer() for _ in range(4)] == [b"404", b"302", b"302", b"200"]
    kept.writer.write(REQUEST)
    assert await kept.answer() == b"302"
    assert server.service._at_once._hits == 1


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"),
        REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    ],
)
async def test_connections_that_end_are_ended(server: Server, kept: Kept, request_: bytes) -> None:
    kept.writer.write(REQUEST)
    assert await kept.answer() == b"302"
    kept.writer.write(request_)
    assert await kept.answer() == b"302"
    assert await asyncio.wait_for(kept.reader.read(), 10.0) == b""
    assert server.service._at_once._hits == 1


async def test_a_slot_that_drains_ends_connections(server: Server, kept: Kept) -> None:
    kept.writer.write(REQUEST)
    assert await kept.answer() == b"302"
    server.service.health.state = State.DRAINING
    kept.writer.write(REQUEST)
    assert b"Connection: close" in await asyncio.wait_for(kept.reader.read(), 10.0)


async def test_bodies_and_other_requests_are_not_answered_at_once(server: Server, kept: Kept) -> None:
    kept.writer.write(REQUEST.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"))
    kept.writer.write(b"a=b" + REQUEST.replace(b"GET", b"DELETE"))
    assert [await kept.answer() for _ in range(2)] == [b"302", b"405"]
    assert server.service._at_once._hits == 0


async def test_what_is_old_is_not_answered_at_once(server: Server, kept: Kept) -> None:
    server.service._cache.links["abc1234"].fresh_until = time.monotonic() - 1.0
    kept.writer.write(REQUEST)
    assert await kept.answer() == b"302"
    assert server.service._at_once._hits == 0


@pytest.mark.parametrize("why", ["gone", "expired", "unknown"])
async def test_what_leads_nowhere_is_answered_at_once_and_is_no_click(server: Server, kept: Kept, why: str) -> None:
    clicks = server.service._clicks.waiting()
    entry = server.service._cache.links["abc1234"]
    if why == "expired":
        entry.expires_at = time.time() - 1.0
    entry.gone = why == "gone"
    request = REQUEST.replace(b"abc1234", b"unknown") if why == "unknown" else REQUEST
    handled = server.service._server.requests_count
    for method in (b"GET", b"HEAD", b"GET"):
        kept.writer.write(request.replace(b"GET", method))
        head = await asyncio.wait_for(kept.reader.readuntil(b"\r\n\r\n"), 10.0)
        assert head.startswith(b"HTTP/1.1 404 " if why == "unknown" else b"HTTP/1.1 410 ")
        if method == b"GET":
            assert (await kept.reader.readline()).endswith(b".\n")
    assert server.service._server.requests_count == handled
    assert server.service._clicks.waiting() == clicks


async def test_unknown_codes_that_are_answered_at_once_count_for_the_limit(server: Server, kept: Kept) -> None:
    # As from a visitor; the machine itself is not limited.
    for connection in server.service._server.connections:
        connection.peer = "203.0.113.9"  # type: ignore[attr-defined] # it is one of ours
    server.service._unknown_codes._limit, server.service._unknown_codes._pace = 3, 20.0
    handled = server.service._server.requests_count
    for _ in range(3):
        kept.writer.write(REQUEST.replace(b"abc1234", b"unknown"))
        assert await kept.answer() == b"404"
    assert server.service._server.requests_count == handled
    kept.writer.write(REQUEST.replace(b"abc1234", b"unknown"))
    await kept.answer()
    assert server.service._server.requests_count == handled + 1, "it is left to the service"


async def test_who_reads_no_answers_is_cut_off(server: Server, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if no byte could be written any more.
    monkeypatch.setattr(asyncio.selector_events._SelectorSocketTransport, "get_write_buffer_size", lambda _: 300_000)
    kept.writer.write(REQUEST)
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(kept.reader.read(), 10.0)
    assert server.service._at_once._hits == 1


async def test_a_fault_in_what_is_answered_at_once_is_an_answer(
    server: Server, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("it cannot be made")

    monkeypatch.setattr(server.service._answers, "found_head", fail)
    kept.writer.write(REQUEST)
    assert await kept.answer() == b"500"


async def test_a_connection_that_is_answered_at_once_is_not_silent(server: Server, kept: Kept) -> None:
    kept.writer.write(REQUEST)
    assert await kept.answer() == b"302"
    for now in (0.0, 100.0):
        assert server.service._silent_connections.sweep(now) == 0
