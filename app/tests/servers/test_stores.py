"""How the services use the stores: the stream, the schema, TLS, the roles' rights, outages."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import aiohttp
import psycopg2
import pytest
from redis.asyncio import Redis

from app.tests.servers.harness import MIGRATIONS, eventually, running, variables_of
from app.tests.servers.test_programs import insert_link
from linkrift.clickhouse import ClickHouse, ClickHouseAwayError
from linkrift.clicks import Click, encode
from linkrift.environment import Environment
from linkrift.postgres import Database, DatabaseAwayError
from linkrift.settings import ClickHouseSettings, DatabaseSettings, read_clickhouse, read_database
from linkrift.worker import schema
from linkrift.worker.queue import ClickQueue
from linkrift.worker.rows import COLUMNS, INSERT, columns
from tools.testing.certificates import write_server_certificate
from tools.testing.process import free_port
from tools.testing.servers import ClickHouseServer, PostgresqlServer, RedisServer


def click(code: str = "abc") -> Click:
    return Click(str(uuid.uuid4()), code, 1_790_000_000_000)


async def test_what_a_dead_consumer_took_is_taken_over(redis: Redis) -> None:
    dead, alive = ClickQueue(redis, "dead"), ClickQueue(redis, "alive")
    await dead.open()
    await alive.open()
    for _ in range(3):
        await redis.xadd("linkrift:clicks", {"events": encode([click()])})
    assert len(await dead.read(2, 0.01)) == 2
    assert await alive.reclaim(60.0, 10) == []
    claimed = await alive.reclaim(0.0, 10)
    assert len(claimed) == 2
    assert await alive.reclaim(0.0, 10) == [], "what is its own it does not take over"
    assert await alive.read_own(10, b"0") == claimed
    await alive.acknowledge(claimed)
    assert await redis.xlen("linkrift:clicks") == await alive.length() == 1
    assert await alive.oldest_ms() is not None
    assert (await redis.xpending("linkrift:clicks", "linkrift-worker"))["pending"] == 0


async def test_an_entry_that_was_deleted_meanwhile_is_no_trouble(redis: Redis) -> None:
    queue = ClickQueue(redis, "one")
    await queue.open()
    entry_id = await redis.xadd("linkrift:clicks", {"events": encode([click()])})
    (taken,) = await queue.read(10, 0.01)
    await redis.xdel("linkrift:clicks", entry_id)
    assert await ClickQueue(redis, "two").reclaim(0.0, 10) == []
    for own in await queue.read_own(10, b"0"):
        assert own.clicks == []
    await queue.acknowledge([taken])


async def test_poison_is_set_aside_with_its_reason(redis: Redis) -> None:
    queue = ClickQueue(redis, "one")
    await queue.open()
    good = click()
    await redis.xadd("linkrift:clicks", {"events": json.dumps([good.document(), {"id": "x", "at": 1}])})
    await redis.xadd("linkrift:clicks", {"something": b"\xff"})
    entries = await queue.read(10, 0.01)
    assert [entry.clicks for entry in entries] == [[good], []]
    assert await queue.set_aside(entries) == 2
    await queue.acknowledge(entries)
    dead = await redis.xrange("linkrift:clicks:dead")
    assert dead is not None
    reasons = [fields[b"reason"] for _, fields in dead if fields]
    assert reasons == [b"'id' is not a UUID", b"no field 'events'"]


async def test_the_worker_goes_on_after_poison_and_a_flushed_redis(
    environment: dict[str, str], postgresql: PostgresqlServer, clickhouse: ClickHouseServer, redis: Redis
) -> None:
    code = f"poison-{uuid.uuid4().hex}"
    variables = variables_of("worker", environment, postgresql)
    schema.apply(clickhouse_settings(environment), schema.schema_files(MIGRATIONS / "clickhouse"))

    def counted() -> object:
        return clickhouse.execute(f"SELECT uniqExact(event_id) FROM clicks WHERE code = '{code}'")[0][0]

    async def one() -> bool:
        return await asyncio.to_thread(counted) == 1

    async def two() -> bool:
        return await asyncio.to_thread(counted) == 2

    async def aside() -> bool:
        return bool(await redis.xlen("linkrift:clicks:dead") == 1)

    async with running("worker", variables) as worker, aiohttp.ClientSession() as session:
        await redis.xadd("linkrift:clicks", {"events": "nonsense"})
        await redis.xadd("linkrift:clicks", {"events": encode([click(code)])})
        await eventually(one, "the good event is counted")
        # After the good ones, which make room where Redis is full.
        await eventually(aside, "the poison is set aside")
        await redis.flushall()
        await redis.xadd("linkrift:clicks", {"events": encode([click(code)])})
        await eventually(two, "the consumer group is made again")
        async with session.get(f"{worker.url}/metrics") as response:
            text = await response.text()
        assert "linkrift_click_lag_seconds" in text
        assert 'job_queue_length{queue="clicks"}' in text
        async with session.get(f"{worker.url}/") as response:
            assert response.status == 404


def clickhouse_settings(environment: dict[str, str]) -> ClickHouseSettings:
    return read_clickhouse(Environment(environment))


async def test_an_event_that_is_inserted_twice_counts_once(
    environment: dict[str, str], clickhouse: ClickHouseServer
) -> None:
    settings = clickhouse_settings(environment)
    schema.apply(settings, schema.schema_files(MIGRATIONS / "clickhouse"))
    store = ClickHouse(settings, threads=2, statement_timeout=10.0)
    code = f"twice-{uuid.uuid4().hex}"
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) ä Gecko/20100101 Firefox/140.0"
    visitor = "ffffffffffffffff"
    one = Click(
        *(str(uuid.uuid4()), code, 1_790_000_000_123, "r", "a.example", agent, "198.51.100.0"), visitor, country="AT"
    )
    for _ in range(2):
        await store.insert(INSERT, columns([one, one]))
    assert await store.execute("SELECT uniqExact(event_id) FROM clicks WHERE code = %(code)s", {"code": code}) == [(1,)]
    clickhouse.execute("OPTIMIZE TABLE clicks FINAL")
    names = ", ".join(COLUMNS).replace("clicked_at", "toUInt32(clicked_at)")
    (row,) = await store.execute(f"SELECT {names} FROM clicks WHERE code = %(code)s", {"code": code})
    seen = (code, 1_790_000_000, "r", "a.example", agent, "198.51.100.0")
    assert row[1:] == (*seen, 2**64 - 1, "AT", "Firefox", "Linux", "desktop", 0)
    await store.close()


async def test_clickhouse_may_go_and_come(environment: dict[str, str], clickhouse: ClickHouseServer) -> None:
    store = ClickHouse(clickhouse_settings(environment), threads=1, statement_timeout=10.0)
    assert await store.execute("SELECT 1") == [(1,)]
    clickhouse.process.stop()
    try:
        with pytest.raises(ClickHouseAwayError):
            await store.execute("SELECT 1")
    finally:
        clickhouse.process.start()
    assert await store.execute("SELECT 1") == [(1,)]
    with pytest.raises(ClickHouseAwayError) as caught:
        await store.execute("SELECT nothing FROM nowhere")
    assert "\n" not in str(caught.value)
    assert await store.execute("SELECT 1") == [(1,)]
    await store.close()


def test_the_schema_is_made_from_nothing_and_only_once(
    environment: dict[str, str], clickhouse: ClickHouseServer, tmp_path: Path
) -> None:
    settings = ClickHouseSettings(
        clickhouse.host, clickhouse.port, f"new_{uuid.uuid4().hex}", clickhouse.user, clickhouse.password
    )
    files = schema.schema_files(MIGRATIONS / "clickhouse")
    assert schema.apply(settings, files) == [file.number for file in files]
    assert schema.apply(settings, files) == []
    (tmp_path / "999999_more.sql").write_text("CREATE TABLE more (a UInt8) ENGINE = Memory;\nSELECT 1\n")
    assert schema.apply(settings, files + schema.schema_files(tmp_path)) == [999999]
    (tmp_path / "999999_more.sql").rename(tmp_path / "999998_broken.sql")
    (tmp_path / "999998_broken.sql").write_text("CREATE NONSENSE")
    with pytest.raises(ClickHouseAwayError, match="Syntax error"):
        schema.apply(settings, schema.schema_files(tmp_path))
    nobody = ClickHouseSettings(settings.host, settings.port, settings.database, "nobody", "made up")
    with pytest.raises(ClickHouseAwayError):
        schema.apply(nobody, files)


def database_settings(variables: dict[str, str], **more: str) -> DatabaseSettings:
    return read_database(Environment(variables | more), connections=4, idle=2, command_timeout=2.0)


async def test_the_database_proves_who_it_is(
    environment: dict[str, str], postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    variables = variables_of("api", environment, postgresql)
    stranger = write_server_certificate(tmp_path, "stranger")
    for more, fine in (
        ({}, True),
        ({"LINKRIFT_DB_SSL_ROOT_CERT": str(stranger)}, False),
        ({"LINKRIFT_DB_SSL_MODE": "require", "LINKRIFT_DB_SSL_ROOT_CERT": ""}, True),
        ({"LINKRIFT_DB_PASSWORD": "wrong"}, False),
    ):
        database = Database(database_settings(variables, **more), "test")
        await database.open()
        if fine:
            await database.check()
        else:
            with pytest.raises(DatabaseAwayError):
                await database.check()
        await database.close()
    with pytest.raises(DatabaseAwayError, match="not connected yet"):
        await database.check()


async def test_the_pool_is_bounded(environment: dict[str, str], postgresql: PostgresqlServer) -> None:
    variables = variables_of("api", environment, postgresql, LINKRIFT_DB_MAX_CONNECTIONS="2")
    settings = database_settings(variables)
    database = Database(settings, "linkrift-test-pool")
    await database.open()
    async with database.connection("a") as one, database.connection("b"):
        shown = await one.fetch(
            "SELECT application_name, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE application_name = 'linkrift-test-pool'"
        )
        assert [tuple(row) for row in shown] == [("linkrift-test-pool", True)] * 2
        with pytest.raises(DatabaseAwayError, match="all connections are in use"):
            async with database.connection("c"):
                pass
    with pytest.raises(DatabaseAwayError, match=r"(?i)timeout"):
        async with database.connection("slow") as connection:
            await connection.execute("SELECT pg_sleep(10)")
    await database.check()
    database.refresh_metrics()
    await database.close()


def test_each_role_may_do_what_it_needs_and_no_more(postgresql: PostgresqlServer) -> None:
    code = f"rights-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    for role, statement, allowed in (
        ("linkrift_redirect", f"SELECT original_url FROM links WHERE short_code = '{code}'", True),
        ("linkrift_redirect", "UPDATE links SET title = 'x'", False),
        ("linkrift_redirect", "SELECT * FROM users", False),
        ("linkrift_worker", f"UPDATE links SET click_count = click_count + 1 WHERE short_code = '{code}'", True),
        ("linkrift_worker", "UPDATE links SET original_url = 'https://evil.example'", False),
        ("linkrift_worker", "SELECT * FROM users", False),
        ("linkrift_worker", "SELECT * FROM link_clicks", True),
        ("linkrift_worker", "DELETE FROM link_clicks", False),
        ("linkrift_redirect", "SELECT * FROM link_clicks", False),
        ("linkrift_api", f"UPDATE links SET title = 'x' WHERE short_code = '{code}'", True),
        ("linkrift_api", "DROP TABLE links", False),
    ):
        # A role whose transactions are read-only by default may begin others: its rights are what counts.
        writing = f"BEGIN READ WRITE; {statement}; COMMIT"
        if allowed:
            postgresql.execute(writing, role)
        else:
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                postgresql.execute(writing, role)


def test_only_what_the_owner_changed_is_a_new_version(postgresql: PostgresqlServer) -> None:
    code = f"version-{uuid.uuid4().hex}"
    insert_link(postgresql, code)

    def version() -> tuple[int, bool]:
        with postgresql.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT version, updated_at > created_at FROM links WHERE short_code = %s", (code,))
            row = cursor.fetchone()
        connection.close()
        assert row is not None
        return row[0], row[1]

    postgresql.execute(f"UPDATE links SET click_count = 5 WHERE short_code = '{code}'")
    assert version() == (1, False)
    postgresql.execute(f"UPDATE links SET is_active = false WHERE short_code = '{code}'")
    assert version() == (2, True)


def test_the_migrations_can_be_taken_back(postgresql: PostgresqlServer) -> None:
    """Applied and reverted in a database of their own, without the roles of the first one having a say."""
    name = f"migrations_{uuid.uuid4().hex}"
    postgresql.execute(f"CREATE DATABASE {name} OWNER linkrift_owner", "postgres", "postgres")
    ups = sorted((MIGRATIONS / "postgresql").glob("*.up.sql"))
    for _ in range(2):
        for path in ups:
            header = path.read_text().partition("\n")[0]
            assert header.startswith(("-- linkrift: expand", "-- linkrift: contract oldest=")), path.name
            postgresql.execute(path.read_text(), database=name)
        for path in reversed(ups):
            down = path.with_name(path.name.replace(".up.sql", ".down.sql"))
            postgresql.execute(down.read_text(), database=name)


async def test_links_known_to_a_process_outlive_the_stores(
    environment: dict[str, str], postgresql: PostgresqlServer, redis_process: RedisServer, redis: Redis
) -> None:
    code = f"outage-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    variables = variables_of("redirect", environment, postgresql)
    async with running("redirect", variables) as redirect, aiohttp.ClientSession() as session:

        async def follow(path: str) -> int:
            async with session.get(f"{redirect.url}/{path}", allow_redirects=False) as response:
                return response.status

        assert await follow(code) == 302
        redis_process.process.stop()
        postgresql.process.stop()
        try:
            assert await follow(code) == 302
            assert await follow(f"{code}-unknown") == 503
        finally:
            postgresql.process.start()
        assert await follow(f"{code}-unknown") == 404
        redis_process.process.start()

        async def arrived() -> bool:
            entries = await redis.xrange("linkrift:clicks")
            return sum(str(fields).count('"id"') for _, fields in entries or []) == 2

        await eventually(arrived, "the clicks of the outage arrive")

        async def told() -> bool:
            return bool(redirect.service._cache.told)  # type: ignore[attr-defined] # whether messages reach it

        await eventually(told, "it hears of changed links again")


async def test_nothing_listens_there(environment: dict[str, str]) -> None:
    settings = clickhouse_settings(environment | {"LINKRIFT_CLICKHOUSE_PORT": str(free_port())})
    with pytest.raises(ClickHouseAwayError):
        schema.apply(settings, schema.schema_files(MIGRATIONS / "clickhouse"))
