"""Links with rules, through the API, the redirect service and the real stores."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from yarl import URL

from app.tests.servers.harness import MIGRATIONS, Running, eventually, running, variables_of
from linkrift.api.tokens import Tokens
from linkrift.links import LinkState, Rules
from linkrift.redirect import attempts
from tools.testing.servers import PostgresqlServer, RedisServer

SECRET = "open sesame"
TARGET = "https://example.org/a?x=1#part"


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str


@dataclass
class Shop:
    """The API, two processes of the redirect service, and an owner of links."""

    api: Running
    redirects: list[Running]
    session: aiohttp.ClientSession

    async def make(self, **fields: Any) -> str:
        """Make a link and return its code."""
        status, link = await self.call("POST", "/links", {"url": TARGET, **fields})
        assert status == 201, link
        return str(link["code"])

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        async with self.session.request(method, f"{self.api.url}/api/v1{path}", json=body) as response:
            return response.status, (await response.json() if response.status != 204 else {})

    async def change(self, code: str, **fields: Any) -> None:
        """Change a link and wait until both processes know."""
        status, link = await self.call("PATCH", f"/links/{code}", fields)
        assert status == 200, link

    async def visit(
        self, path: str, method: str = "GET", *, process: int = 0, form: Any = None, **headers: str
    ) -> Answer:
        url = URL(f"{self.redirects[process].url}/{path}", encoded=True)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, url, allow_redirects=False, data=form, headers=sent) as response:
            return Answer(response.status, response.headers, await response.text())

    async def enter(self, code: str, password: str, **more: Any) -> Answer:
        return await self.visit(code, "POST", form={"password": password}, **more)


@pytest.fixture
async def shop(environment: dict[str, str], postgresql: PostgresqlServer) -> AsyncIterator[Shop]:
    common = {
        "LINKRIFT_REDIRECT_PASS_KEY": "made-up-pass-key-for-tests-0123456789",
        "LINKRIFT_TRUSTED_PROXIES": "127.0.0.1",
        "LINKRIFT_UNKNOWN_CODES_PER_MINUTE": "20",
        # That this machine is busy with other things is not meant to look as if Redis were away.
        "LINKRIFT_REDIRECT_READ_TIMEOUT": "10s",
    }
    # As role postgresql makes it.
    readonly = "BEGIN READ WRITE; ALTER ROLE linkrift_redirect SET default_transaction_read_only = on; COMMIT"
    postgresql.execute(readonly, role="linkrift_redirect")
    async with AsyncExitStack() as stack:
        hosts = {"LINKRIFT_OWN_HOSTS": "api.example.test", "LINKRIFT_RATE_LIMIT_WRITES": "1000"}
        api = await stack.enter_async_context(running("api", variables_of("api", environment, postgresql, **hosts)))
        redirects = [
            await stack.enter_async_context(
                running("redirect", variables_of("redirect", environment, postgresql, **common))
            )
            for _ in range(2)
        ]
        jar = aiohttp.DummyCookieJar()
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
        started = Shop(api, redirects, session)
        owner = uuid.uuid4()
        postgresql.execute(
            f"INSERT INTO users (id, email, password_hash) VALUES ('{owner}', '{owner}@example.test', '!')"
        )
        token = Tokens(environment["LINKRIFT_JWT_SECRET"], (), 3600.0).issue(owner)
        session.headers["Authorization"] = f"Bearer {token}"
        yield started


def from_address(address: str) -> dict[str, Any]:
    """Return the header that a trusted proxy adds."""
    return {"X_Forwarded_For": address}


def as_text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode()


def at(seconds: float) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()


async def test_the_status_is_the_owners_and_nothing_is_kept_by_anybody(shop: Shop) -> None:
    for status in (301, 302, 307, 308):
        code = await shop.make(redirect_status=status)
        for method in ("GET", "HEAD"):
            answer = await shop.visit(code, method)
            assert (answer.status, answer.headers["Location"], answer.text) == (status, TARGET, "")
            # Also the permanent ones: what a browser keeps can neither be changed nor counted.
            assert answer.headers["Cache-Control"] == "private, no-store"
    await shop.change(code, redirect_status=302, url="https://example.com/")
    await eventually(lambda: leads(shop, code, "https://example.com/"), "the change is seen")


async def leads(shop: Shop, code: str, target: str) -> bool:
    answers = [await shop.visit(code, process=number) for number in range(2)]
    return all(answer.headers.get("Location") == target for answer in answers)


async def test_a_query_is_forwarded_on_request_only(shop: Shop) -> None:
    plain, forwarding = await shop.make(), await shop.make(forward_query=True)
    assert (await shop.visit(f"{plain}?y=2")).headers["Location"] == TARGET
    assert (await shop.visit(f"{forwarding}?y=2&x=3")).headers["Location"] == "https://example.org/a?x=1&y=2#part"


async def test_a_link_that_begins_later_is_not_there_before(shop: Shop) -> None:
    code = await shop.make(active_from=at(3600))
    later, unknown = await shop.visit(code), await shop.visit("nothing-here")
    assert (later.status, later.text) == (unknown.status, unknown.text) == (404, "There is no such short link.\n")
    assert (await shop.visit(f"{code}+")).status == 404
    await shop.change(code, active_from=at(-1))
    await eventually(lambda: leads(shop, code, TARGET), "it has begun")
    await shop.change(code, expires_at=at(-1), active_from=None)

    async def gone() -> bool:
        return (await shop.visit(code)).status == 410 and (await shop.visit(f"{code}+")).status == 410

    await eventually(gone, "it has ended")


async def test_a_password_is_asked_for_and_opens_the_link(shop: Shop, redis: Redis) -> None:
    code = await shop.make(password=SECRET, forward_query=True)
    _, link = await shop.call("GET", f"/links/{code}")
    assert link["has_password"]
    assert "password" not in link

    asked = await shop.visit(code)
    assert (asked.status, "Location" in asked.headers) == (200, False)
    assert asked.headers["Cache-Control"] == "private, no-store"
    assert "default-src 'none'" in asked.headers["Content-Security-Policy"]
    assert 'method="post"' in asked.text
    assert "<script" not in asked.text
    assert TARGET not in asked.text
    assert (await shop.visit(code, "HEAD")).headers["Content-Length"] == str(len(asked.text.encode()))

    wrong = await shop.enter(code, "open barley")
    assert (wrong.status, "Set-Cookie" in wrong.headers, TARGET in wrong.text) == (403, False, False)

    right = await shop.enter(f"{code}?y=2", SECRET)
    # 303 and not the link's own status: the browser must not send the password on.
    assert (right.status, right.headers["Location"]) == (303, "https://example.org/a?x=1&y=2#part")
    name, _, attributes = right.headers["Set-Cookie"].partition(";")
    for attribute in (f"Path=/{code}", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=900"):
        assert attribute in attributes
    for process in range(2):
        answer = await shop.visit(code, process=process, Cookie=f"other=1; {name}")
        assert (answer.status, answer.headers["Location"]) == (302, TARGET)
    # It is for one link and one password.
    other = await shop.make(password=SECRET)
    assert (await shop.visit(other, Cookie=name)).status == 200
    await shop.change(code, password="another one")

    async def asks_again() -> bool:
        return (await shop.visit(code, Cookie=name)).status == 200

    await eventually(asks_again, "the pass for the old password is worth nothing")
    kept = "".join([as_text(await redis.get(key) or "") for key in await redis.keys("linkrift:link:*")])
    assert "password" in kept
    assert "argon2" not in kept
    await shop.change(code, password=None)
    await eventually(lambda: leads(shop, code, TARGET), "no password is asked for")


async def test_attempts_are_limited_for_all_processes_together(shop: Shop, redis: Redis) -> None:
    code = await shop.make(password=SECRET)
    somebody, another = from_address("203.0.113.5"), from_address("203.0.113.6")
    # Those that are right do not count.
    for _ in range(attempts.LIMITS[0] + 1):
        assert (await shop.enter(code, SECRET, **somebody)).status == 303
    statuses = [
        (await shop.enter(code, "wrong", process=number % 2, **somebody)).status
        for number in range(attempts.LIMITS[0] + 2)
    ]
    assert statuses == [403] * attempts.LIMITS[0] + [429] * 2
    refused = await shop.enter(code, SECRET, **somebody)
    assert (refused.status, 0 < int(refused.headers["Retry-After"]) <= attempts.WINDOW_SECONDS) == (429, True)
    assert (await shop.enter(code, SECRET, **another)).status == 303
    keys = await redis.keys("linkrift:attempts:*")
    assert len(keys) == 5  # both: two; address: two; link: one
    assert all(re.fullmatch("linkrift:attempts:[0-9a-f]{32}", as_text(key)) for key in keys)
    assert all([0 < await redis.ttl(key) <= attempts.WINDOW_SECONDS for key in keys])


async def test_attempts_that_come_at_once_are_counted_before_they_are_made(shop: Shop) -> None:
    code = await shop.make(password=SECRET)
    answers = await asyncio.gather(
        *(shop.enter(code, "wrong", process=number % 2, X_Forwarded_For="203.0.113.7") for number in range(20))
    )
    assert sum(answer.status == 403 for answer in answers) <= attempts.LIMITS[0]
    assert {answer.status for answer in answers} <= {403, 429, 503}


async def test_without_redis_fewer_attempts_are_allowed(
    shop: Shop, redis_process: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    code = await shop.make(password=SECRET)
    assert (await shop.visit(code)).status == 200
    visitor = from_address("203.0.113.8")
    redis_process.process.stop()
    try:
        statuses = [(await shop.enter(code, "wrong", **visitor)).status for _ in range(3)]
        assert statuses == [403, 429, 429]
        assert (await shop.enter(code, SECRET, X_Forwarded_For="203.0.113.9")).status == 303
    finally:
        redis_process.process.start()
    assert SECRET not in caplog.text


async def test_forms_that_are_not_taken(shop: Shop) -> None:
    code, plain = await shop.make(password=SECRET), await shop.make()
    form = {"password": SECRET}
    assert (await shop.visit(plain, "POST", form=form)).status == 405
    assert (await shop.visit("nothing", "POST", form=form)).status == 404
    foreign: list[dict[str, Any]] = [
        {"Sec_Fetch_Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ]
    for origin in foreign:
        assert (await shop.visit(code, "POST", form=form, **origin)).status == 403
    own = shop.redirects[0].url
    ours: list[dict[str, Any]] = [{"Sec_Fetch_Site": "same-origin", "Origin": "null"}, {"Origin": own}]
    for origin in ours:
        assert (await shop.visit(code, "POST", form=form, **origin)).status == 303
    for status, body in (
        (415, json.dumps(form).encode()),
        (413, b"password=" + b"x" * 5000),
        (413, chunks(b"x" * 1000, 10)),
        (400, b"password=a&password=b"),
        (400, b"other=a"),
        (400, b"password=%FF"),
        (400, b"password=\xff"),
        (403, b"password=" + b"x" * 2000),
    ):
        kind = "application/json" if status == 415 else "application/x-www-form-urlencoded"
        assert (await shop.visit(code, "POST", form=body, Content_Type=kind)).status == status, body
    packed: dict[str, Any] = {"Content_Type": "application/x-www-form-urlencoded", "Content_Encoding": "gzip"}
    body = gzip.compress(b"password=" + SECRET.encode())
    assert (await shop.visit(code, "POST", form=body, **packed)).status == 400


async def chunks(chunk: bytes, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield chunk


async def test_a_maximum_is_exact_for_all_processes_together(shop: Shop) -> None:
    code = await shop.make(max_clicks=7)
    for method, path in (("HEAD", code), ("GET", f"{code}+"), ("HEAD", f"{code}+")):
        answer = await shop.visit(path, method)
        assert answer.status in (200, 302)
        assert "Location" not in answer.headers
        assert TARGET not in answer.text
    answers = await asyncio.gather(*(shop.visit(code, process=number % 2) for number in range(40)))
    assert sorted(answer.status for answer in answers) == [302] * 7 + [410] * 33
    assert (await shop.visit(code, "HEAD")).status == 410
    _, link = await shop.call("GET", f"/links/{code}")
    assert (link["max_clicks"], link["clicks_used"]) == (7, 7)
    # That none is left is remembered until the processes hear of the change.
    await shop.change(code, max_clicks=8)

    async def followed() -> bool:
        return (await shop.visit(code)).status == 302

    await eventually(followed, "one more click")
    assert {(await shop.visit(code, process=number)).status for number in range(2)} == {410}
    await shop.change(code, max_clicks=None)
    await eventually(lambda: leads(shop, code, TARGET), "there is no maximum any more")
    _, link = await shop.call("GET", f"/links/{code}")
    assert link["clicks_used"] == 0


async def test_a_click_is_taken_for_a_link_as_it_was_judged_only(shop: Shop) -> None:
    code = await shop.make(max_clicks=5)
    service: Any = shop.redirects[0].service
    assert await service._guarded._clicks_left.take(code, 1) is True
    await shop.change(code, password=SECRET)
    for ask in (service._guarded._clicks_left.take, service._guarded._clicks_left.look):
        state = await ask(code, 1)
        assert (state.rules.password, state.rules.limited) == (2, True)
    # What the process learns of a change in this way, it goes by.
    service._cache.store(code, LinkState(TARGET, 1, rules=Rules(limited=True)), time.monotonic())
    assert (await shop.visit(code)).status == 200
    _, link = await shop.call("GET", f"/links/{code}")
    assert link["clicks_used"] == 1


async def test_a_password_and_a_maximum(shop: Shop) -> None:
    code = await shop.make(password=SECRET, max_clicks=1)
    for _ in range(3):
        assert (await shop.visit(code)).status == 200
        assert (await shop.enter(code, "wrong", X_Forwarded_For="203.0.113.10")).status == 403
    assert (await shop.enter(code, SECRET)).status == 303
    assert (await shop.enter(code, SECRET)).status == 410


async def test_without_postgresql_nothing_is_followed_that_has_to_be_counted(
    shop: Shop, postgresql: PostgresqlServer
) -> None:
    limited, secret, plain = await shop.make(max_clicks=5), await shop.make(password=SECRET), await shop.make()
    passed = (await shop.enter(secret, SECRET)).headers["Set-Cookie"].partition(";")[0]
    for code in (limited, plain):
        assert (await shop.visit(code)).status == 302
    postgresql.process.stop()
    try:
        for method in ("GET", "HEAD"):
            answer = await shop.visit(limited, method)
            assert (answer.status, answer.headers["Retry-After"], "Location" in answer.headers) == (503, "5", False)
        assert (await shop.enter(secret, SECRET)).status == 503
        # Whoever has a pass, and whoever follows a plain link, notices nothing.
        assert (await shop.visit(secret, Cookie=passed)).status == 302
        assert (await shop.visit(plain)).status == 302
        page = await shop.visit(f"{plain}+")
        assert (page.status, "Made on" in page.text) == (200, False)
    finally:
        postgresql.process.start()

    async def counted() -> bool:
        return (await shop.visit(limited)).status == 302

    await eventually(counted, "clicks are counted again")


async def test_a_preview_shows_where_a_link_leads_and_is_no_click(shop: Shop) -> None:
    target = "https://example.org/?q=%22%3E%3Cscript%3E&a=1#'x'"
    code = await shop.make(url=target)
    _, link = await shop.call("GET", f"/links/{code}")
    page = await shop.visit(f"{code}+")
    assert page.status == 200
    assert "https://example.org/?q=%22%3E%3Cscript%3E&amp;a=1#&#x27;x&#x27;" in page.text
    assert link["created_at"][:10] in page.text
    assert page.headers["X-Robots-Tag"] == "noindex, nofollow"
    assert (await shop.visit(f"{code}+", "HEAD")).text == ""
    service: Any = shop.redirects[0].service
    assert service._clicks.waiting() == 0
    assert (await shop.visit(f"{code}++")).status == 404
    secret = await shop.make(password=SECRET)
    page = await shop.visit(f"{secret}+")
    assert (page.status, TARGET in page.text) == (200, False)


async def test_whoever_asks_for_unknown_codes_is_slowed_down_and_known_links_still_answer(shop: Shop) -> None:
    code, secret, later = await shop.make(), await shop.make(password=SECRET), await shop.make(active_from=at(3600))
    visitor = from_address("203.0.113.11")
    unasked = await shop.make()
    for known in (code, secret, later):
        await shop.visit(known, X_Forwarded_For="203.0.113.13")
    statuses = [(await shop.visit(f"unknown{number}", **visitor)).status for number in range(25)]
    assert statuses == [404] * 20 + [429] * 5
    refused = await shop.visit("unknown", **visitor)
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert (await shop.visit(code, **visitor)).status == 302
    assert (await shop.visit(secret, **visitor)).status == 200
    # What is in memory, that is: to tell more the stores would have to be asked.
    assert (await shop.visit(unasked, **visitor)).status == 429
    assert (await shop.visit(unasked, X_Forwarded_For="203.0.113.13")).status == 302
    # One that is to look as if it were not there does so here, too.
    assert (await shop.visit(later, **visitor)).status == 429
    assert (await shop.visit("unknown", X_Forwarded_For="203.0.113.12")).status == 404
    # Gates ask from the machine itself.
    assert {(await shop.visit(f"unknown{number}")).status for number in range(25)} == {404}


async def test_files_that_everybody_asks_for(shop: Shop) -> None:
    robots, icon = await shop.visit("robots.txt"), await shop.visit("favicon.ico")
    assert (robots.status, robots.text) == (200, "User-agent: *\nDisallow:\n")
    assert (icon.status, icon.text, "Content-Length" in icon.headers) == (204, "", False)
    for answer in (robots, icon):
        assert answer.headers["Cache-Control"] == "public, max-age=86400"
    assert (await shop.visit("robots.txt", "HEAD")).headers["Content-Length"] == str(len(robots.text))


def is_active(postgresql: PostgresqlServer, code: str) -> bool:
    """Return the column that releases of schema level 4 go by."""
    with closing(postgresql.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT is_active FROM links WHERE short_code = %s", (code,))
        rows = cursor.fetchall()
    return bool(rows[0][0])


class OldRelease:
    """What a release of schema level 4 reads and writes."""

    def __init__(self, postgresql: PostgresqlServer, redis: Redis) -> None:
        self._postgresql = postgresql
        self._redis = redis

    def opens(self, code: str) -> bool:
        """Tell whether it would lead a visitor to the target, asked from PostgreSQL."""
        return is_active(self._postgresql, code)

    async def opens_from_redis(self, code: str) -> bool:
        return not json.loads(await self._redis.get(f"linkrift:link:{code}") or "").get("gone", False)

    def switch(self, code: str, *, on: bool) -> None:
        """Do what its API does when an owner switches a link."""
        self._postgresql.execute(f"UPDATE links SET is_active = {on} WHERE short_code = '{code}'")

    async def fill(self, code: str) -> None:
        """Do what its redirect service does after a lookup in PostgreSQL."""
        document = {"target": TARGET, "version": 1, **({} if self.opens(code) else {"gone": True})}
        await self._redis.set(f"linkrift:link:{code}", json.dumps(document), ex=300)


async def test_a_release_that_knows_no_rules_never_opens_a_link_that_has_one(
    shop: Shop, postgresql: PostgresqlServer, redis: Redis
) -> None:
    for rule in ({"password": SECRET}, {"max_clicks": 5}, {"active_from": at(-3600)}):
        await never_opens(shop, OldRelease(postgresql, redis), rule)


async def never_opens(shop: Shop, old: OldRelease, rule: dict[str, Any]) -> None:
    guarded, plain, off = await shop.make(**rule), await shop.make(), await shop.make(**rule, is_active=False)
    assert [old.opens(code) for code in (guarded, plain, off)] == [False, True, False]
    assert not await old.opens_from_redis(guarded)
    assert await old.opens_from_redis(plain)

    # What it leaves behind in Redis does not close the link for us.
    await old.fill(guarded)
    assert (await shop.visit(guarded)).status in (200, 302)
    assert (await shop.visit(off)).status == 410

    # An owner's switch works by either release, and never opens the link for the old one.
    for on in (False, True):
        old.switch(guarded, on=on)
        assert (await shop.call("GET", f"/links/{guarded}"))[1]["is_active"] is on
        assert not old.opens(guarded)
        await shop.change(off, is_active=on)
        assert (await shop.call("GET", f"/links/{off}"))[1]["is_active"] is on
        assert not old.opens(off)
    await shop.change(guarded, **dict.fromkeys(rule))
    assert old.opens(guarded)
    old.switch(guarded, on=False)
    assert (await shop.call("GET", f"/links/{guarded}"))[1]["is_active"] is False


async def test_what_the_api_refuses(shop: Shop) -> None:
    for field, value in (
        ("redirect_status", 303),
        ("redirect_status", "302"),
        ("password", "abc"),
        ("password", "x" * 129),
        ("password", "null\x00null"),
        ("max_clicks", 0),
        ("max_clicks", True),
        ("active_from", "2030-01-01T00:00:00"),
        ("url", "https://api.example.test/"),
        ("url", "https://GO.example.test./x"),
        ("url", "https://u:p@example.org/"),
    ):
        status, problem = await shop.call("POST", "/links", {"url": TARGET, field: value})
        assert (status, problem["errors"][0]["field"]) == (422, field), (field, value)
        assert field != "password" or str(value) not in json.dumps(problem)
    times = {"active_from": at(60), "expires_at": at(30)}
    assert (await shop.call("POST", "/links", {"url": TARGET, **times}))[0] == 422
    code = await shop.make()
    for field in ("redirect_status", "forward_query"):
        assert (await shop.call("PATCH", f"/links/{code}", {field: None}))[0] == 422


def test_the_migration_can_be_taken_back_and_leaves_guarded_links_shut(postgresql: PostgresqlServer) -> None:
    files = MIGRATIONS / "postgresql"
    postgresql.execute("UPDATE links SET max_clicks = 1 WHERE short_code = 'ping'")
    postgresql.execute((files / "000005_link_rules.down.sql").read_text())
    try:
        assert not is_active(postgresql, "ping")
    finally:
        postgresql.execute((files / "000005_link_rules.up.sql").read_text())
        postgresql.execute((files / "000004_canary.up.sql").read_text())
    assert is_active(postgresql, "ping")
