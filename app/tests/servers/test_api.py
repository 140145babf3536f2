"""The API as a client sees it, against real stores."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from app.tests.servers.clients import PASSWORD, Client
from app.tests.servers.harness import running, variables_of
from linkrift.links import LinkState
from tools.testing.process import ServerProcess
from tools.testing.servers import PostgresqlServer, RedisServer


async def test_an_account_is_made_once(anybody: Client) -> None:
    credentials = {"email": "Once@Example.test", "password": PASSWORD}
    status, account, headers = await anybody.call("POST", "/auth/register", credentials)
    assert (status, account["email"], account["token_type"]) == (201, "once@example.test", "Bearer")
    assert headers["Cache-Control"] == "no-store"
    status, problem, headers = await anybody.call("POST", "/auth/register", credentials)
    assert (status, headers["Content-Type"]) == (409, "application/problem+json; charset=utf-8")
    assert problem["request_id"] == headers["X-Request-ID"]
    status, token, _ = await anybody.call("POST", "/auth/login", credentials)
    assert (status, token["expires_in"]) == (200, 86400)


async def test_a_wrong_password_and_an_unknown_address_look_the_same(anybody: Client, owner: Client) -> None:
    credentials = {"email": "known@example.test", "password": PASSWORD}
    await anybody.call("POST", "/auth/register", credentials)
    wrong = await anybody.call("POST", "/auth/login", credentials | {"password": "wrong horse battery"})
    unknown = await anybody.call("POST", "/auth/login", credentials | {"email": "unknown@example.test"})
    for status, problem, _ in (wrong, unknown):
        del problem["request_id"]
        assert (status, problem["detail"]) == (401, "Address or password is wrong.")
    assert wrong[1] == unknown[1]


async def test_an_account_that_is_switched_off_cannot_log_in(anybody: Client, postgresql: PostgresqlServer) -> None:
    credentials = {"email": "off@example.test", "password": PASSWORD}
    await anybody.call("POST", "/auth/register", credentials)
    postgresql.execute("UPDATE users SET is_active = false WHERE email = 'off@example.test'")
    assert (await anybody.call("POST", "/auth/login", credentials))[0] == 401


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Bearer nonsense", "Basic YTpi"])
async def test_a_token_is_needed(anybody: Client, authorization: str) -> None:
    for method, path in (("GET", "/links"), ("POST", "/links"), ("GET", "/links/x"), ("GET", "/links/x/stats")):
        status, _, headers = await anybody.call(method, path, Authorization=authorization)
        assert status == 401
        assert headers["WWW-Authenticate"].startswith("Bearer")


async def test_the_token_of_an_account_that_is_gone(owner: Client, postgresql: PostgresqlServer) -> None:
    postgresql.execute("DELETE FROM users WHERE is_active")
    assert (await owner.call("POST", "/links", {"url": "https://example.org/"}))[0] == 401
    assert (await owner.call("GET", "/links"))[1] == {"items": [], "next_cursor": None}


async def test_a_link_and_its_changes(owner: Client) -> None:
    code = f"mine-{uuid.uuid4().hex}"
    body = {"url": "https://example.org/", "code": code, "title": "Mine", "expires_at": "2100-01-01T00:00:00+02:00"}
    status, link, headers = await owner.call("POST", "/links", body)
    assert (status, headers["Location"]) == (201, f"/api/v1/links/{code}")
    assert (link["code"], link["title"], link["expires_at"]) == (code, "Mine", "2099-12-31T22:00:00Z")
    assert (await owner.call("GET", f"/links/{code}"))[1] == link
    status, changed, _ = await owner.call("PATCH", f"/links/{code}", {"title": None, "expires_at": None})
    assert (status, changed["title"], changed["expires_at"], changed["url"]) == (200, None, None, link["url"])
    assert changed["updated_at"] > link["updated_at"]
    assert (await owner.call("PATCH", f"/links/{code}", {}))[1] == changed
    for nothing in ({"url": None}, {"is_active": None}):
        status, problem, _ = await owner.call("PATCH", f"/links/{code}", nothing)
        assert (status, problem["errors"][0]["message"]) == (422, "must not be null")


async def test_a_code_that_is_taken_or_reserved(owner: Client) -> None:
    code = f"taken-{uuid.uuid4().hex}"
    assert (await owner.call("POST", "/links", {"url": "https://example.org/", "code": code}))[0] == 201
    other = await owner.register()
    assert (await other.call("POST", "/links", {"url": "https://example.org/", "code": code}))[0] == 409
    status, problem, _ = await other.call("POST", "/links", {"url": "https://example.org/", "code": "Admin"})
    assert (status, problem["errors"]) == (422, [{"field": "code", "message": "is reserved"}])


async def test_a_made_up_code_that_is_taken_is_made_up_again(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    unique = uuid.uuid4().hex
    made_up = iter([unique, unique, "health", f"{unique}-2"])
    monkeypatch.setattr("linkrift.codes.generate", lambda: next(made_up))
    assert (await owner.call("POST", "/links", {"url": "https://example.org/"}))[1]["code"] == unique
    assert (await owner.call("POST", "/links", {"url": "https://example.org/"}))[1]["code"] == f"{unique}-2"


async def test_nobody_sees_another_ones_link(owner: Client) -> None:
    _, link, _ = await owner.call("POST", "/links", {"url": "https://example.org/"})
    other = await owner.register()
    for method, path, body in (
        ("GET", f"/links/{link['code']}", None),
        ("PATCH", f"/links/{link['code']}", {"title": "Taken over"}),
        ("DELETE", f"/links/{link['code']}", None),
        ("GET", f"/links/{link['code']}/stats", None),
    ):
        assert (await other.call(method, path, body))[0] == 404
    assert (await other.call("GET", "/links"))[1]["items"] == []


async def test_a_list_goes_on_where_it_ended_although_links_are_added(owner: Client) -> None:
    codes = []
    for number in range(7):
        _, link, _ = await owner.call("POST", "/links", {"url": f"https://example.org/{number}"})
        codes.append(link["code"])
    listed: list[str] = []
    path = "/links?limit=3"
    while True:
        status, page, _ = await owner.call("GET", path)
        assert (status, len(page["items"]) <= 3) == (200, True)
        listed += [item["code"] for item in page["items"]]
        await owner.call("POST", "/links", {"url": "https://example.org/later"})
        if page["next_cursor"] is None:
            break
        path = f"/links?limit=3&cursor={page['next_cursor']}"
    assert listed == codes[::-1]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=", "cursor=x", "cursor=", "cursor=%FF"])
async def test_a_query_that_is_refused(owner: Client, query: str) -> None:
    status, _, headers = await owner.call("GET", f"/links?{query}")
    assert (status, headers["Content-Type"].partition(";")[0]) == (400, "application/problem+json")


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield b" " * 1024


async def test_bodies_that_are_refused(owner: Client) -> None:
    json_type = {"Content-Type": "application/json"}
    url = "https://example.org/"
    for expected, data, headers in (
        (415, b"{}", {"Content-Type": "text/plain"}),
        (415, b"{}", {}),
        (400, b"", json_type),
        (400, b"{", json_type),
        (400, b'{"url": "\xff"}', json_type),
        (400, b"[" * 30_000, json_type),
        (413, b" " * 70_000, json_type),
        (413, chunks(128 * 1024), json_type),
        (422, b"[]", json_type),
        (422, b"{}", json_type),
        (422, json.dumps({"url": 1}).encode(), json_type),
        (422, json.dumps({"url": url, "more": 1}).encode(), json_type),
        (422, json.dumps({"url": "javascript:alert(1)"}).encode(), json_type),
        (422, json.dumps({"url": "https://go.example.test/x"}).encode(), json_type),
        (422, json.dumps({"url": url, "code": "a/b"}).encode(), json_type),
    ):
        status, problem, answered = await owner.call("POST", "/links", data=data, **headers)
        assert status == expected, (data, problem)
        assert answered["Content-Type"].startswith("application/problem+json")
        assert problem["status"] == expected


async def test_what_is_not_there(owner: Client) -> None:
    status, problem, headers = await owner.call("GET", "/nothing")
    assert (status, problem["detail"]) == (404, "There is nothing here.")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Server"] == "linkrift"
    status, _, headers = await owner.call("PUT", "/links")
    assert (status, headers["Allow"]) == (405, "GET,HEAD,POST")


async def test_something_unforeseen_is_logged_and_tells_nothing(
    owner: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("linkrift.api.store.Links.find", broken)
    status, problem, headers = await owner.call("GET", "/links/x")
    assert (status, "hunter2" in json.dumps(problem)) == (500, False)
    assert "hunter2" in caplog.text
    assert headers["X-Request-ID"] == problem["request_id"]


async def test_the_document_is_true(owner: Client) -> None:
    """Every operation that is served is described, with the statuses and fields that it really has."""
    _, document, _ = await owner.call("GET", "/openapi.json")
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    application = owner.running.service._application  # type: ignore[attr-defined] # what is really served
    served = {
        (route.method, route.resource.canonical)
        for route in application.router.routes()
        if route.resource.canonical.startswith("/api/") and route.method != "HEAD"
    }
    assert described == served
    code = str((await owner.call("POST", "/links", {"url": "https://example.org/"}))[1]["code"])
    for method, path, body in (
        ("POST", "/links", {"url": "https://example.org/"}),
        ("POST", "/links", {"url": "nonsense"}),
        ("POST", "/links", {"url": "https://example.org/", "code": code}),
        ("GET", "/links", None),
        ("GET", "/links?limit=0", None),
        ("GET", f"/links/{code}", None),
        ("GET", "/links/nothing", None),
        ("PATCH", f"/links/{code}", {"title": "x"}),
        ("GET", f"/links/{code}/stats", None),
        ("POST", "/auth/login", {"email": "a@example.test", "password": "x" * 12}),
        ("DELETE", f"/links/{code}", None),
    ):
        status, answer, headers = await owner.call(method, path, body)
        open_to_all = document["paths"]["/api/v1/auth/login"]["post"]["security"] == [] and path.startswith("/auth")
        anonymous, _, _ = await owner.call(method, path, body, Authorization="")
        template = re.sub(r"/links/[^/?]+", "/links/{code}", path.partition("?")[0])
        responses = document["paths"][f"/api/v1{template}"][method.lower()]["responses"]
        assert str(status) in responses, (method, path, status)
        assert ("401" in responses and anonymous == 401) or open_to_all, (method, path, anonymous)
        if status != 204:
            (media_type,) = responses[str(status)]["content"]
            assert headers["Content-Type"].startswith(media_type)
            schema = responses[str(status)]["content"][media_type]["schema"]["$ref"].rpartition("/")[2]
            fields = document["components"]["schemas"][schema]
            assert set(fields["required"]) <= set(answer) <= set(fields["properties"]), (method, path)


async def test_a_changed_link_is_put_into_redis_with_its_version(owner: Client, redis: Redis) -> None:
    _, link, _ = await owner.call("POST", "/links", {"url": "https://example.org/1"})
    key = f"linkrift:link:{link['code']}"

    async def cached() -> LinkState:
        data = await redis.get(key)
        assert data is not None
        state = LinkState.decode(data)
        assert state is not None
        return state

    assert await cached() == LinkState("https://example.org/1", 1)
    assert 0 < await redis.ttl(key) <= 300
    await owner.call("PATCH", f"/links/{link['code']}", {"url": "https://example.org/2"})
    assert await cached() == LinkState("https://example.org/2", 2)
    # A late announcement of an older state changes nothing.
    invalidation = owner.running.service._invalidation  # type: ignore[attr-defined] # its own way to Redis
    await invalidation.announce(link["code"], LinkState("https://example.org/1", 1))
    assert await cached() == LinkState("https://example.org/2", 2)
    await redis.set(key, "nonsense")
    await owner.call("DELETE", f"/links/{link['code']}")
    assert (await cached()).gone


async def test_a_change_during_a_redis_outage_is_announced_later(
    owner: Client, redis: Redis, redis_process: RedisServer
) -> None:
    _, link, _ = await owner.call("POST", "/links", {"url": "https://example.org/"})
    redis_process.process.stop()
    try:
        assert (await owner.call("DELETE", f"/links/{link['code']}"))[0] == 204
    finally:
        redis_process.process.start()
    service: Any = owner.running.service
    await service._invalidation.flush(5.0)
    data = await redis.get(f"linkrift:link:{link['code']}")
    assert data is not None
    state = LinkState.decode(data)
    assert state is not None
    assert state.gone


@pytest.mark.parametrize("outage", ["stop", "freeze"])
async def test_without_the_database_the_api_says_so_and_comes_back(
    owner: Client, postgresql: PostgresqlServer, outage: str
) -> None:
    process: ServerProcess = postgresql.process
    getattr(process, outage)()
    try:
        started = time.monotonic()
        status, problem, headers = await owner.call("GET", "/links")
        assert (status, headers["Retry-After"]) == (503, "5"), problem
        assert time.monotonic() - started < 7.0, "a statement has 5 seconds"
        async with owner.session.get(f"{owner.url}/health") as response:
            assert response.status == 200
        async with owner.session.get(f"{owner.url}/health/ready") as response:
            assert (response.status, (await response.json())["checks"]["postgresql"]["status"]) == (503, "unhealthy")
    finally:
        if outage == "stop":
            process.start()
        else:
            process.thaw()
    assert (await owner.call("GET", "/links"))[0] == 200


async def test_the_audit_log(environment: dict[str, str], postgresql: PostgresqlServer, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    variables = variables_of("api", environment, postgresql, LINKRIFT_AUDIT_LOG=str(path))
    secret = "a-secret-in-a-target"
    async with running("api", variables) as api, aiohttp.ClientSession() as session:
        somebody = Client(session, api.url, api)
        email = f"{uuid.uuid4().hex}@example.test"
        account = {"email": email, "password": PASSWORD}
        await somebody.call("POST", "/auth/register", account, **{"X-Request-ID": "first"})
        await somebody.call("POST", "/auth/register", account)
        await somebody.call("POST", "/auth/login", {**account, "password": "not the right one"})
        await somebody.call("POST", "/auth/login", {**account, "email": "nobody@example.test"})
        _, token, _ = await somebody.call("POST", "/auth/login", account)
        somebody.headers["Authorization"] = f"Bearer {token['access_token']}"
        _, link, _ = await somebody.call("POST", "/links", {"url": f"https://example.com/?token={secret}"})
        await somebody.call("PATCH", f"/links/{link['code']}", {"title": secret})
        await somebody.call("PATCH", f"/links/{link['code']}", {"url": f"https://example.org/{secret}"})
        await somebody.call("DELETE", f"/links/{link['code']}")
    text = path.read_text()
    for hidden in (secret, PASSWORD, "not the right one", email, "127.0.0.1", token["access_token"]):
        assert hidden not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["action"], line["outcome"], line.get("target")) for line in lines] == [
        ("account.register", "ok", None),
        ("account.register", "address taken", None),
        ("account.login", "wrong password", None),
        ("account.login", "unknown address", None),
        ("account.login", "ok", None),
        ("link.create", "ok", "example.com"),
        ("link.update", "ok", None),
        ("link.update", "ok", "example.org"),
        ("link.delete", "ok", None),
    ]
    owner = lines[0]["account"]
    assert {line["account"] for line in lines} == {owner, None}
    assert lines[0]["request_id"] == "first"
    assert {line["code"] for line in lines[5:]} == {link["code"]}
    assert lines[6]["fields"] == ["title"]
    assert lines[0]["network"] == "127.0.0.0"
