"""Links from a real replica of PostgreSQL: one that is behind, one that is away, and one that is all there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager

import aiohttp
import pytest
from redis.asyncio import Redis

from app.tests.servers.harness import eventually, running, variables_of
from app.tests.servers.test_redirect_outages import Site, failures
from tools.testing.servers import PostgresqlServer, postgresql_replica


@pytest.fixture(scope="module")
def replica(postgresql: PostgresqlServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresqlServer]:
    with postgresql_replica(tmp_path_factory.mktemp("replica"), postgresql) as server:
        yield server


@pytest.fixture
async def site(
    environment: dict[str, str], postgresql: PostgresqlServer, replica: PostgresqlServer
) -> AsyncIterator[Site]:
    hosts = f"{replica.host}:{replica.port}"
    variables = variables_of("redirect", environment, postgresql, LINKRIFT_DB_REPLICA_HOSTS=hosts)
    async with running("redirect", variables) as redirect, aiohttp.ClientSession() as session:
        yield Site(redirect, session, postgresql)


def ask(server: PostgresqlServer, question: str) -> object:
    with closing(server.connect("postgres")) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        row = cursor.fetchone()
        assert row is not None
        return row[0]


async def until_it_follows(replica: PostgresqlServer, primary: PostgresqlServer) -> None:
    """Wait until a replica has all that the primary has now."""
    place = ask(primary, "SELECT pg_current_wal_insert_lsn()")

    async def there() -> bool:
        return bool(ask(replica, f"SELECT pg_last_wal_replay_lsn() >= '{place}'"))

    await eventually(there, "the replica has what the primary has")


@contextmanager
def behind(replica: PostgresqlServer) -> Iterator[None]:
    """Let a replica take over nothing more."""
    replica.execute("SELECT pg_wal_replay_pause()", "postgres")
    try:
        yield
    finally:
        replica.execute("SELECT pg_wal_replay_resume()", "postgres")


async def until_it_stands_still(replica: PostgresqlServer) -> None:
    async def still() -> bool:
        return ask(replica, "SELECT pg_get_wal_replay_pause_state()") == "paused"

    await eventually(still, "the replica takes over nothing more")


async def test_a_replica_that_is_behind(site: Site, replica: PostgresqlServer, redis: Redis) -> None:
    changed, deleted = site.make_link(), site.make_link()
    await until_it_follows(replica, site.postgresql)
    with behind(replica):
        await until_it_stands_still(replica)
        assert await site.leads(changed)
        assert await site.leads(deleted)
        # It is the replica that was asked: the primary has been at work, and Redis has nothing to say.
        site.postgresql.execute(
            f"UPDATE links SET original_url = 'https://new.example/' WHERE short_code = '{changed}';"
            f"UPDATE links SET deleted_at = now() WHERE short_code = '{deleted}'"
        )
        old = f"SELECT count(*) FROM links WHERE short_code IN ('{changed}', '{deleted}') AND version = 1"
        assert ask(replica, old) == 2

        async def told() -> bool:
            moved = await site.follow(changed) == (302, "https://new.example/")
            return moved and await site.follow(deleted) == (410, None)

        await eventually(told, "both changes are known")
        for _ in range(3):
            # Nothing but the replica's old copy stands between the visitor and the primary.
            await redis.flushall()
            site.forget(changed, deleted)
            assert await told()
        assert await site.leads(site.make_link()), "what it lacks the primary has"
    assert failures("postgresql-replica-1") == 0


async def test_without_the_primary_the_replica_answers(site: Site, replica: PostgresqlServer, redis: Redis) -> None:
    code = site.make_link()
    await until_it_follows(replica, site.postgresql)
    site.postgresql.process.stop()
    try:
        assert await site.leads(code)
        assert await site.follow("nothing-here") == (404, None)
    finally:
        site.postgresql.process.start()
    await site.until_asked_again("postgresql")


async def test_without_the_replica_the_primary_answers(site: Site, replica: PostgresqlServer) -> None:
    before = failures("postgresql-replica-1")
    replica.process.stop()
    try:
        for _ in range(5):
            assert await site.leads(site.make_link())
    finally:
        replica.process.start()
    assert failures("postgresql-replica-1") > before
