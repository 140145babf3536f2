"""Asks PostgreSQL which links changed, so that a message that never came does no harm.

PostgreSQL is where links live: while it tells what changed, nothing is missed for longer than the interval, and while
it is away, nothing changes. Links that were only made are left out: there is nothing old to forget of them.
"""

from __future__ import annotations

import asyncio
import logging
import time

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
# More is not read one by one: everything is asked for again.
MAXIMUM_PAGES = 20

# There is an index for this, of changed links only.
_SELECT = "SELECT short_code, version, updated_at FROM links WHERE version > 1"
_ORDER = "ORDER BY updated_at, short_code LIMIT $1"
_FIRST = "\n".join((_SELECT, "AND updated_at > now() - make_interval(secs => $2)", _ORDER))
_NEXT = "\n".join((_SELECT, "AND (updated_at, short_code) > ($2, $3)", _ORDER))


class Feed:
    """Follows the changes of links in PostgreSQL."""

    def __init__(self, database: Database, cache: MemoryCache, lookup: Lookup) -> None:
        self._database = database
        self._cache = cache
        self._lookup = lookup
        # The server's clock alone says when something changed; ours, how long ago we asked. The first time we ask for
        # all that Redis may hold an older copy of.
        self._asked_at = time.monotonic() - KEEP_SECONDS
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
                complete = await self._read(connection, began - self._asked_at + OVERLAP_SECONDS)
        except DatabaseAwayError as error:
            LOG.debug("cannot ask what changed: %s", error)
            return False
        except asyncpg.PostgresError as error:
            if not self._refused:
                LOG.error("PostgreSQL does not tell which links changed: %s", error)
            self._refused = True
            return False
        self._refused = False
        if not complete:
            LOG.warning("more than %d links changed at once; asking for all anew", PAGE * MAXIMUM_PAGES)
            self._lookup.doubt_all()
        self._asked_at = began
        self._cache.checked_until = began + GOOD_SECONDS
        return True

    async def _read(self, connection: Connection, seconds: float) -> bool:
        """Hand on what changed in the last seconds; False: it was too much."""
        rows = await connection.fetch(_FIRST, PAGE, seconds)
        for _ in range(MAXIMUM_PAGES):
            for row in rows:
                self._lookup.changed(row["short_code"], row["version"])
            if len(rows) < PAGE:
                return True
            rows = await connection.fetch(_NEXT, PAGE, rows[-1]["updated_at"], rows[-1]["short_code"])
        return False
