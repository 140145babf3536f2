"""A worker is killed at each step of storing a batch, and another one goes on: each click counts, and counts once."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app.tests.servers.harness import DEADLINE_SECONDS, MIGRATIONS, SOURCE, eventually, program, variables_of
from app.tests.servers.killed_worker import STEP
from app.tests.servers.test_programs import insert_link
from linkrift.clicks import Click, encode
from linkrift.environment import Environment
from linkrift.settings import read_clickhouse
from linkrift.worker import schema
from tools.testing.servers import ClickHouseServer, PostgresqlServer

REPOSITORY = Path(__file__).parents[3]
ENTRIES = 5
CLICKS_PER_ENTRY = 30
CLICKS = ENTRIES * CLICKS_PER_ENTRY
UNREADABLE = (json.dumps([{"id": "x", "at": 1}]), "nonsense")


@dataclass
class Stage:
    """The stores, and a link whose clicks come."""

    environment: dict[str, str]
    postgresql: PostgresqlServer
    clickhouse: ClickHouseServer
    redis: Redis
    code: str
    database: str
    log: Path

    def variables(self, slot: str, **more: str) -> dict[str, str]:
        return variables_of("worker", self.environment, self.postgresql, LINKRIFT_SLOT=slot, **more)

    async def send(self, count: int, *unreadable: str) -> None:
        """Add entries with clicks, and such that cannot be read, all at once, so that they are one batch."""
        now = int(time.time() * 1000)
        clicks = [Click(str(uuid.uuid4()), self.code, now + number) for number in range(count)]
        chunks = [clicks[start : start + CLICKS_PER_ENTRY] for start in range(0, count, CLICKS_PER_ENTRY)]
        async with self.redis.pipeline(transaction=True) as pipeline:
            for content in (*map(encode, chunks), *unreadable):
                pipeline.xadd("linkrift:clicks", {"events": content})
            await pipeline.execute()

    async def run_until_killed(self, slot: str, step: str, *unreadable: str) -> None:
        """Run a worker that is killed after a step; what it is to store may come once it runs."""
        # Nothing is counted before, unless that is the step.
        interval = "50ms" if step == "counted" else "10m"
        more = {STEP: step, "PYTHONPATH": f"{SOURCE}:{REPOSITORY}", "LINKRIFT_WORKER_COUNT_INTERVAL": interval}
        variables = self.variables(slot, **more)
        async with program("worker", variables, self.log, "app.tests.servers.killed_worker") as killed:
            if not await self.redis.exists("linkrift:clicks"):
                await killed.until_health(200)
                await self.send(CLICKS, *unreadable)
            ended = await asyncio.to_thread(killed.process.wait, DEADLINE_SECONDS)
            assert ended == -signal.SIGKILL, self.log.read_text()

    async def set_aside(self) -> list[tuple[bytes, bytes]]:
        """Return what was set aside: which entry it is from, and why."""
        entries: Any = await self.redis.xrange("linkrift:clicks:dead")
        return [(fields[b"entry"], fields[b"reason"].partition(b":")[0]) for _, fields in entries]

    def stored(self) -> tuple[int, int]:
        """Return how many rows ClickHouse has, and how many events."""
        ((rows, events),) = self.clickhouse.execute(f"SELECT count(), uniqExact(event_id) FROM {self.database}.clicks")
        return int(str(rows)), int(str(events))

    def counted(self) -> tuple[int, int]:
        """Return what PostgreSQL says: the link's clicks, and those of its months."""
        with closing(self.postgresql.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT click_count, coalesce(sum(clicks), 0)::bigint"
                " FROM links LEFT JOIN link_clicks USING (short_code) WHERE short_code = %s GROUP BY click_count",
                (self.code,),
            )
            ((links, months),) = cursor.fetchall()
        return links, months

    async def everything(self) -> tuple[int, int, int, int]:
        """Return rows in ClickHouse, entries in the stream, what was set aside, clicks in PostgreSQL."""
        rows, _ = await asyncio.to_thread(self.stored)
        links, _ = await asyncio.to_thread(self.counted)
        return rows, await self.redis.xlen("linkrift:clicks"), len(await self.set_aside()), links


