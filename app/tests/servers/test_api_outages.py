"""The API while a store is away: it says so, in the form of all errors, or does without."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from app.tests.servers.clients import PASSWORD, Client
from app.tests.servers.harness import MIGRATIONS, eventually
from linkrift.api import service as api_service
from linkrift.environment import Environment
from linkrift.settings import read_clickhouse
from linkrift.worker import schema
from tools.testing.servers import ClickHouseServer, PostgresqlServer, RedisServer

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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an API that is started then does not wait long for."""
    monkeypatch.setattr(api_service, "CLICKHOUSE_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(api_service, "CLICKHOUSE_SECONDS", 4.0)


@pytest.mark.usefixtures("impatient")
async def test_while_clickhouse_hangs_nobody_waits_for_it_in_vain(
    owner: Client, clickhouse: ClickHouseServer, environment: dict[str, str]
) -> None:
    """Some find out; whoever comes later is told at once, and everything else is answered as ever."""
    schema.apply(read_clickhouse(Environment(environment)), schema.schema_files(MIGRATIONS / "clickhouse"))
    _, link, _ = await owner.call("POST", "/links", {"url": "https://example.org/"})

    async def stats() -> tuple[int, str | None, float]:
        began = time.monotonic()
        status, _, headers = await owner.call("GET", f"/links/{link['code']}/stats")
        assert status == 200 or headers["Content-Type"].startswith("application/problem+json")
        return status, headers.get("Retry-After"), time.monotonic() - began

    async def counts() -> bool:
        return (await stats())[0] == 200

    assert await counts()
    clickhouse.process.freeze()
    try:
        # More than have a thread: those wait for one.
        found_out = [asyncio.create_task(stats()) for _ in range(2 * api_service.CLICKHOUSE_THREADS)]

        await asyncio.sleep(2 * api_service.CLICKHOUSE_PATIENCE_SECONDS)  # the time that it hangs is what is tried
        refused = await asyncio.gather(*(stats() for _ in range(20)))
        assert not any(task.done() for task in found_out)
        assert {answer[:2] for answer in refused} == {(503, "5")}
        assert (await owner.call("GET", "/links"))[0] == 200
        # Nor do those of the first who got no thread ask once there is one: the others' time is enough.
        answers = await asyncio.gather(*found_out)
        assert {answer[:2] for answer in answers} == {(503, "5")}
        assert max(seconds for *_, seconds in answers) < 2 * api_service.CLICKHOUSE_SECONDS
        async with owner.session.get(f"{owner.url}/metrics") as response:
            assert 'linkrift_breaker_state{dependency="clickhouse"}' in await response.text()
    finally:
        clickhouse.process.thaw()
    await eventually(counts, "it is asked again")


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
