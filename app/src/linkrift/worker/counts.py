"""Clicks of each link, counted in ClickHouse and brought back to PostgreSQL.

Always how many there are, never how many more: a batch that was delivered twice, or a worker that died between two
steps, changes nothing. They are counted month by month, so that a month whose clicks are no longer kept stays counted.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, timezone

from linkrift.clickhouse import EVENT, ClickHouse, ClickHouseAwayError
from linkrift.clicks import Click
from linkrift.postgres import Database, DatabaseAwayError

LOG = logging.getLogger(__name__)

DAY_MS = 86_400_000
CODES_AT_ONCE = 1000
# Links that wait to be counted, at most; what comes beyond that is counted with its next click, or at the next start.
CODES_WAITING = 100_000
# One whose clicks of a month are too many for ClickHouse is not tried again for so long.
ASIDE_SECONDS = 3600.0
# Counting takes at most this part of the time, however large the links are.
SHARE = 0.05
# After a start, links that were clicked since then are counted: nobody knows what the one before had not counted yet.
SWEEP_SECONDS = 86_400

_OF_CODES = """
FROM clicks
WHERE code IN %(codes)s AND clicked_at >= toDateTime(%(since)s) AND clicked_at < toDateTime(%(until)s)
GROUP BY code
"""
_COUNT = f"SELECT code, uniqExact({EVENT}) {_OF_CODES}"
_CLICKED = "SELECT DISTINCT code FROM clicks WHERE clicked_at >= toDateTime(%(since)s) LIMIT %(most)s"

# Several workers may count at a time; one after the other, they do not wait for each other's rows crosswise.
_LOCK = "SELECT pg_advisory_xact_lock(7163000001)"
_STORE = """
INSERT INTO link_clicks (short_code, month, clicks)
SELECT links.short_code, counted.month, counted.clicks
FROM unnest($1::text[], $2::date[], $3::bigint[]) AS counted (code, month, clicks)
JOIN links ON links.short_code = counted.code
ON CONFLICT (short_code, month) DO UPDATE SET clicks = excluded.clicks WHERE link_clicks.clicks < excluded.clicks
"""
_ADD_UP = """
UPDATE links SET click_count = total.clicks
FROM (
    SELECT short_code, sum(clicks)::bigint AS clicks FROM link_clicks
    WHERE short_code = ANY($1::text[]) GROUP BY short_code
) AS total
WHERE links.short_code = total.short_code AND links.click_count < total.clicks
"""

Counted = tuple[str, date, int]


class ClickCounts:
    """Knows which links were clicked, and counts them from time to time."""

    def __init__(
        self, clickhouse: ClickHouse, database: Database, admitted: Callable[[], bool], *, interval: float
    ) -> None:
        """Prepare.

        Args:
            clickhouse: where they are counted.
            database: where the counts go.
            admitted: whether to count.
            interval: seconds between two times.
        """
        self._clickhouse = clickhouse
        self._database = database
        self._admitted = admitted
        self._interval = interval
        self._waiting: dict[tuple[str, date], None] = {}
        self._aside: dict[tuple[str, date], float] = {}
        self._at_once = CODES_AT_ONCE
        self._swept = False

    async def try_out(self) -> None:
        """Have PostgreSQL plan what counts are stored with, which takes the tables, the columns and the right to them.

        A server that is read-only plans it, too: clicks are taken there all the same, and counted later.

        Raises:
            DatabaseAwayError, PostgresError: they could not be stored.
        """
        async with self._database.connection("check") as connection:
            await connection.execute(f"EXPLAIN {_STORE}", [], [], [])
            await connection.execute(f"EXPLAIN {_ADD_UP}", [])

    def touch(self, clicks: Iterable[Click]) -> None:
        """Note that these are in ClickHouse."""
        days = {(click.code, click.clicked_at_ms // DAY_MS) for click in clicks}
        for code, day in days:
            key = code, _month_of(day * DAY_MS / 1000)
            if len(self._waiting) < CODES_WAITING and not self._is_aside(key):
                self._waiting[key] = None

    async def run(self) -> None:
        """Count until cancelled."""
        failing = False
        while True:
            started = time.monotonic()
            try:
                if self._admitted():
                    await self.count()
                failing = False
            except (ClickHouseAwayError, DatabaseAwayError) as error:
                if not failing:
                    LOG.warning("clicks are not counted for the lists of links at the moment: %s", error)
                failing = True
            except Exception:
                # A full disk of PostgreSQL, a missing right: what a person mends while this goes on.
                if not failing:
                    LOG.exception("clicks are not counted for the lists of links at the moment")
                failing = True
            await asyncio.sleep(max(self._interval, (time.monotonic() - started) * (1 / SHARE - 1)))

    async def count(self) -> None:
        """Count the links that wait.

        Raises:
            ClickHouseAwayError, DatabaseAwayError: one of them cannot be used; the links go on waiting.
        """
        await self._count_waiting()
        if not self._swept:
            await self._sweep()
            await self._count_waiting()

    async def _count_waiting(self) -> None:
        while self._waiting:
            # Those that wait longest. Taken out before they are counted: one that is clicked meanwhile comes in again.
            some = list(itertools.islice(self._waiting, self._at_once))
            for key in some:
                del self._waiting[key]
            try:
                await self._store(await self._count(some))
            except BaseException as error:
                if not isinstance(error, ClickHouseAwayError) or not error.too_large:
                    self._waiting.update(dict.fromkeys(some))
                    raise
                self._count_fewer(some, error)
            else:
                self._at_once = min(self._at_once * 2, CODES_AT_ONCE)

    def _count_fewer(self, some: list[tuple[str, date]], error: ClickHouseAwayError) -> None:
        """Count half as many at a time, after the others; set one aside that alone is too large."""
        if len(some) > 1:
            self._waiting.update(dict.fromkeys(some))
            self._at_once = len(some) // 2
            return
        now = time.monotonic()
        self._aside = {key: until for key, until in self._aside.items() if until > now}
        if len(self._aside) < CODES_WAITING:
            self._aside[some[0]] = now + ASIDE_SECONDS
        LOG.warning("a link has too many clicks to be counted: %s", error, extra={"code": some[0][0]})

    def _is_aside(self, key: tuple[str, date]) -> bool:
        return bool(self._aside) and self._aside.get(key, 0.0) > time.monotonic()

    async def _sweep(self) -> None:
        """Have those counted that were clicked before this process began; without them, where they are too many."""
        now = time.time()
        since = int(now) - SWEEP_SECONDS
        try:
            rows = await self._clickhouse.execute(_CLICKED, {"since": since, "most": CODES_WAITING})
        except ClickHouseAwayError as error:
            if not error.too_large:
                raise
            LOG.warning("what was clicked before the start is counted with the next click: %s", error)
            rows = []
        for month in {_month_of(since), _month_of(now)}:
            self._waiting.update(dict.fromkeys((str(row[0]), month) for row in rows))
        self._swept = True

    async def _count(self, keys: list[tuple[str, date]]) -> list[Counted]:
        months: defaultdict[date, list[str]] = defaultdict(list)
        for code, month in keys:
            months[month].append(code)
        counted: list[Counted] = []
        for month, codes in months.items():
            bounds = {"since": _seconds(month), "until": _seconds(_next(month))}
            rows = await self._clickhouse.execute(_COUNT, {"codes": tuple(codes), **bounds})
            counted += [(code, month, clicks) for code, clicks in rows]
        return counted

    async def _store(self, counted: list[Counted]) -> None:
        if not counted:
            return
        codes, months, clicks = map(list, zip(*counted, strict=True))
        async with self._database.connection("count_clicks") as connection, connection.transaction():
            await connection.execute(_LOCK)
            await connection.execute(_STORE, codes, months, clicks)
            await connection.execute(_ADD_UP, codes)


def _month_of(seconds: float) -> date:
    return datetime.fromtimestamp(seconds, timezone.utc).date().replace(day=1)


def _next(month: date) -> date:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def _seconds(day: date) -> int:
    """Return when a day begins, in seconds since 1970; what ClickHouse cannot hold becomes the last that it can."""
    return min(int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp()), 4_291_747_199)
