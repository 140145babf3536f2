"""Links whose rows somebody deletes in the database: no message tells of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from redis.asyncio import Redis

from app.tests.servers.harness import MIGRATIONS, eventually
from app.tests.servers.test_programs import insert_link
from app.tests.servers.test_redirect_outages import Site, site
from tools.testing.servers import PostgresqlServer

__all__ = ["site"]


def rows(postgresql: PostgresqlServer, question: str) -> list[tuple[object, ...]]:
    with closing(postgresql.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchall()


async def test_a_deleted_row_is_gone_and_its_code_may_come_back(site: Site, redis: Redis) -> None:
    code, other = await site.known_links(2)

    async def kept() -> bool:
        return bool(await redis.exists(f"linkrift:link:{code}"))

    await eventually(kept, "Redis has the link")
    # As who has the right to, and none in the table where it is noted.
    site.postgresql.execute(f"DELETE FROM links WHERE short_code = '{code}'", "linkrift_api")

    async def gone() -> bool:
        return await site.follow(code) == (404, None)

    await eventually(gone, "the deleted link is not there")
    assert await kept(), "Redis still has it, and is not believed"
    assert await site.leads(other)

    target = "https://again.example/"
    site.postgresql.execute(
        "INSERT INTO links (user_id, short_code, original_url) VALUES "
        f"('00000000-0000-0000-0000-000000000001', '{code}', '{target}')",
        "linkrift_api",
    )

    async def leads() -> bool:
        return await site.follow(code) == (302, target)

    await eventually(leads, "the new link of that code")
    target = "https://changed.example/"
    site.postgresql.execute(f"UPDATE links SET original_url = '{target}' WHERE short_code = '{code}'")
    await eventually(leads, "its change")


@pytest.fixture
def canary_comes_back(postgresql: PostgresqlServer) -> Iterator[None]:
    """Has what the migrations put there once it was taken away: other tests ask for it."""
    yield
    postgresql.execute((MIGRATIONS / "postgresql/000004_canary.up.sql").read_text())


@pytest.mark.usefixtures("canary_comes_back")
async def test_emptied_tables_are_noticed(site: Site) -> None:
    first, again, changed = await site.known_links(3)
    site.postgresql.execute(f"UPDATE links SET title = 'changed' WHERE short_code = '{changed}'")
    site.postgresql.execute(f"DELETE FROM links WHERE short_code = '{again}'")
    insert_link(site.postgresql, again)
    site.postgresql.execute("TRUNCATE links CASCADE")

    async def gone() -> bool:
        return [await site.follow(code) for code in (first, again, changed)] == [(404, None)] * 3

    await eventually(gone, "no link is there")
    for code, version in ((first, 2), (changed, 3), (again, 4)):
        noted = f"SELECT version FROM deleted_links WHERE short_code = '{code}'"
        assert rows(site.postgresql, noted) == [(version,)], "above the last one that the link had"

    insert_link(site.postgresql, first)
    await eventually(lambda: site.leads(first), "it is made anew")
    # With the account that it belongs to.
    site.postgresql.execute("TRUNCATE users CASCADE")

    async def gone_again() -> bool:
        return await site.follow(first) == (404, None)

    await eventually(gone_again, "its owner is gone, too")


@pytest.mark.parametrize("otherwise", ["", "ON CONFLICT (short_code) DO NOTHING"], ids=["plain", "as the API does"])
async def test_a_code_made_anew_while_its_deletion_is_not_committed(
    postgresql: PostgresqlServer, otherwise: str
) -> None:
    code = f"made-anew-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    postgresql.execute(f"UPDATE links SET title = 'changed' WHERE short_code = '{code}'")
    statement = (
        "INSERT INTO links (user_id, short_code, original_url) VALUES "
        f"('00000000-0000-0000-0000-000000000001', '{code}', 'https://again.example/') {otherwise}"
    )
    with closing(postgresql.connect()) as deleting, deleting.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"DELETE FROM links WHERE short_code = '{code}'")
        waiting = (
            f"SELECT 1 FROM pg_locks WHERE NOT granted AND {deleting.info.backend_pid} = ANY (pg_blocking_pids(pid))"
        )
        # As who has the right to, and none in the table where the deletion is noted.
        making = asyncio.create_task(asyncio.to_thread(postgresql.execute, statement, "linkrift_api"))

        async def waits() -> bool:
            return rows(postgresql, waiting) == [(1,)]

        await eventually(waits, "the insert waits for the deletion")
        cursor.execute("COMMIT")
    await making
    made = f"SELECT version, original_url FROM links WHERE short_code = '{code}'"
    noted = f"SELECT version FROM deleted_links WHERE short_code = '{code}'"
    assert rows(postgresql, noted) == [(3,)]
    assert rows(postgresql, made) == [(4, "https://again.example/")], "above every copy of the old one"


def test_what_is_noted_is_pruned_and_nobodys_to_change(postgresql: PostgresqlServer) -> None:
    codes = [f"deleted-{uuid.uuid4().hex}" for _ in range(3)]
    for code in codes:
        insert_link(postgresql, code)
    old, young, last = codes
    listed = "SELECT short_code FROM deleted_links WHERE short_code LIKE 'deleted-%' ORDER BY deleted_at"
    postgresql.execute(f"DELETE FROM links WHERE short_code IN ('{old}', '{young}')")
    postgresql.execute(
        f"UPDATE deleted_links SET deleted_at = deleted_at - interval '61 minutes' WHERE short_code = '{old}'"
    )
    # A transaction that holds on to it keeps nobody from deleting.
    with closing(postgresql.connect()) as holder, holder.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"DELETE FROM deleted_links WHERE short_code = '{old}'")
        postgresql.execute(f"SET lock_timeout = '5s'; DELETE FROM links WHERE short_code = '{last}'", "linkrift_api")
        cursor.execute("ROLLBACK")
    assert rows(postgresql, listed) == [(old,), (young,), (last,)]
    insert_link(postgresql, last)
    assert rows(postgresql, f"SELECT version FROM links WHERE short_code = '{last}'") == [(3,)]
    postgresql.execute(f"DELETE FROM links WHERE short_code = '{last}'")
    assert rows(postgresql, listed) == [(young,), (last,)]
    assert rows(postgresql, f"SELECT version FROM deleted_links WHERE short_code = '{last}'") == [(4,)]

    postgresql.execute("SELECT * FROM deleted_links", "linkrift_redirect")
    for role, statement in (
        ("linkrift_redirect", "BEGIN READ WRITE; DELETE FROM deleted_links; COMMIT"),
        ("linkrift_api", "SELECT * FROM deleted_links"),
        ("linkrift_api", "INSERT INTO deleted_links VALUES ('x', 1, now())"),
        ("linkrift_worker", "SELECT * FROM deleted_links"),
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            postgresql.execute(statement, role)
