"""Servers for this directory's tests: started once for all of them, emptied before each."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from argon2 import PasswordHasher
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.tests.servers.clients import Client
from app.tests.servers.harness import MIGRATIONS, running, variables_of
from tools.testing.process import find_program
from tools.testing.servers import (
    ClickHouseServer,
    PostgresqlServer,
    RedisServer,
    clickhouse_server,
    postgresql_server,
    redis_server,
)
from tools.testing.templating import render, role_variables


def redis_rights() -> dict[str, str]:
    """Return the rights that the platform's hosts give each service."""
    rights = _of_role("{{ __redis_rights }}")
    return {f"linkrift_{service}": str(words) for service, words in rights.items()}


def default_rights() -> str:
    """Return what they give the default user, who is off."""
    return str(_of_role("{{ __redis_default_rights }}"))


def _of_role(text: str) -> Any:
    version = subprocess.run(
        [find_program("redis-server", "redis-server"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    return render(text, role_variables("redis", __redis_program={"stdout": version}))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresqlServer]:
    with postgresql_server(tmp_path_factory.mktemp("postgresql")) as server:
        for path in sorted((MIGRATIONS / "postgresql").glob("*.up.sql")):
            server.execute(path.read_text())
        yield server


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis"), users=redis_rights()) as server:
        yield server


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    with clickhouse_server(tmp_path_factory.mktemp("clickhouse")) as server:
        yield server


@pytest.fixture
async def redis(redis_process: RedisServer) -> AsyncIterator[Redis]:
    """A client of an empty Redis."""
    # A test that restarts the server must not find a connection that is gone.
    client = Redis.from_url(redis_process.url, retry=Retry(NoBackoff(), 2))
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def environment(
    postgresql: PostgresqlServer, redis_process: RedisServer, clickhouse: ClickHouseServer, redis: Redis
) -> dict[str, str]:
    """What a service needs to find the servers; users and passwords differ from service to service (`variables_of`)."""
    return {
        "LINKRIFT_ENV": "test",
        "LINKRIFT_DB_HOST": postgresql.host,
        "LINKRIFT_DB_PORT": str(postgresql.port),
        "LINKRIFT_DB_NAME": postgresql.database,
        "LINKRIFT_DB_SSL_MODE": "verify-full",
        "LINKRIFT_DB_SSL_ROOT_CERT": str(postgresql.ca),
        "LINKRIFT_REDIS_URL": f"redis://{redis_process.host}:{redis_process.port}/0",
        **{f"REDIS_PASSWORD_{user}": password for user, password in redis_process.passwords.items()},
        "LINKRIFT_CLICKHOUSE_HOST": clickhouse.host,
        "LINKRIFT_CLICKHOUSE_PORT": str(clickhouse.port),
        "LINKRIFT_CLICKHOUSE_DATABASE": clickhouse.database,
        "LINKRIFT_CLICKHOUSE_USER": clickhouse.user,
        "LINKRIFT_CLICKHOUSE_PASSWORD": clickhouse.password,
        "LINKRIFT_JWT_SECRET": "made-up-secret-for-tests-0123456789abcdef",
        "LINKRIFT_PUBLIC_URL": "https://go.example.test",
        "LINKRIFT_WORKER_FLUSH_INTERVAL": "100ms",
        "LINKRIFT_SHUTDOWN_TIMEOUT": "10s",
    }


@pytest.fixture
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing one takes a good part of a second and 64 MiB, as it should, except in tests of other things."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr("linkrift.api.passwords.PasswordHasher", lambda: cheap)


@pytest.fixture
async def anybody(
    environment: dict[str, str], postgresql: PostgresqlServer, cheap_passwords: None
) -> AsyncIterator[Client]:
    async with running("api", variables_of("api", environment, postgresql)) as api, aiohttp.ClientSession() as session:
        yield Client(session, api.url, api)


@pytest.fixture
async def owner(anybody: Client) -> Client:
    return await anybody.register()
