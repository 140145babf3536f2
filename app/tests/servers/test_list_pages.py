"""Each page of a list costs PostgreSQL the same, the last one of many thousand links, too: what it reads is counted."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg2.extensions
import pytest

from app.tests.servers.harness import MIGRATIONS, variables_of
from linkrift.api.store import Links, StoredLink
from linkrift.environment import Environment
from linkrift.postgres import Database
from linkrift.settings import read_database
from tools.testing.servers import PostgresqlServer

OWNER = uuid.UUID(int=1)
# Some of them deleted.
LINKS = 50_000
LEFT = LINKS * 19 // 20
PAGE = 100
# Besides a block of the table for each link: the way there through the index, and another block or two of that.
INDEX_BLOCKS = 6
# As they come in life: those of all owners one after another, many in the same moment, some deleted. What is on a page
# is not beside each other in the table, so that each link takes a block of its own.
FILL = f"""
INSERT INTO users (id, email, password_hash)
SELECT lpad(to_hex(number), 32, '0')::uuid, number || '@example.test', '-' FROM generate_series(1, 200) AS number;
INSERT INTO links (user_id, short_code, original_url, created_at, deleted_at)
SELECT lpad(to_hex(CASE WHEN number % 5 < 4 THEN 1 ELSE number / 5 % 199 + 2 END), 32, '0')::uuid, 'code-' || number,
    'https://example.org/', '2026-01-01'::timestamptz + number / 300 * interval '1 minute',
    CASE WHEN number % 25 = 0 THEN now() END
FROM generate_series(1, {LINKS * 5 // 4}) AS number ORDER BY random();
ANALYZE users, links
"""


@pytest.fixture(scope="module")
def full(postgresql: PostgresqlServer) -> Iterator[PostgresqlServer]:
    """A database of its own: other tests look at all links."""
    name = f"pages_{uuid.uuid4().hex}"
    postgresql.execute(f"CREATE DATABASE {name} OWNER linkrift_owner", "postgres", "postgres")
    server = replace(postgresql, database=name)
    for path in sorted((MIGRATIONS / "postgresql").glob("*.up.sql")):
        server.execute(path.read_text())
    server.execute(FILL)
    yield server
    postgresql.execute(f"DROP DATABASE {name}", "postgres", "postgres")


async def walk(links: Links) -> list[list[StoredLink]]:
    """Return all pages of the owner's list, as a client gets them who follows the cursor."""
    found = [await links.page(OWNER, PAGE, None)]
    while found[-1]:
        last = found[-1][-1]
        found.append(await links.page(OWNER, PAGE, (last.created_at, last.id)))
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


class Explained:
    """What a statement of the store costs, run as the API's role."""

    def __init__(self, connection: psycopg2.extensions.connection, statement: str, cache: str) -> None:
        self._cursor = connection.cursor()
        self._cursor.execute(f"SET plan_cache_mode = {cache}; DEALLOCATE ALL; PREPARE page AS {statement}")

    def blocks(self, *arguments: object) -> int:
        """Run it, and return how many blocks it read; it may read nothing that is not on the page."""
        words = ", ".join(["%s"] * len(arguments))
        texts = [str(each) for each in arguments]
        self._cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE page({words})", texts)
        ((((explained,),),),) = (self._cursor.fetchall(),)
        plan = explained["Plan"]
        assert [node["Node Type"] for node in nodes(plan)] == ["Limit", "Index Scan"], plan
        scan = plan["Plans"][0]
        assert scan["Index Name"] == "links_user_id_created_at_idx"
        # Neither sorted nor filtered: the index begins where the page does.
        assert ("ROW(created_at, id) < ROW" in scan["Index Cond"]) == (len(arguments) > 2)
        assert scan.get("Rows Removed by Filter", 0) == 0
        assert scan["Actual Rows"] <= PAGE
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


# As PostgreSQL plans it for an owner, and as it does for a statement that it was asked often: for anybody.
@pytest.mark.parametrize("cache", ["force_custom_plan", "force_generic_plan"])
async def test_each_page_of_a_list_costs_the_same(
    environment: dict[str, str], full: PostgresqlServer, cache: str
) -> None:
    variables = variables_of("api", environment, full, LINKRIFT_DB_NAME=full.database)
    database = Database(read_database(Environment(variables), connections=1, idle=1, command_timeout=5.0), "test")
    await database.open()
    statements: list[tuple[str, tuple[Any, ...]]] = []
    async with database.connection("listen") as connection:
        connection.add_query_logger(lambda logged: statements.append((logged.query, logged.args)))
    found = await walk(Links(database))
    await database.close()
    # None is there twice or missing; one statement for each page, and one that found that there is no more.
    assert len({link.id for page in found for link in page}) == sum(map(len, found)) == LEFT
    assert len(statements) == len(found) == LEFT // PAGE + 1

    (first, arguments), *others = statements
    (others_statement,) = {statement for statement, _ in others}
    with closing(full.connect("linkrift_api")) as asking:
        costs = [Explained(asking, first, cache).blocks(*arguments)]
        explained = Explained(asking, others_statement, cache)
        costs += [explained.blocks(*arguments) for _, arguments in others]
    *full_pages, nothing = costs
    assert min(full_pages) >= PAGE, "each link of the page is read"
    assert max(full_pages) <= PAGE + INDEX_BLOCKS, "and nothing else"
    assert nothing <= INDEX_BLOCKS
