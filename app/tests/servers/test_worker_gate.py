"""What a worker must be able to do to be ready: all that a batch takes, tried without one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from app.tests.servers.harness import MIGRATIONS, eventually, running, variables_of
from linkrift import breaker
from linkrift.clicks import Click, encode
from linkrift.environment import Environment
from linkrift.redis_client import CLICK_STREAM, DEAD_CLICK_STREAM, WORKER_GROUP
from linkrift.settings import read_clickhouse
from linkrift.worker import schema
from tools.testing.servers import ClickHouseServer, PostgresqlServer

Variables = dict[str, str]


@pytest.fixture
def variables(environment: Variables, postgresql: PostgresqlServer, clickhouse: ClickHouseServer) -> Variables:
    """Settings of a worker with a ClickHouse database of its own, which a test may spoil."""
    database = f"gate_{uuid.uuid4().hex}"
    own = variables_of("worker", environment, postgresql, LINKRIFT_CLICKHOUSE_DATABASE=database)
    schema.apply(read_clickhouse(Environment(own)), schema.schema_files(MIGRATIONS / "clickhouse"))
    return own


async def ready(session: aiohttp.ClientSession, url: str) -> tuple[int, dict[str, str]]:
    """Return the status of `/health/ready`, and what is wrong by the name of the store."""
    async with session.get(f"{url}/health/ready") as response:
        checks = (await response.json())["checks"]
        return response.status, {name: check["error"] for name, check in checks.items() if check["error"]}


@asynccontextmanager
async def candidate(variables: Variables, tmp_path: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Run a worker that is not admitted yet."""
    own = {**variables, "LINKRIFT_ADMISSION_FILE": str(tmp_path / "none")}
    async with running("worker", own) as worker, aiohttp.ClientSession() as session:
        yield session, worker.url


async def test_a_candidate_is_ready_and_takes_nothing(
    variables: Variables, clickhouse: ClickHouseServer, redis: Redis, tmp_path: Any
) -> None:
    await redis.xadd(CLICK_STREAM, {"events": encode([Click(str(uuid.uuid4()), "abc", 1)])})
    async with candidate(variables, tmp_path) as (session, url):
        assert await ready(session, url) == (200, {})
        assert await ready(session, url) == (200, {})
    assert await redis.xlen(CLICK_STREAM) == 1
    (group,) = await redis.xinfo_groups(CLICK_STREAM)
    assert (group["name"], group["pending"], group["last-delivered-id"]) == (WORKER_GROUP.encode(), 0, b"0-0")
    assert clickhouse.execute(f"SELECT count() FROM {variables['LINKRIFT_CLICKHOUSE_DATABASE']}.clicks") == [(0,)]


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["DROP TABLE {}.clicks"], "clicks"),
        (["ALTER TABLE {}.clicks DROP COLUMN bot"], "bot"),
        # It can be read, and all of its columns are there.
        (["RENAME TABLE {0}.clicks TO {0}.kept", "CREATE VIEW {0}.clicks AS SELECT * FROM {0}.kept"], "write"),
    ],
    ids=["no table", "no column", "no insert"],
)
async def test_what_clickhouse_would_not_take(
    variables: Variables, clickhouse: ClickHouseServer, tmp_path: Any, statements: list[str], reason: str
) -> None:
    for statement in statements:
        clickhouse.execute(statement.format(variables["LINKRIFT_CLICKHOUSE_DATABASE"]))
    async with candidate(variables, tmp_path) as (session, url):
        status, errors = await ready(session, url)
        assert (status, list(errors)) == (503, ["clickhouse"])
        assert reason in errors["clickhouse"]


@pytest.mark.parametrize("command", ["xreadgroup", "xack", "xdel"])
async def test_what_redis_would_not_let_it_do(variables: Variables, redis: Redis, tmp_path: Any, command: str) -> None:
    admin: Any = redis
    await admin.execute_command("ACL", "SETUSER", "linkrift_worker", f"-{command}")
    try:
        async with candidate(variables, tmp_path) as (session, url):
            status, errors = await ready(session, url)
    finally:
        await admin.execute_command("ACL", "SETUSER", "linkrift_worker", f"+{command}")
    assert (status, list(errors)) == (503, ["redis"])
    assert "NoPermissionError" in errors["redis"]