@pytest.fixture
async def stage(
    environment: dict[str, str],
    postgresql: PostgresqlServer,
    clickhouse: ClickHouseServer,
    redis: Redis,
    tmp_path: Path,
) -> AsyncIterator[Stage]:
    # A database of its own: what other tests left is counted by no worker here.
    database, code = f"kills_{uuid.uuid4().hex}", f"kills-{uuid.uuid4().hex}"
    environment |= {
        "LINKRIFT_CLICKHOUSE_DATABASE": database,
        "LINKRIFT_WORKER_RECLAIM_AFTER": "200ms",
        "LINKRIFT_WORKER_COUNT_INTERVAL": "50ms",
    }
    schema.apply(read_clickhouse(Environment(environment)), schema.schema_files(MIGRATIONS / "clickhouse"))
    insert_link(postgresql, code)
    yield Stage(environment, postgresql, clickhouse, redis, code, database, tmp_path / "log")
    clickhouse.execute(f"DROP DATABASE {database}")


ALL = ENTRIES + len(UNREADABLE)
TAKEN = (0, ALL, 0, 0)
INSERTED = (CLICKS, ALL, 0, 0)
ACKNOWLEDGED = (CLICKS, len(UNREADABLE), 0, 0)
SET_ASIDE = (CLICKS, len(UNREADABLE), 2, 0)
ACKNOWLEDGED_ALL = (CLICKS, 0, 2, 0)
COUNTED = (CLICKS, 0, 0, 0)


@pytest.mark.parametrize(
    ("kills", "seen", "then", "copies"),
    [
        pytest.param([("blue", "taken")], TAKEN, "green", (1, 1), id="taken"),
        pytest.param([("blue", "inserted")], INSERTED, "green", (2, 1), id="inserted"),
        pytest.param([("blue", "inserted")], INSERTED, "blue", (2, 1), id="inserted, started again"),
        pytest.param([("blue", "acknowledged")], ACKNOWLEDGED, "green", (1, 1), id="acknowledged"),
        pytest.param([("blue", "set aside")], SET_ASIDE, "green", (1, 2), id="set aside"),
        pytest.param([("blue", "acknowledged all")], ACKNOWLEDGED_ALL, "green", (1, 1), id="acknowledged all"),
        pytest.param([("blue", "counted")], COUNTED, "blue", (1, 0), id="counted, not written down"),
        pytest.param([("blue", "taken"), ("blue", "taken up again")], TAKEN, "blue", (1, 1), id="taken up again"),
        pytest.param([("blue", "taken"), ("green", "taken over")], TAKEN, "blue", (1, 1), id="taken over"),
    ],
)
async def test_a_worker_killed_at_any_step_loses_nothing_and_counts_nothing_twice(
    stage: Stage, kills: list[tuple[str, str]], seen: tuple[int, ...], then: str, copies: tuple[int, int]
) -> None:
    """`copies`: how often ClickHouse gets a click, and how often what cannot be read is set aside; 0: there is none."""
    unreadable = UNREADABLE if copies[1] else ()
    for slot, step in kills:
        await stage.run_until_killed(slot, step, *unreadable)
    # It was at that very step.
    assert await stage.everything() == seen
    pending: Any = await stage.redis.xpending("linkrift:clicks", "linkrift-worker")
    assert pending["pending"] == seen[1]
    assert [each["name"].rpartition(b":")[0].rpartition(b":")[2].decode() for each in pending["consumers"]] == (
        [kills[-1][0]] if seen[1] else []
    )

    async with program("worker", stage.variables(then), stage.log) as worker:

        async def done() -> bool:
            everything = await stage.everything()
            return everything[1::2] == (0, CLICKS) and stage.counted() == (CLICKS, CLICKS)

        await eventually(done, f"all is stored, acknowledged and counted: {stage.log.read_text()}")
        # The copies show that it was inserted again; each is one event all the same.
        assert await asyncio.to_thread(stage.stored) == (copies[0] * CLICKS, CLICKS)
        if copies[0] > 1:
            # Nor are the copies counted later, with the next click.
            await stage.send(1)

            async def one_more() -> bool:
                return await asyncio.to_thread(stage.counted) == (CLICKS + 1, CLICKS + 1)

            await eventually(one_more, "one click more, and no other")
        worker.kill()
    aside = await stage.set_aside()
    # What is there twice says so: it is from the same entry.
    assert len(aside) == copies[1] * 2
    assert len(set(aside)) == len(unreadable)
    assert {reason for _, reason in aside} == ({b"'id' is not a UUID", b"not JSON"} if unreadable else set())
    assert (await stage.redis.xpending("linkrift:clicks", "linkrift-worker"))["pending"] == 0
