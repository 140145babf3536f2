"""What each service's Redis user may do, with the rights that hosts give it; and TLS to Redis and ClickHouse."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.exceptions import ConnectionError as RedisConnectionError

from app.tests.servers.conftest import default_rights
from app.tests.servers.harness import eventually
from linkrift.clickhouse import ClickHouse, ClickHouseAwayError
from linkrift.redis_client import connect
from linkrift.settings import ClickHouseSettings, RedisSettings
from tools.testing.certificates import write_server_certificate
from tools.testing.process import free_port
from tools.testing.servers import ClickHouseServer, RedisServer, redis_server


def settings_of(server: RedisServer, service: str) -> RedisSettings:
    user = f"linkrift_{service}"
    return RedisSettings(server.host, server.port, user, server.passwords[user])


NOT_FOR_SERVICES = (
    *("FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET dir", "SHUTDOWN NOSAVE", "SAVE", "MODULE LIST", "ACL LIST"),
    *("REPLICAOF NO ONE", "SORT x", "MONITOR", "EVAL return 0", "CLIENT LIST", "SCAN 0", "DEL linkrift:clicks"),
    *("SET linkrift:clicks x", "GET other:key", "PUBLISH other x", "SUBSCRIBE other"),
)


@pytest.mark.parametrize(
    ("service", "command"),
    [
        *((service, words) for service in ("api", "redirect", "worker") for words in NOT_FOR_SERVICES),
        ("redirect", "XGROUP DESTROY linkrift:clicks linkrift-worker"),
        ("api", "GET linkrift:visitors:1"),
        ("worker", "GET linkrift:visitors:1"),
        ("redirect", "XREADGROUP GROUP linkrift-worker x STREAMS linkrift:clicks >"),
        ("redirect", "XDEL linkrift:clicks 0-1"),
        ("redirect", "PUBLISH linkrift:invalidate x"),
        ("api", "XADD linkrift:clicks * events []"),
        ("api", "SUBSCRIBE linkrift:invalidate"),
        ("worker", "XGROUP DESTROY linkrift:clicks linkrift-worker"),
        ("worker", "XTRIM linkrift:clicks MAXLEN 0"),
        ("worker", "XADD linkrift:clicks * events []"),
        ("worker", "GET linkrift:link:abc"),
    ],
)
@pytest.mark.usefixtures("redis")
async def test_what_a_service_may_not(redis_process: RedisServer, service: str, command: str) -> None:
    client: Any = connect(settings_of(redis_process, service), "test")
    try:
        with pytest.raises(NoPermissionError):
            await client.execute_command(*command.split())
    finally:
        await client.aclose()


async def test_what_services_do_is_denied_nowhere(redis: Redis, redis_process: RedisServer) -> None:
    """The other tests run the services with these users; this one looks at what setting a connection up takes."""
    admin: Any = redis
    await admin.execute_command("ACL", "LOG", "RESET")
    for service in ("api", "redirect", "worker"):
        client = connect(settings_of(redis_process, service), "test")
        assert await client.ping()
        await client.aclose()
    assert await admin.execute_command("ACL", "LOG") == []


async def test_a_wrong_password(redis_process: RedisServer) -> None:
    client = connect(dataclasses.replace(settings_of(redis_process, "api"), password="wrong"), "test")
    with pytest.raises(AuthenticationError):
        await client.ping()
    await client.aclose()


async def test_what_was_done_in_a_transaction_is_there_after_a_restart(tmp_path: Path) -> None:
    """Redis reads its append-only file with the rights of the default user, with whom nobody can log in."""
    rights = default_rights()
    with redis_server(tmp_path, options={"user default": f"off {rights}"}, users={"keeper": "~* &* +@all"}) as server:
        client = connect(RedisSettings(server.host, server.port, "keeper", server.passwords["keeper"]), "test")
        stranger = connect(RedisSettings(server.host, server.port, "default", server.password), "test")
        async with client.pipeline(transaction=True) as pipeline:
            await pipeline.set("taken", "1").set("counted", "1").execute()
        server.process.stop()
        server.process.start()

        async def kept() -> bool:
            return bool(await client.ping()) and await client.mget("taken", "counted") == [b"1", b"1"]

        await eventually(kept, "both are there")
        with pytest.raises(AuthenticationError):
            await stranger.ping()
        await client.aclose()
        await stranger.aclose()


@pytest.fixture(scope="module")
def secure_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, RedisSettings]]:
    directory = tmp_path_factory.mktemp("secure-redis")
    ca, port = write_server_certificate(directory, "redis"), free_port()
    options = {
        # Its certificate is not for the second.
        "bind": "127.0.0.1 127.0.0.2",
        "tls-port": str(port),
        "tls-cert-file": str(directory / "redis.pem"),
        "tls-key-file": str(directory / "redis.key"),
        "tls-auth-clients": "no",
    }
    with redis_server(directory, options=options) as server:
        yield server, RedisSettings("localhost", port, None, server.password, tls=True, ca_file=ca)


async def test_redis_by_tls(secure_redis: tuple[RedisServer, RedisSettings], tmp_path: Path) -> None:
    _server, settings = secure_redis
    client = connect(settings, "test")
    assert await client.ping()
    await client.aclose()
    another = write_server_certificate(tmp_path, "another")
    # An authority that is not believed (ours, then none of ours), and a name that the certificate is not for.
    for wrong in ({"ca_file": another}, {"ca_file": None}, {"host": "127.0.0.2"}):
        client = connect(dataclasses.replace(settings, **wrong), "test")
        with pytest.raises(RedisConnectionError, match="certificate verify failed"):
            await client.ping()
        await client.aclose()


async def test_clickhouse_by_tls(clickhouse: ClickHouseServer, tmp_path: Path) -> None:
    settings = ClickHouseSettings(
        *("localhost", clickhouse.secure_port, clickhouse.database, clickhouse.user, clickhouse.password),
        tls=True,
        ca_file=clickhouse.ca,
    )
    client = ClickHouse(settings, threads=1, statement_timeout=5.0)
    assert await client.execute("SELECT 1") == [(1,)]
    await client.close()
    another = write_server_certificate(tmp_path, "another")
    for wrong in ({"ca_file": another}, {"ca_file": None}, {"host": "127.0.0.2"}):
        client = ClickHouse(dataclasses.replace(settings, **wrong), threads=1, statement_timeout=5.0)
        with pytest.raises(ClickHouseAwayError, match="certificate verify failed"):
            await client.execute("SELECT 1")
        await client.close()