async def test_what_postgresql_would_not_let_it_do(
    variables: Variables, postgresql: PostgresqlServer, tmp_path: Any
) -> None:
    for right in ("UPDATE (click_count) ON links", "INSERT ON link_clicks"):
        postgresql.execute(f"REVOKE {right} FROM linkrift_worker")
        try:
            async with candidate(variables, tmp_path) as (session, url):
                status, errors = await ready(session, url)
        finally:
            postgresql.execute(f"GRANT {right} TO linkrift_worker")
        assert (status, list(errors)) == (503, ["postgresql"])
        assert "permission denied" in errors["postgresql"]


async def test_without_postgresql_it_is_ready_unless_that_is_the_settings_fault(
    variables: Variables, postgresql: PostgresqlServer, tmp_path: Any
) -> None:
    postgresql.process.stop()
    try:
        async with candidate(variables, tmp_path) as (session, url):
            for _ in range(breaker.FAILURES + 2):
                async with session.get(f"{url}/health/ready") as response:
                    assert response.status == 200
                    assert (await response.json())["checks"]["postgresql"]["status"] == "away"
    finally:
        postgresql.process.start()
    async with candidate({**variables, "LINKRIFT_DB_PASSWORD": "wrong"}, tmp_path) as (session, url):
        # More often than it takes until PostgreSQL is not asked any more.
        for _ in range(breaker.FAILURES + 2):
            status, errors = await ready(session, url)
            assert (status, list(errors)) == (503, ["postgresql"])


async def test_a_redis_that_is_full_of_clicks_is_emptied(
    variables: Variables, clickhouse: ClickHouseServer, redis: Redis, tmp_path: Any
) -> None:
    """It takes nothing new; a worker that starts then is ready all the same, and takes what fills it.

    What cannot be read beside that waits until there is room to keep it.
    """
    table = f"{variables['LINKRIFT_CLICKHOUSE_DATABASE']}.clicks"
    async with candidate(variables, tmp_path) as (session, url):
        assert await ready(session, url) == (200, {})  # the group is there
    await redis.xadd(CLICK_STREAM, {"events": "nothing that can be read"})
    await redis.xadd(CLICK_STREAM, {"events": encode([Click(str(uuid.uuid4()), "abc", 1)])})
    await redis.config_set("maxmemory-policy", "noeviction")
    await redis.config_set("maxmemory", "1")
    try:
        async with running("worker", variables) as worker, aiohttp.ClientSession() as session:
            assert await ready(session, worker.url) == (200, {})

            async def taken() -> bool:
                return await redis.xlen(CLICK_STREAM) == 1

            async def set_aside() -> bool:
                return await redis.xlen(CLICK_STREAM) == 0 and await redis.xlen(DEAD_CLICK_STREAM) == 1

            await eventually(taken, "the click is taken")
            await redis.config_set("maxmemory", "0")
            await eventually(set_aside, "the other one is set aside")
    finally:
        await redis.config_set("maxmemory", "0")
    assert clickhouse.execute(f"SELECT count() FROM {table}") == [(1,)]


async def test_a_worker_that_cannot_store_says_for_how_long(
    variables: Variables, clickhouse: ClickHouseServer, redis: Redis
) -> None:
    table = f"{variables['LINKRIFT_CLICKHOUSE_DATABASE']}.clicks"
    quick = {**variables, "LINKRIFT_WORKER_FLUSH_INTERVAL": "50ms"}
    async with running("worker", quick) as worker, aiohttp.ClientSession() as session:

        async def overdue() -> float:
            async with session.get(f"{worker.url}/health") as response:
                return float((await response.json())["overdue_seconds"])

        async def is_late() -> bool:
            return await overdue() >= 0.5

        async def is_not() -> bool:
            return await overdue() == 0.0

        assert await is_not()
        clickhouse.execute(f"RENAME TABLE {table} TO {table}_away")
        await redis.xadd(CLICK_STREAM, {"events": encode([Click(str(uuid.uuid4()), "abc", 1)])})
        await eventually(is_late, "the click is late")
        clickhouse.execute(f"RENAME TABLE {table}_away TO {table}")
        await eventually(is_not, "it is stored")
        assert clickhouse.execute(f"SELECT count() FROM {table}") == [(1,)]
