"""Clicks on real servers: none lost while Redis is away, each counted once, and what is told of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from app.tests.servers.harness import MIGRATIONS, Program, eventually, program, running, variables_of
from app.tests.servers.test_programs import insert_link
from linkrift.api.stats import Question, read_stats
from linkrift.api.tokens import Tokens
from linkrift.clickhouse import ClickHouse
from linkrift.clicks import Click, encode
from linkrift.environment import Environment
from linkrift.settings import read_clickhouse
from linkrift.worker import schema
from linkrift.worker.rows import INSERT, columns
from tools.testing.servers import ClickHouseServer, PostgresqlServer, RedisServer

OWNER = uuid.UUID("00000000-0000-0000-0000-000000000001")
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def events(redis: Redis) -> list[dict[str, Any]]:
    """Return what is in the stream."""
    entries: Any = await redis.xrange("linkrift:clicks")
    return [event for _, fields in entries for event in json.loads(fields[b"events"])]


async def follow(session: aiohttp.ClientSession, url: str, times: int = 1, **headers: str) -> None:
    for _ in range(times):
        async with session.get(url, allow_redirects=False, headers=headers) as response:
            assert response.status == 302


async def metric(session: aiohttp.ClientSession, url: str, name: str) -> float:
    async with session.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def spooled(directory: Path) -> int:
    """Return how many bytes of clicks are on the disk; a file may be sent, and gone, while this looks."""
    total = 0
    for path in directory.iterdir():
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


@asynccontextmanager
async def trouble(kind: str, redis: Redis, server: RedisServer) -> AsyncIterator[None]:
    """Have a Redis that takes no clicks."""
    commands: Any = redis
    if kind == "hangs":
        server.process.freeze()
    elif kind == "out of memory":
        await commands.config_set("maxmemory", "1")
    else:
        await commands.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        server.process.thaw()
        await commands.config_set("maxmemory", "0")
        await commands.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("kind", ["hangs", "out of memory", "read only"])
async def test_clicks_are_on_disk_while_redis_takes_none(
    environment: dict[str, str],
    postgresql: PostgresqlServer,
    redis_process: RedisServer,
    redis: Redis,
    tmp_path: Path,
    kind: str,
) -> None:
    code = f"trouble-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    variables = variables_of(
        "redirect", environment, postgresql, STATE_DIRECTORY=str(tmp_path), LINKRIFT_REDIRECT_WRITE_TIMEOUT="100ms"
    )
    async with running("redirect", variables) as redirect, aiohttp.ClientSession() as session:
        await follow(session, f"{redirect.url}/{code}")
        async with trouble(kind, redis, redis_process):
            await follow(session, f"{redirect.url}/{code}", 150)

            async def on_disk() -> bool:
                return await metric(session, redirect.url, "linkrift_click_buffer") == 0 and spooled(tmp_path) > 0

            await eventually(on_disk, "nothing is in memory only")

        async def arrived() -> bool:
            return len({event["id"] for event in await events(redis)}) == 151

        await eventually(arrived, "all clicks arrive")
        assert all(event["visitor"] for event in await events(redis))


@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_another_slot_takes_the_spool_over(
    environment: dict[str, str],
    postgresql: PostgresqlServer,
    redis_process: RedisServer,
    redis: Redis,
    tmp_path: Path,
    end: str,
) -> None:
    code = f"spool-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    spool = tmp_path / "spool"
    spool.mkdir()

    def slot(name: str) -> dict[str, str]:
        return variables_of(
            "redirect", environment, postgresql, LINKRIFT_SLOT=name, STATE_DIRECTORY=str(spool), LINKRIFT_PROCESSES="1"
        )

    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        blue: Program = await stack.enter_async_context(program("redirect", slot("blue"), tmp_path / "blue"))
        await blue.until_health(200)
        await follow(session, f"{blue.url}/{code}")
        redis_process.process.stop()
        try:
            await follow(session, f"{blue.url}/{code}", 120)
            if end == "stopped":
                # The last of them only just came.
                assert await blue.stop() == 0
            else:

                async def on_disk() -> bool:
                    return await metric(session, blue.url, "linkrift_click_buffer") == 0

                await eventually(on_disk, "nothing is in memory only")
                blue.kill()
            assert spooled(spool) > 0
        finally:
            redis_process.process.start()
        green: Program = await stack.enter_async_context(program("redirect", slot("green"), tmp_path / "green"))

        async def different() -> int:
            # One that was ended while it wrote may have written the same twice: its id counts once.
            return len({event["id"] for event in await events(redis)})

        async def arrived() -> bool:
            # The very first one was in Redis, which came back empty.
            return await different() >= 120

        await eventually(arrived, f"the other slot sends them: {green.log.read_text()}")
        assert await different() <= 121

        async def empty() -> bool:
            return spooled(spool) == 0

        await eventually(empty, "nothing is left on the disk")


def click_at(code: str, moment: int, **more: Any) -> Click:
    return Click(str(uuid.uuid4()), code, moment * 1000, **{"user_agent": FIREFOX, **more})


async def test_what_is_told_of_a_link(
    environment: dict[str, str], postgresql: PostgresqlServer, clickhouse: ClickHouseServer
) -> None:
    code = f"stats-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    settings = read_clickhouse(Environment(environment))
    schema.apply(settings, schema.schema_files(MIGRATIONS / "clickhouse"))
    # The day before yesterday: a day later is over, too, whatever the time is now.
    noon = int(time.time()) // 86_400 * 86_400 - 129_600
    clicks = [
        click_at(code, noon, visitor="1" * 16, country="AT", referrer_host="a.example"),
        click_at(code, noon + 60, visitor="1" * 16, country="AT"),
        click_at(code, noon + 3600, visitor="2" * 16, country="DE"),
        click_at(code, noon + 3700, user_agent="curl/8.5.0", visitor="3" * 16),
        click_at(code, noon + 86_400, visitor="4" * 16, user_agent=""),
        click_at(f"{code}-other", noon),
    ]
    store = ClickHouse(settings, threads=1, statement_timeout=10.0)
    for _ in range(2):
        await store.insert(INSERT, columns(clicks))
    # From the release before, which knows less of a click.
    old = f"toUUID('{uuid.uuid4()}'), '{code}', toDateTime({noon + 7200})"
    clickhouse.execute(f"INSERT INTO clicks (event_id, code, clicked_at) SELECT {old}")
    await store.close()
    token = Tokens(environment["LINKRIFT_JWT_SECRET"], "", 60.0).issue(OWNER)
    query = {
        "interval": "hour",
        "from": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(noon)),
        "to": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(noon + 3 * 3600)),
        "by": "country,referrer,browser,os,device",
    }
    async with (
        running("api", variables_of("api", environment, postgresql)) as api,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
    ):

        async def ask(**query: str) -> dict[str, Any]:
            async with session.get(f"{api.url}/api/v1/links/{code}/stats", params=query) as response:
                assert response.status == 200, await response.text()
                return dict(await response.json())

        # With each event there twice, and when ClickHouse has thrown the copies away.
        for merged in (False, True):
            if merged:
                clickhouse.execute("OPTIMIZE TABLE clicks FINAL")
            whole = await ask()
            assert (whole["clicks"], whole["bots"], whole["visitors"]) == (6, 1, 3)
            assert whole["series"] is whole["breakdowns"] is None
            some = await ask(**query)
            assert (some["clicks"], some["bots"], some["visitors"]) == (5, 1, 2)
            assert [(point["clicks"], point["bots"], point["visitors"]) for point in some["series"]] == [
                *((2, 0, 1), (2, 1, 1), (1, 0, 0))
            ]
            shares = {
                name: {share["value"]: share["clicks"] for share in shares}
                for name, shares in some["breakdowns"].items()
            }
            assert shares == {
                "country": {"AT": 2, "DE": 1, "": 1},
                "referrer": {"": 3, "a.example": 1},
                "browser": {"Firefox": 3, "": 1},
                "os": {"Linux": 3, "": 1},
                "device": {"desktop": 3, "": 1},
            }
        async with session.get(f"{api.url}/api/v1/links/{code}/stats", params={"by": "address"}) as response:
            assert response.status == 400


async def test_an_api_that_is_newer_than_the_schema_counts_all_the_same(
    environment: dict[str, str], clickhouse: ClickHouseServer
) -> None:
    database = f"old_{uuid.uuid4().hex}"
    settings = read_clickhouse(Environment(environment | {"LINKRIFT_CLICKHOUSE_DATABASE": database}))
    schema.apply(settings, schema.schema_files(MIGRATIONS / "clickhouse")[:1])
    store = ClickHouse(settings, threads=1, statement_timeout=10.0)
    clickhouse.execute(
        f"INSERT INTO {database}.clicks (event_id, code, clicked_at)"
        " SELECT generateUUIDv4(), 'abc', toDateTime(1790000000 + number) FROM numbers(3)"
    )
    told = await read_stats(store, "abc", Question(0, 1_790_000_002, 3600, ("country",)))
    assert (told.clicks, told.bots, told.series) == (2, 0, None)
    await store.close()


async def test_many_clicks_of_one_process_are_counted_in_time(
    environment: dict[str, str], clickhouse: ClickHouseServer
) -> None:
    # A database of its own: so many rows keep ClickHouse busy with their merges.
    database, code = f"hot_{uuid.uuid4().hex}", "hot"
    settings = read_clickhouse(Environment(environment | {"LINKRIFT_CLICKHOUSE_DATABASE": database}))
    schema.apply(settings, schema.schema_files(MIGRATIONS / "clickhouse"))
    # Ids as a redirect process makes them: their first half is the same.
    clickhouse.execute(
        f"INSERT INTO {database}.clicks (event_id, code, clicked_at)"
        f" SELECT toUUID(concat('a45c1fca-be74-8bf4-b9c4-', toString(100000000000 + number))), '{code}',"
        " toDateTime(1790000000) FROM numbers(300000)"
    )
    # Otherwise it takes a minute, and the API gives up.
    store = ClickHouse(settings, threads=1, statement_timeout=10.0)
    told = await read_stats(store, code, Question(1_790_000_000, 1_790_000_001, 3600, ()))
    assert told.clicks == 300_000
    clickhouse.execute(f"INSERT INTO {database}.clicks SELECT * FROM {database}.clicks LIMIT 1000")
    told = await read_stats(store, code, Question(1_790_000_000, 1_790_000_001, 3600, ()))
    assert (told.clicks, (told.series or [])[0].clicks) == (300_000, 300_000)
    await store.close()
    clickhouse.execute(f"DROP DATABASE {database}")


def click_count(postgresql: PostgresqlServer, code: str) -> int:
    with closing(postgresql.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT click_count FROM links WHERE short_code = %s", (code,))
        row = cursor.fetchone()
    assert row is not None
    return int(row[0])


async def test_counts_come_back_to_the_links(
    environment: dict[str, str], postgresql: PostgresqlServer, clickhouse: ClickHouseServer, redis: Redis
) -> None:
    code = f"count-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    schema.apply(read_clickhouse(Environment(environment)), schema.schema_files(MIGRATIONS / "clickhouse"))
    now = int(time.time())
    long_ago = [click_at(code, now - 100 * 86_400) for _ in range(2)]
    today = [click_at(code, now) for _ in range(3)]
    nobodys = click_at(f"{code}-nobodys", now)

    def counted(expected: int) -> Callable[[], Awaitable[bool]]:
        async def holds() -> bool:
            return await asyncio.to_thread(click_count, postgresql, code) == expected

        return holds

    variables = variables_of("worker", environment, postgresql, LINKRIFT_WORKER_COUNT_INTERVAL="50ms")
    async with running("worker", variables):
        await redis.xadd("linkrift:clicks", {"events": encode([*long_ago, *today, nobodys])})
        await eventually(counted(5), "the clicks of both months are added up")
        # What comes twice is no more; a month that ClickHouse no longer has stays counted.
        await redis.xadd("linkrift:clicks", {"events": encode(today)})
        month = time.strftime("%Y%m", time.gmtime(now - 100 * 86_400))
        clickhouse.execute(f"ALTER TABLE clicks DROP PARTITION {month}")
        await redis.xadd("linkrift:clicks", {"events": encode([click_at(code, now)])})
        await eventually(counted(6), "one more")


async def test_the_schema_bears_being_applied_again(environment: dict[str, str], clickhouse: ClickHouseServer) -> None:
    """A worker that died after a statement, before it could note it."""
    settings = read_clickhouse(Environment(environment))
    files = schema.schema_files(MIGRATIONS / "clickhouse")
    schema.apply(settings, files)
    clickhouse.execute("DROP TABLE schema_migrations")
    assert schema.apply(settings, files) == [file.number for file in files]


async def test_the_lag_grows_while_clicks_wait_and_is_gone_when_they_are_stored(
    environment: dict[str, str],
    postgresql: PostgresqlServer,
    clickhouse: ClickHouseServer,
    redis: Redis,
    tmp_path: Path,
) -> None:
    code = f"lag-{uuid.uuid4().hex}"
    schema.apply(read_clickhouse(Environment(environment)), schema.schema_files(MIGRATIONS / "clickhouse"))
    admission = tmp_path / "admitted"
    # Two processes: each tells the whole queue, which is not to be added up.
    variables = variables_of(
        "worker", environment, postgresql, LINKRIFT_ADMISSION_FILE=str(admission), LINKRIFT_PROCESSES="2"
    )
    async with program("worker", variables, tmp_path / "log") as worker, aiohttp.ClientSession() as session:

        async def shown() -> tuple[float, float]:
            lag = await metric(session, worker.url, "linkrift_click_lag_seconds")
            return lag, await metric(session, worker.url, 'job_queue_length{queue="clicks"}')

        async def until_it_grows(length: int) -> None:
            """Wait until the oldest click is older than it was, and about as old as it is: a look takes a second."""
            seen, _ = await shown()

            async def grown() -> bool:
                lag, entries = await shown()
                return lag > seen and entries == length and abs(lag - (time.time() - added)) < 3.0

            await eventually(grown, f"it was {seen}, and grows")

        await worker.until_health(404)
        assert await shown() == (0.0, 0.0)
        # The oldest of them an hour ago: no test has to wait until a lag is long.
        added = int(time.time()) - 3600
        for moment in (added, added + 60, added + 120):
            await redis.xadd("linkrift:clicks", {"events": encode([click_at(code, moment)])}, id=f"{moment * 1000}-1")
        # Seen, and growing: while it is not admitted, and once it is, while ClickHouse is away.
        await until_it_grows(3)
        await until_it_grows(3)
        clickhouse.process.stop()
        try:
            admission.touch()
            await worker.until_health(200)
            await until_it_grows(3)
            # What a process told that is no more is not told for ever.
            for pid in worker.children():
                os.kill(pid, signal.SIGKILL)
            await worker.until_health(200)
            await until_it_grows(3)
        finally:
            clickhouse.process.start()

        async def gone() -> bool:
            return await shown() == (0.0, 0.0)

        await eventually(gone, f"nothing waits: {worker.log.read_text()}")
        assert clickhouse.execute(f"SELECT uniqExact(event_id) FROM clicks WHERE code = '{code}'") == [(3,)]
        worker.kill()
