"""The API's and the redirect service's ports, by raw sockets: what is no HTTP, what is too much, what never ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from app.tests.servers.clients import Client
from app.tests.servers.harness import Running, eventually, running, variables_of
from tools.testing.servers import PostgresqlServer

HOST = b"Host: go.example.test\r\n"


@pytest.fixture(params=["api", "redirect"])
async def service(
    request: pytest.FixtureRequest, environment: dict[str, str], postgresql: PostgresqlServer
) -> AsyncIterator[Running]:
    async with running(request.param, variables_of(request.param, environment, postgresql)) as started:
        yield started


async def talk(url: str, *parts: bytes, to_the_end: bool = False) -> bytes:
    """Send something, part by part, and return the answer; `to_the_end`: what came until the server closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if to_the_end:
            return await asyncio.wait_for(reader.read(), 15.0)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15.0)
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        return head + await reader.readexactly(int(fields.get(b"content-length", 0)))
    finally:
        writer.close()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def document_of(answer: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return document


NO_HTTP = [
    b"hello\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"No colon here\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"A: b\x00c\r\n\r\n",
    b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # Heads that are too large: the first line, one field, too many fields.
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 9000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"A%d: a\r\n" % number for number in range(200)) + b"\r\n",
]


async def test_what_is_no_http_gets_an_answer_that_repeats_nothing_of_it(service: Running) -> None:
    for request in NO_HTTP:
        answer = await talk(service.url, request, to_the_end=True)
        assert status_of(answer) == 400, request
        assert answer.count(b"HTTP/1.") == 1, request
        assert b"X-Deployment-Version: 1.2.3+0123456789ab" in answer, request
        assert b"Server: linkrift\r\n" in answer, request
        for part in (b"hello", b"No colon", b"folded", b"aaaa", b"HTTP/9.9"):
            assert part not in answer, request


async def test_what_fails_where_nobody_foresaw_it_has_the_services_own_form(
    service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: object) -> web.Response:
        raise RuntimeError("hunter2")

    running: Any = service.service
    server = running._server if hasattr(running, "_server") else running._runner.server
    server.request_handler = broken
    answer = await talk(service.url, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", to_the_end=True)
    assert status_of(answer) == 500
    assert b"X-Deployment-Version: 1.2.3+0123456789ab" in answer
    assert b"hunter2" not in answer
    assert "hunter2" in caplog.text


async def test_a_head_without_end_takes_no_memory(service: Running) -> None:
    """Ten megabytes without a line break: refused, and the connection is closed, long before they are there."""
    _, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    sent = 0
    try:
        writer.write(b"GET / HTTP/1.1\r\nA: ")
        while sent < 10_000_000:
            writer.write(b"a" * 65536)
            await writer.drain()
            sent += 65536
        pytest.fail("it was all taken")
    except ConnectionError:
        assert sent < 8_000_000
    finally:
        writer.close()


async def test_a_client_that_never_asks_is_let_go_and_one_that_asked_is_not(service: Running) -> None:
    silent: Any = service.service._silent_connections  # type: ignore[attr-defined] # what looks after them, to choose its time
    half = [await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2])) for _ in range(3)]
    half[1][1].write(b"GET / HTTP/1.1\r\nHost: a\r\n")
    asked_reader, asked = half[2]
    asked.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert b"200" in await asked_reader.readline()

    async def seen() -> bool:
        silent.sweep(0.0)
        return len(silent._since) == 2

    await eventually(seen, "both are noticed")
    assert silent.sweep(9.9) == 0
    assert silent.sweep(10.1) == 2
    for reader, _ in half[:2]:
        assert await asyncio.wait_for(reader.read(), 5.0) == b""
    asked.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    rest = await asyncio.wait_for(asked_reader.readuntil(b"HTTP/1.1 200"), 5.0)
    assert rest
    assert silent.sweep(1000.0) == 0
    for _, writer in half:
        writer.close()


@pytest.fixture
def bearer(owner: Client) -> bytes:
    return b"Authorization: " + owner.headers["Authorization"].encode() + b"\r\n"


POST = b"POST /api/v1/links HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"


async def test_what_reaches_no_operation_has_the_form_of_all_errors(owner: Client, bearer: bytes) -> None:
    for request, status in (
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET //api/v1/links HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET /api/v1/links/%00%0d%0a HTTP/1.1\r\n" + HOST + b"\r\n", 401),
        (b"PROPFIND /api/v1/links HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"TRACE /api/v1/links HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"GET /api/v1/links HTTP/1.1\r\n" + HOST + b"Expect: the-unexpected\r\n\r\n", 417),
        (b"hello\r\n\r\n", 400),
        # No code has these; PostgreSQL does not even take a NUL.
        (b"GET /api/v1/links/a%00b HTTP/1.1\r\n" + HOST + bearer + b"\r\n", 404),
        (b"GET /api/v1/links/a%00b/stats HTTP/1.1\r\n" + HOST + bearer + b"\r\n", 404),
        (b"DELETE /api/v1/links/a%00b HTTP/1.1\r\n" + HOST + bearer + b"\r\n", 404),
        (
            POST.replace(b"POST /api/v1/links", b"PATCH /api/v1/links/a%00b") + bearer + b"Content-Length: 2\r\n\r\n{}",
            404,
        ),
    ):
        answer = await talk(owner.url, request)
        assert status_of(answer) == status, request
        assert b"Content-Type: application/problem+json" in answer, request
        document = document_of(answer)
        assert document["status"] == status, request
        assert f"X-Request-ID: {document['request_id']}".encode() in answer, request
        for field in (b"X-Frame-Options: DENY", b"X-Content-Type-Options: nosniff", b"Cache-Control: no-store"):
            assert field in answer, request
        assert b"default-src 'none'" in answer


