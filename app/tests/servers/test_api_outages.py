"""The API while a store is away: it says so, in the form of all errors, or does without."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from redis.asyncio import Redis

from app.tests.servers.clients import PASSWORD, Client
from app.tests.servers.harness import eventually
from tools.testing.servers import PostgresqlServer, RedisServer

EVERYTHING = (
    ("POST", "/auth/register", {"email": "somebody@example.test", "password": PASSWORD}, 201),
    ("POST", "/auth/login", {"email": "nobody@example.test", "password": PASSWORD}, 401),
    ("POST", "/links", {"url": "https://example.org/"}, 201),
    ("GET", "/links", None, 200),
    ("GET", "/links/nothing-there", None, 404),
    ("PATCH", "/links/nothing-there", {"title": "x"}, 404),
    ("DELETE", "/links/nothing-there", None, 404),
    ("GET", "/links/nothing-there/stats", None, 404),
)


async def test_without_the_database_every_operation_says_so(owner: Client, postgresql: PostgresqlServer) -> None:
    postgresql.process.stop()
    try:
        for method, path, body, _ in EVERYTHING:
            status, problem, headers = await owner.call(method, path, body, **{"Idempotency-Key": "a"})
            assert (status, problem["status"]) == (503, 503), (method, path)
            assert headers["Content-Type"].startswith("application/problem+json")
            assert (headers["Retry-After"], "RateLimit" in headers) == ("5", True)
        # What needs no database is answered as ever.
        assert (await owner.call("GET", "/openapi.json"))[0] == 200
        assert (await owner.call("GET", "/nothing"))[0] == 404
        assert (await owner.call("POST", "/links", {"url": "nonsense"}))[0] == 422
        assert (await owner.call("GET", "/links", Authorization=""))[0] == 401
    finally:
        postgresql.process.start()


@pytest.mark.parametrize("outage", ["stopped", "read-only", "full"])
async def test_without_redis_every_operation_works(
    owner: Client, redis: Redis, redis_process: RedisServer, outage: str
) -> None:
    if outage == "stopped":
        redis_process.process.stop()
    elif outage == "read-only":
        # Nobody is there: it stays empty, and takes nothing.
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call] # the library declares none
    else:
        await redis.config_set("maxmemory", "1")
        await redis.config_set("maxmemory-policy", "noeviction")
    try:
        for method, path, body, expected in EVERYTHING:
            own = {"email": f"{outage}@example.test"} if path == "/auth/register" else {}
            status, answer, _ = await owner.call(method, path, body and {**body, **own})
            assert status == expected, (method, path, answer)
    finally:
        if outage == "stopped":
            redis_process.process.start()
        elif outage == "read-only":
            await redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call] # the library declares none
        else:
            await redis.config_set("maxmemory", "0")


async def test_more_passwords_than_can_be_checked(anybody: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads are held up; those who come to a full queue are sent away at once, the others get their answer."""
    go_on = threading.Event()
    service: Any = anybody.running.service
    passwords = service._passwords
    real = passwords._verify

    def slow(*arguments: Any) -> Any:
        assert go_on.wait(20.0)
        return real(*arguments)

    monkeypatch.setattr(passwords, "_verify", slow)
    monkeypatch.setattr(passwords, "_free", 3)

    async def login(number: int) -> tuple[int, str | None]:
        body = {"email": f"{number}@example.test", "password": PASSWORD}
        status, _, headers = await anybody.call("POST", "/auth/login", body)
        return status, headers.get("Retry-After")

    waiting = [asyncio.create_task(login(number)) for number in range(3)]

    async def full() -> bool:
        return bool(passwords._free == 0)

    await eventually(full, "three wait")
    assert await login(4) == (429, "1")
    go_on.set()
    assert await asyncio.gather(*waiting) == [(401, None)] * 3
    assert passwords._free == 3
    assert await login(5) == (401, None)
