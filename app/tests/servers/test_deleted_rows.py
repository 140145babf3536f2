"""Links whose rows somebody deletes in the database: no message tells of it."""

from __future__ import annotations

import uuid
from contextlib import closing

import psycopg2
import pytest
from redis.asyncio import Redis

from app.tests.servers.harness import eventually
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