async def test_bodies_that_are_refused_before_they_are_there(owner: Client, bearer: bytes) -> None:
    """None of these sends its body; the answer comes all the same."""
    for fields, status in (
        (b"Content-Length: 100000000\r\n", 413),
        (b"Content-Length: 10\r\nContent-Encoding: gzip\r\n", 415),
    ):
        answer = await talk(owner.url, POST + bearer + fields + b"\r\n")
        assert (status_of(answer), document_of(answer)["status"]) == (status, status)
    other = b"POST /api/v1/links HTTP/1.1\r\n" + HOST + bearer + b"Content-Length: 10\r\n"
    for kind in (b"application/xml", b"application/json; charset=utf-16", b"application/jsonx", b"text/json"):
        assert status_of(await talk(owner.url, other + b"Content-Type: " + kind + b"\r\n\r\n")) == 415


async def test_chunks_are_counted_as_they_come(owner: Client, bearer: bytes) -> None:
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    answer = await talk(owner.url, POST + bearer + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 20)
    assert status_of(answer) == 413


async def test_a_small_body_that_would_be_a_large_one(owner: Client, bearer: bytes) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    fields = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    answer = await talk(owner.url, POST + bearer + fields + bomb)
    assert status_of(answer) == 415
    assert b"Accept-Encoding: identity" in answer


async def test_a_body_that_never_comes(
    owner: Client, bearer: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("linkrift.api.requests.BODY_SECONDS", 0.1)
    answer = await talk(owner.url, POST + bearer + b'Content-Length: 100\r\n\r\n{"url"', to_the_end=True)
    assert (status_of(answer), document_of(answer)["status"]) == (408, 408)
    assert b"Connection: close" in answer
    # Who hangs up in the middle of one leaves no error behind.
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("linkrift.api.requests.BODY_SECONDS", 10.0)

    service: Any = owner.running.service

    async def begun() -> bool:
        return bool(service.activity.unanswered == 1)

    async def answered() -> bool:
        return bool(service.activity.unanswered == 0)

    for half in (b'Content-Length: 100\r\n\r\n{"url"', b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"):
        _, writer = await asyncio.open_connection("127.0.0.1", int(owner.url.rpartition(":")[2]))
        writer.write(POST + bearer + half)
        await eventually(begun, "it is being read")
        writer.close()
        await eventually(answered, "somebody has hung up")
    statuses = [record.__dict__["status"] for record in caplog.records if record.message == "request"]
    assert statuses == [400, 400]
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_authorization_twice_is_none(owner: Client, bearer: bytes) -> None:
    answer = await talk(owner.url, b"GET /api/v1/links HTTP/1.1\r\n" + HOST + bearer + bearer + b"\r\n")
    assert status_of(answer) == 401


async def test_what_is_compressed_and_what_is_not(owner: Client) -> None:
    async def get(path: str, accepted: str, method: str = "GET") -> tuple[dict[str, str], bytes]:
        headers = {**owner.headers, "Accept-Encoding": accepted}
        # What comes is looked at as it is.
        async with owner.session.request(method, f"{owner.url}/api/v1{path}", headers=headers, json=None) as response:
            return dict(response.headers), await response.read()

    for number in range(5):
        await owner.call("POST", "/links", {"url": f"https://example.org/{'x' * 300}{number}"})
    plain, body = await get("/links", "identity")
    assert ("Content-Encoding" in plain, plain["Vary"]) == (False, "Accept-Encoding")
    packed, same = await get("/links", "br, gzip")
    assert (packed["Content-Encoding"], packed["Vary"], same) == ("gzip", "Accept-Encoding", body)
    assert int(packed["Content-Length"]) < int(plain["Content-Length"]) / 2
    head, nothing = await get("/links", "gzip", "HEAD")
    assert (head["Content-Length"], nothing) == (packed["Content-Length"], b"")
    small, _ = await get("/links?limit=1", "gzip")
    assert ("Content-Encoding" in small, "Vary" in small) == (False, False)
    document, _ = await get("/openapi.json", "gzip")
    assert document["Content-Encoding"] == "gzip"


async def test_an_access_token_is_never_compressed(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linkrift.api.compression.MINIMUM_BYTES", 1)
    for path in ("register", "login"):
        body = {"email": "plain@example.test", "password": "correct horse battery"}
        status, _, headers = await owner.call("POST", f"/auth/{path}", body, **{"Accept-Encoding": "gzip"})
        assert (status < 300, "Content-Encoding" in headers) == (True, False)
    assert (await owner.call("GET", "/links", **{"Accept-Encoding": "gzip"}))[2]["Content-Encoding"] == "gzip"
