"""Asks PostgreSQL which links changed, so that a message that never came does no harm.

PostgreSQL is where links live: while it tells what changed, nothing is missed for longer than the interval, and while
it is away, nothing changes. Links that were only made are left out: there is nothing old to forget of them. Those whose
rows were deleted are noted in a table of their own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime, timedelta

import asyncpg

from linkrift.postgres import Connection, Database, DatabaseAwayError
from linkrift.redirect.cache import MemoryCache
from linkrift.redirect.changes import KEEP_SECONDS
from linkrift.redirect.lookup import Lookup

LOG = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.5
# How long an answer counts: a few intervals, with what a slow one takes.
GOOD_SECONDS = 3.0
# A change is dated when its transaction begins, and seen when that ends.
OVERLAP_SECONDS = 6.0
PAGE = 1000
# More at once: everything is asked for again, and the rest is read the next times.
MAXIMUM_PAGES = 20
# How often what changed lately is read once more, a page at a time: a transaction that took longer is found then.
AGAIN_SECONDS = 15.0

# There is an index for each half; that of links has changed ones only.
_NEXT = """
(
    SELECT short_code, version, updated_at FROM links WHERE version > 1
    AND (updated_at, short_code) > ($2, $3) ORDER BY updated_at, short_code LIMIT $1
) UNION ALL (
    SELECT short_code, version, deleted_at FROM deleted_links
    WHERE (deleted_at, short_code) > ($2, $3) ORDER BY deleted_at, short_code LIMIT $1
) ORDER BY updated_at, short_code LIMIT $1
"""

Place = tuple[datetime, str]
"""Between changes: when, and of which code."""


class Feed:
    """Follows the changes of links in PostgreSQL."""

    def __init__(self, database: Database, cache: MemoryCache, lookup: Lookup) -> None:
        self._database = database
        self._cache = cache
        self._lookup = lookup
        # The server's clock alone counts: ours may stand still. The first time we ask for all that Redis may hold an
        # older copy of.
        self._asked_at: datetime | None = None
        # Where to go on, if there was too much.
        self._rest: Place | None = None
        self._again: Place | None = None
        self._again_at = 0.0
        self._refused = False

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def poll(self) -> bool:
        """Ask once.

        Returns:
            Whether we know of all changes now.
        """
        began = time.monotonic()
        try:
            async with self._database.connection("changes") as connection:
                complete = await self._follow(connection)
                await self._read_again(connection)
        except DatabaseAwayError as error:
            LOG.debug("cannot ask what changed: %s", error)
            return False
        except asyncpg.PostgresError as error:
            if not self._refused:
                LOG.error("PostgreSQL does not tell which links changed: %s", error)
            self._refused = True
            return False
        self._refused = False
        if complete:
            self._cache.checked_until = began + GOOD_SECONDS
        return complete

    async def _follow(self, connection: Connection) -> bool:
        """Hand on what changed since we asked; False: not all of it yet."""
        now: datetime = await connection.fetchval("SELECT now()")
        if self._asked_at is not None and now < self._asked_at - timedelta(seconds=OVERLAP_SECONDS / 2):
            LOG.warning("the clock of PostgreSQL went back; asking for all anew")
            self._lookup.doubt_all()
            self._asked_at = self._rest = self._again = None
        if self._asked_at is None:
            self._asked_at = now - timedelta(seconds=KEEP_SECONDS)
        place = self._rest or (self._asked_at - timedelta(seconds=OVERLAP_SECONDS), "")
        for _ in range(MAXIMUM_PAGES):
            following = await self._read(connection, place)
            if following is None:
                self._asked_at, self._rest = now, None
                return True
            place = following
        if self._rest is None:
            LOG.warning("more than %d links changed at once; asking for all anew", PAGE * MAXIMUM_PAGES)
            self._lookup.doubt_all()
        self._rest = place
        return False

    async def _read_again(self, connection: Connection) -> None:
        """Read a page of what changed lately once more, when it is time."""
        now = time.monotonic()
        if self._again is None:
            if now < self._again_at or self._asked_at is None:
                return
            self._again = self._asked_at - timedelta(seconds=KEEP_SECONDS), ""
            self._again_at = now + AGAIN_SECONDS
        self._again = await self._read(connection, self._again)

    async def _read(self, connection: Connection, place: Place) -> Place | None:
        """Hand on a page of changes; the answer is where the next one begins, if there may be one."""
        rows = await connection.fetch(_NEXT, PAGE, *place)
        for row in rows:
            self._lookup.changed(row["short_code"], row["version"])
        return (rows[-1]["updated_at"], rows[-1]["short_code"]) if len(rows) == PAGE else None
