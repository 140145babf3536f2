"""The way of a link and a click through all three services and the real stores."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from yarl import URL

from ansible_collections.linkrift.platform.plugins.module_utils._gate import Response, Verdict, fetch
from ansible_collections.linkrift.platform.plugins.module_utils._smoke import Smoke
from app.tests.servers.harness import MIGRATIONS, RELEASE, Running, eventually, running, variables_of
from linkrift import codes
from linkrift.api.tokens import Tokens
from linkrift.redirect.service import RedirectService
from linkrift.worker import schema
from linkrift.worker.settings import read_settings as read_worker_settings
from tools.testing.servers import ClickHouseServer, PostgresqlServer

PASSWORD = "correct horse battery"
CANARY_ACCOUNT = "00000000-0000-4000-8000-000000000001"


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str


@dataclass
class Platform:
    api: Running
    redirect: Running
    worker: Running
    session: aiohttp.ClientSession

    async def follow(self, code: str, method: str = "GET", **headers: str) -> Answer:
        url = URL(f"{self.redirect.url}/{code}", encoded=True)
        async with self.session.request(method, url, allow_redirects=False, headers=headers) as response:
            return Answer(response.status, response.headers, await response.text())

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        async with self.session.request(method, f"{self.api.url}/api/v1{path}", json=body) as response:
            return response.status, (await response.json() if response.status != 204 else {})


@pytest.fixture
async def platform(
    environment: dict[str, str], postgresql: PostgresqlServer, clickhouse: ClickHouseServer
) -> AsyncIterator[Platform]:
    worker_variables = variables_of("worker", environment, postgresql)
    schema.apply(read_worker_settings(worker_variables).clickhouse, schema.schema_files(MIGRATIONS / "clickhouse"))
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(running("api", variables_of("api", environment, postgresql)))
        redirect = await stack.enter_async_context(
            running("redirect", variables_of("redirect", environment, postgresql))
        )
        worker = await stack.enter_async_context(running("worker", worker_variables))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        started = Platform(api, redirect, worker, session)
        email = f"{uuid.uuid4().hex}@example.test"
        status, account = await started.call("POST", "/auth/register", {"email": email, "password": PASSWORD})
        assert status == 201, account
        status, token = await started.call("POST", "/auth/login", {"email": email.upper(), "password": PASSWORD})
        assert status == 200, token
        session.headers["Authorization"] = f"Bearer {token['access_token']}"
        yield started


async def test_a_click_is_counted(platform: Platform, redis: Redis) -> None:
    target = "https://example.org/a%20page?x=1#part"
    status, link = await platform.call("POST", "/links", {"url": target, "title": "A page"})
    assert status == 201, link
    code = str(link["code"])
    assert len(code) == 7
    assert link["short_url"] == f"https://go.example.test/{code}"

    for method, query in (("GET", ""), ("GET", "?utm_source=x"), ("GET", "?"), ("HEAD", "")):
        response = await platform.follow(code + query, method, **{"X-Request-ID": "visit-1", "User-Agent": "test/1"})
        assert response.status == 302
        assert response.headers["Location"] == target
        assert response.headers["Cache-Control"] == "private, no-store"
        assert response.headers["X-Request-ID"] == "visit-1"
        assert response.headers["X-Deployment-Version"] == RELEASE.id
        assert response.text == ""

    async def counted() -> bool:
        status, stats = await platform.call("GET", f"/links/{code}/stats")
        return status == 200 and stats["clicks"] == 3

    await eventually(counted, "three clicks are counted")

    async def acknowledged() -> bool:
        return await redis.xlen("linkrift:clicks") == 0

    await eventually(acknowledged, "the stream is empty")


async def test_the_canary_leads_nowhere_is_not_counted_and_signs_in_nowhere(
    platform: Platform, environment: dict[str, str], redis: Redis
) -> None:
    for _ in range(2):
        response = await platform.follow(codes.CANARY)
        assert (response.status, response.headers["Location"]) == (302, "https://canary.linkrift.invalid/")
    redirect = platform.redirect.service
    assert isinstance(redirect, RedirectService)
    assert redirect._clicks.waiting() == 0
    assert await redis.xlen("linkrift:clicks") == 0

    body = {"url": "https://example.org/", "code": codes.CANARY}
    assert (await platform.call("POST", "/links", body))[0] == 422
    for path in ("login", "register"):
        status, _ = await platform.call("POST", f"/auth/{path}", {"email": "linkrift-canary", "password": PASSWORD})
        assert status == 422

    tokens = Tokens(environment["LINKRIFT_JWT_SECRET"], "", 30.0)
    platform.session.headers["Authorization"] = f"Bearer {tokens.issue(uuid.UUID(CANARY_ACCOUNT))}"
    status, page = await platform.call("GET", "/links?limit=1")
    assert status == 200
    assert [(item["code"], item["url"]) for item in page["items"]] == [
        (codes.CANARY, "https://canary.linkrift.invalid/")
    ]


async def test_gates_of_a_rollout_see_a_canary_that_is_there_and_one_that_is_not(
    platform: Platform, environment: dict[str, str], postgresql: PostgresqlServer, redis: Redis
) -> None:
    async def smoke(service: str) -> Verdict:
        running_service: Running = getattr(platform, service)
        port = int(running_service.url.rpartition(":")[2])

        def send(path: str, headers: Mapping[str, str]) -> Response:
            return fetch("127.0.0.1", port, path, 5.0, headers=headers)

        requests = Smoke(service, environment, send, time.time)
        return requests.judge(await asyncio.to_thread(requests.ask))

    assert [(await smoke(service)).reason for service in ("api", "redirect", "worker")] == ["", "", ""]
    postgresql.execute((MIGRATIONS / "postgresql/000004_canary.down.sql").read_text())
    try:
        assert "Migration 000004_canary" in (await smoke("api")).reason
        # What the caches have is asked for by gates of a slot that has just started, with nothing in its own.
        redirect = platform.redirect.service
        assert isinstance(redirect, RedirectService)
        redirect._cache.links.clear()
        await redis.flushall()
        assert "Migration 000004_canary" in (await smoke("redirect")).reason
    finally:
        postgresql.execute((MIGRATIONS / "postgresql/000004_canary.up.sql").read_text())


def first_value(postgresql: PostgresqlServer, query: str) -> object:
    with closing(postgresql.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    return None if row is None else row[0]


def test_the_canary_can_be_brought_back_and_taken_away(postgresql: PostgresqlServer) -> None:
    files = MIGRATIONS / "postgresql"
    links = f"SELECT count(*) FROM links WHERE short_code = '{codes.CANARY}' AND deleted_at IS NULL AND is_active"
    postgresql.execute(f"UPDATE links SET deleted_at = now() WHERE short_code = '{codes.CANARY}'")
    for _ in range(2):
        postgresql.execute((files / "000004_canary.up.sql").read_text())
        assert first_value(postgresql, links) == 1
    postgresql.execute((files / "000004_canary.down.sql").read_text())
    assert first_value(postgresql, f"SELECT count(*) FROM users WHERE id = '{CANARY_ACCOUNT}'") == 0
    postgresql.execute((files / "000004_canary.up.sql").read_text())
    assert first_value(postgresql, links) == 1


async def test_a_deleted_link_is_gone_within_a_second(platform: Platform) -> None:
    _, link = await platform.call("POST", "/links", {"url": "https://example.org/", "code": f"gone-{uuid.uuid4().hex}"})
    assert (await platform.follow(link["code"])).status == 302
    assert (await platform.call("DELETE", f"/links/{link['code']}"))[0] == 204

    async def gone() -> bool:
        return (await platform.follow(link["code"])).status == 410

    assert await eventually(gone, "410", seconds=1.0) < 1.0
    assert (await platform.call("GET", f"/links/{link['code']}"))[0] == 404
    assert (await platform.call("DELETE", f"/links/{link['code']}"))[0] == 404
    assert (await platform.call("POST", "/links", {"url": "https://example.org/", "code": link["code"]}))[0] == 409


async def test_a_changed_link_leads_elsewhere_within_a_second(platform: Platform) -> None:
    _, link = await platform.call("POST", "/links", {"url": "https://example.org/old"})
    assert (await platform.follow(link["code"])).headers["Location"] == "https://example.org/old"
    status, changed = await platform.call("PATCH", f"/links/{link['code']}", {"url": "https://example.org/new"})
    assert (status, changed["url"]) == (200, "https://example.org/new")

    async def moved() -> bool:
        return (await platform.follow(link["code"])).headers["Location"] == "https://example.org/new"

    await eventually(moved, "the new target", seconds=1.0)

    await platform.call("PATCH", f"/links/{link['code']}", {"is_active": False})

    async def gone() -> bool:
        return (await platform.follow(link["code"])).status == 410

    await eventually(gone, "410", seconds=1.0)


async def test_a_code_that_was_unknown_works_as_soon_as_it_is_made(platform: Platform) -> None:
    code = f"soon-{uuid.uuid4().hex}"
    assert (await platform.follow(code)).status == 404
    assert (await platform.follow(code)).status == 404
    assert (await platform.call("POST", "/links", {"url": "https://example.org/", "code": code}))[0] == 201

    async def works() -> bool:
        return (await platform.follow(code)).status == 302

    await eventually(works, "302", seconds=1.0)


async def test_a_link_expires_without_anybody_doing_anything(platform: Platform) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    _, link = await platform.call("POST", "/links", {"url": "https://example.org/", "expires_at": soon})
    assert (await platform.follow(link["code"])).status == 302

    async def expired() -> bool:
        return (await platform.follow(link["code"])).status == 410

    await eventually(expired, "410", seconds=4.0)


async def test_what_is_no_link(platform: Platform) -> None:
    response = await platform.follow("nothing-here")
    assert (response.status, response.text) == (404, "There is no such short link.\n")
    response = await platform.follow("nothing-here", "HEAD")
    assert (response.status, response.headers["Content-Length"]) == (404, "29")
    assert (await platform.follow("nothing-here?utm=1")).status == 404
    for code in ("", "admin", "a/b", "a%2Fb", "x" * 65, "sitemap.xml", "%00", "Health"):
        response = await platform.follow(code)
        assert response.status == 404, code
    assert (await platform.follow("whatever", "POST")).status == 404
    response = await platform.follow("whatever", "PUT")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


async def test_the_old_and_the_odd_ways_to_ask(platform: Platform) -> None:
    """HTTP/1.0, kept connections, several requests at once, and the form that proxies use."""
    _, link = await platform.call("POST", "/links", {"url": "https://example.org/"})
    host, _, port = platform.redirect.url.removeprefix("http://").partition(":")
    path = f"/{link['code']}".encode()
    for request, answers, kept in (
        (b"GET %s HTTP/1.0\r\n\r\n" % path, 1, False),
        (b"GET %s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % path, 1, True),
        (b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path, 1, False),
        (b"GET http://x%s?a=b HTTP/1.1\r\nHost: x\r\n\r\n" % path, 1, True),
        (b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path * 20, 20, True),
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        heads = [await reader.readuntil(b"\r\n\r\n") for _ in range(answers)]
        assert all(head.startswith(b"HTTP/1.1 302 Found\r\nLocation: https://example.org/\r\n") for head in heads)
        if kept:
            writer.write(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            assert (await reader.readline()).startswith(b"HTTP/1.1 302")
        else:
            assert b"\r\nConnection: close\r\n" in heads[0]
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_worker_that_cannot_use_the_stream_is_not_ready(platform: Platform, redis: Redis) -> None:
    await redis.delete("linkrift:clicks")
    await redis.set("linkrift:clicks", "no stream")
    async with platform.session.get(f"{platform.worker.url}/health/ready") as response:
        document = await response.json()
    await redis.delete("linkrift:clicks")
    assert (response.status, document["checks"]["clickhouse"]["error"]) == (503, None)
    assert "WRONGTYPE" in document["checks"]["redis"]["error"]


async def test_health_and_metrics(platform: Platform) -> None:
    for service in (platform.api, platform.redirect, platform.worker):
        for path, word in (("", "live"), ("/ready", "ready"), ("/live", "alive"), ("/startup", "started")):
            async with platform.session.get(f"{service.url}/health{path}") as response:
                document = await response.json()
                assert (response.status, document["status"]) == (200, word), document
                assert document["version"] == response.headers["X-Deployment-Version"] == RELEASE.id
                assert document["admitted"] is True
                if path == "/ready":
                    assert all(check["status"] == "healthy" for check in document["checks"].values())
        async with platform.session.get(f"{service.url}/metrics") as response:
            text = await response.text()
            assert response.status == 200
            assert "http_requests_total" in text
            assert "linkrift_active_connections" in text
