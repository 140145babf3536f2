"""Shows where a link leads without following it: its code with a plus sign behind it."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime

import asyncpg

from linkrift.links import PLAIN
from linkrift.postgres import Database, DatabaseAwayError
from linkrift.redirect import pages
from linkrift.redirect.cache import Entry
from linkrift.redirect.visit import Reply, Visit

LOG = logging.getLogger(__name__)

_CREATED = "SELECT created_at FROM links WHERE short_code = $1"


class Previews:
    """Shows links' targets."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        """Prepare; `timeout` is what asking for the day may take, in seconds."""
        self._database = database
        self._timeout = timeout

    async def show(self, visit: Visit, entry: Entry) -> Reply:
        """Answer with a page. What only a password or a counted click opens is not on it."""
        now = time.time()
        rules = entry.rules or PLAIN
        if entry.gone or entry.expires_at <= now:
            return visit.gone()
        if rules.active_from > now:
            return visit.not_there()
        target = None if rules.password or rules.limited else entry.location.decode("ascii")
        code = visit.code[:-1]
        return visit.page("200 OK", pages.preview(code, target, await self._created_at(code)))

    async def _created_at(self, code: str) -> datetime | None:
        """Return when a link was made; None: nobody can tell, and the page does without."""
        try:
            return await asyncio.wait_for(self._ask(code), self._timeout)
        except (DatabaseAwayError, asyncpg.PostgresError, asyncio.TimeoutError) as error:
            LOG.debug("cannot tell when a link was made: %s", error)
            return None

    async def _ask(self, code: str) -> datetime | None:
        async with self._database.connection("preview_link") as connection:
            created_at: datetime | None = await connection.fetchval(_CREATED, code)
        return created_at
