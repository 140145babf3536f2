"""Limits of the API, against a real Redis: exact for all processes together, and there without it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from app.tests.servers.clients import PASSWORD, Client
from app.tests.servers.harness import running, variables_of
from linkrift.api.buckets import KEY_PREFIX, Buckets, Limit, LocalBuckets
from linkrift.redis_client import connect
from linkrift.settings import RedisSettings
from tools.testing.process import free_port
from tools.testing.servers import PostgresqlServer, RedisServer

# Within a test, nothing is added to a bucket.
SLOW = {"LINKRIFT_RATE_LIMIT_WINDOW": "24h", "LINKRIFT_RATE_LIMIT_LOGIN_WINDOW": "24h"}
TWENTY = Limit("createLink", 10, 86400.0, 20)


def client_of(server: RedisServer, service: str) -> Redis:
    user = f"linkrift_{service}"
    return connect(RedisSettings(server.host, server.port, user, server.passwords[user]), "test")


async def make_link(client: Client) -> tuple[int, dict[str, Any], dict[str, str]]:
    return await client.call("POST", "/links", {"url": "https://example.org/"})


@pytest.fixture
async def proxied(
    environment: dict[str, str], postgresql: PostgresqlServer, cheap_passwords: None
) -> AsyncIterator[Client]:
    """A client whose address the API is told by a proxy. No bucket is filled again while the test runs."""
    settings = {"LINKRIFT_TRUSTED_PROXIES": "127.0.0.1", **SLOW}
    variables = variables_of("api", environment, postgresql, **settings)
    async with running("api", variables) as api, aiohttp.ClientSession() as session:
        yield Client(session, api.url, api)


async def test_a_limit_is_for_an_account_and_an_operation(proxied: Client) -> None:
    owner = await proxied.register()
    for left in range(19, -1, -1):
        status, _, headers = await make_link(owner)
        assert (status, headers["RateLimit-Remaining"]) == (201, str(left))
    status, problem, headers = await make_link(owner)
    assert (status, headers["Content-Type"]) == (429, "application/problem+json; charset=utf-8")
    assert 8000 <= int(headers["Retry-After"]) <= 8640
    assert headers["RateLimit-Policy"] == '"createLink";q=10;w=86400;linkrift-burst=20'
    assert headers["RateLimit"].startswith('"createLink";r=0;t=17')
    assert problem["status"] == 429
    assert (await owner.call("GET", "/links?limit=1"))[2]["RateLimit-Remaining"] == "199"
    assert (await make_link(await owner.register()))[2]["RateLimit-Remaining"] == "19"


@pytest.mark.usefixtures("redis")
async def test_of_many_requests_at_once_exactly_the_burst_is_let_through(redis_process: RedisServer) -> None:
    clients = [client_of(redis_process, "api") for _ in range(3)]
    processes = [Buckets(client, 1) for client in clients]
    slow = Limit("x", 1, 86400.0, 20)
    verdicts = await asyncio.gather(*(processes[number % 3].take(slow, "key") for number in range(60)))
    assert sum(verdict.allowed for verdict in verdicts) == 20
    assert sorted(verdict.remaining for verdict in verdicts if verdict.allowed) == list(range(20))
    for client in clients:
        await client.aclose()


async def test_redis_and_a_process_count_alike(redis: Redis) -> None:
    buckets, local = Buckets(redis, 1), LocalBuckets(10, 1)
    for _ in range(22):
        there, here = await buckets.take(TWENTY, "key"), local.take(TWENTY, "key", 0.0)
        assert (there.allowed, there.remaining) == (here.allowed, here.remaining)
        assert there.full_after == pytest.approx(here.full_after, abs=60.0)
        assert there.retry_after == pytest.approx(here.retry_after, abs=60.0)
    assert 0 < await redis.pttl(KEY_PREFIX + "key") <= 2 * 86_400_000


async def test_what_is_odd_in_redis_costs_nobody_more_than_a_burst(redis: Redis) -> None:
    buckets = Buckets(redis, 1)
    for odd in ("nonsense", "-1", "inf", "nan", str((time.time() + 1e6) * 1e6)):
        # A clock that was set back leaves times that are far ahead.
        await redis.set(KEY_PREFIX + "key", odd)
        verdict = await buckets.take(TWENTY, "key")
        assert verdict.retry_after <= 8640.0
        assert verdict.full_after <= 2 * 86400.0
    await redis.delete(KEY_PREFIX + "key")
    await redis.script_flush()
    assert (await buckets.take(TWENTY, "key")).remaining == 19


@pytest.mark.parametrize("trouble", ["gone", "no right", "wrong type", "full"])
async def test_without_redis_each_process_counts(redis: Redis, redis_process: RedisServer, trouble: str) -> None:
    # On a host whose role was not run since, the rights are those of the release before, like another service's.
    client = client_of(redis_process, "worker" if trouble == "no right" else "api")
    if trouble == "gone":
        client = connect(RedisSettings("127.0.0.1", free_port(), None, ""), "test")
    elif trouble == "wrong type":
        await redis.lpush(KEY_PREFIX + "key", "x")
    elif trouble == "full":
        await redis.config_set("maxmemory", "1")
        await redis.config_set("maxmemory-policy", "noeviction")
    try:
        buckets = Buckets(client, 1)
        verdicts = [await buckets.take(TWENTY, "key") for _ in range(30)]
        assert sum(verdict.allowed for verdict in verdicts) == 10
    finally:
        await redis.config_set("maxmemory", "0")
        await client.aclose()


async def test_the_api_limits_without_redis(proxied: Client, redis_process: RedisServer) -> None:
    owner = await proxied.register()
    redis_process.process.stop()
    try:
        answers = [await make_link(owner) for _ in range(12)]
    finally:
        redis_process.process.start()
    assert [status for status, _, _ in answers] == [201] * 10 + [429] * 2
    assert int(answers[-1][2]["Retry-After"]) <= 2 * 8640


async def test_who_has_no_account_is_told_apart_by_address(proxied: Client) -> None:
    async def remaining(address: str, path: str = "/links", **headers: str) -> int:
        _, _, answered = await proxied.call("GET", path, **{"X-Forwarded-For": address, **headers})
        return int(answered["RateLimit-Remaining"])

    assert [await remaining("198.51.100.1") for _ in range(3)] == [199, 198, 197]
    assert await remaining("198.51.100.2") == 199
    assert await remaining("2001:db8:1:2::1") == 199
    assert await remaining("2001:db8:1:2:ffff::9") == 198, "the same network"
    assert await remaining("2001:db8:1:3::1") == 199
    # A token that is not good is nobody's.
    assert await remaining("198.51.100.1", Authorization="Bearer a.b.c") == 196
    # What is not there is counted, too.
    assert [await remaining("198.51.100.1", path) for path in ("/x", "/y")] == [199, 198]


async def test_a_password_is_not_guessed_from_many_addresses(proxied: Client, redis: Redis) -> None:
    email = f"{uuid.uuid4().hex}@example.test"
    right, wrong = {"email": email, "password": PASSWORD}, {"email": email, "password": "wrong horse battery"}

    async def login(body: dict[str, str], number: int) -> int:
        address = {"X-Forwarded-For": f"198.51.100.{number}"}
        return (await proxied.call("POST", "/auth/login", body, **address))[0]

    assert (await proxied.call("POST", "/auth/register", right))[0] == 201
    # To register is an attempt, too: the answer tells whether there is an account.
    assert [await login(wrong, number) for number in range(9)] == [401] * 9
    assert await login(right, 100) == 429
    assert await login({**right, "email": f" {email.upper()} "}, 101) == 429
    assert await login({**right, "email": "somebody@example.test"}, 102) == 401
    keys = [str(key) for key in await redis.keys(KEY_PREFIX + "*")]
    assert not [key for key in keys if email in key or "198.51" in key]


async def test_an_address_does_not_try_many_accounts(proxied: Client) -> None:
    async def login(number: int) -> int:
        body = {"email": f"{number}@example.test", "password": PASSWORD}
        return (await proxied.call("POST", "/auth/login", body))[0]

    assert [await login(number) for number in range(21)] == [401] * 20 + [429]


async def test_limits_are_settings(environment: dict[str, str], postgresql: PostgresqlServer) -> None:
    variables = variables_of(
        "api", environment, postgresql, LINKRIFT_RATE_LIMIT_WRITES="3", LINKRIFT_RATE_LIMIT_BURST="1", **SLOW
    )
    async with running("api", variables) as api, aiohttp.ClientSession() as session:
        somebody = await Client(session, api.url, api).register()
        assert [(await make_link(somebody))[0] for _ in range(4)] == [201] * 3 + [429]


async def test_operators_are_not_limited(owner: Client) -> None:
    for _ in range(250):
        async with owner.session.get(f"{owner.url}/health") as response:
            assert (response.status, "RateLimit" in response.headers) == (200, False)
