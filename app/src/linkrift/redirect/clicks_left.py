"""Links that may be followed a number of times only. PostgreSQL counts: nobody else can, exactly, for all processes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from weakref import WeakValueDictionary

import asyncpg

from linkrift.links import ROW_COLUMNS, LinkState
from linkrift.postgres import Connection, Database, DatabaseAwayError

# Of the version that we know: what we know may be out of date, and then another rule may apply.
_TAKE = """
UPDATE links SET clicks_used = clicks_used + 1
WHERE short_code = $1 AND version = $2 AND clicks_used < max_clicks RETURNING true
"""
_LOOK = "\n".join(("SELECT clicks_used < max_clicks AS left,", ROW_COLUMNS, "FROM links WHERE short_code = $1"))


MAXIMUM_REMEMBERED = 10_000


class UncountableError(Exception):
    """Whether a click is left cannot be told, so none is."""


class ClicksLeft:
    """Takes clicks of links that have a maximum.

    Clicks of one link wait for each other in PostgreSQL, so they do it here: one at a time holds a connection, and all
    such links together hold a few, that the others do not wait for them.
    """

    def __init__(self, database: Database, *, timeout: float, at_once: int) -> None:
        """Prepare.

        Args:
            database: where links live.
            timeout: what taking or looking may take, in seconds, with the wait for those who came before.
            at_once: how many connections this may use.
        """
        self._database = database
        self._timeout = timeout
        self._room = asyncio.Semaphore(at_once)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Code → the version that has no click left. More clicks are a new version.
        self._used_up: OrderedDict[str, int] = OrderedDict()

    async def take(self, code: str, version: int) -> bool | LinkState:
        """Take one click.

        Args:
            code: of the link.
            version: of the state that the visitor is answered from.

        Returns:
            True: taken, follow the link. False: none was left. The link's state: it is another one by now, and
            nothing was taken.

        Raises:
            UncountableError: PostgreSQL does not say. It may have counted a click that nobody makes then; one more than
                the maximum is never made.
        """
        return await self._ask(code, version, take=True)

    async def look(self, code: str, version: int) -> bool | LinkState:
        """Tell what `take` would answer, and take nothing."""
        return await self._ask(code, version, take=False)

    async def _ask(self, code: str, version: int, *, take: bool) -> bool | LinkState:
        if self._used_up.get(code) == version:
            return False
        try:
            return await asyncio.wait_for(self._ask_in_turn(code, version, take=take), self._timeout)
        except (DatabaseAwayError, asyncpg.PostgresError, asyncio.TimeoutError) as error:
            raise UncountableError(str(error) or "timed out") from error

    async def _ask_in_turn(self, code: str, version: int, *, take: bool) -> bool | LinkState:
        turn = self._turns.get(code)
        if turn is None:
            turn = self._turns[code] = asyncio.Lock()
        async with turn:
            if self._used_up.get(code) == version:
                return False
            async with self._room:
                return await self._query(code, version, take=take)

    async def _query(self, code: str, version: int, *, take: bool) -> bool | LinkState:
        async with self._database.connection("take_click" if take else "look_for_click") as connection:
            if take and await _take(connection, code, version):
                return True
            row = await connection.fetchrow(_LOOK, code)
        if row is None:
            return False
        if row["version"] != version:
            return LinkState.of_row(row)
        if not row["left"]:
            self._remember(code, version)
        return bool(row["left"]) and not take

    def _remember(self, code: str, version: int) -> None:
        self._used_up[code] = version
        self._used_up.move_to_end(code)
        if len(self._used_up) > MAXIMUM_REMEMBERED:
            self._used_up.popitem(last=False)


async def _take(connection: Connection, code: str, version: int) -> bool:
    """Count one click, if one is left. For all else this service's role reads only, so this must be said."""
    await connection.execute("BEGIN READ WRITE")
    try:
        taken = bool(await connection.fetchval(_TAKE, code, version))
    except asyncpg.PostgresError:
        await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
    return taken
