"""Clicks of each link, counted in ClickHouse and brought back to PostgreSQL.

Always how many there are, never how many more: a batch that was delivered twice, or a worker that died between two
steps, changes nothing. They are counted month by month, so that a month whose clicks are no longer kept stays counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, timezone

from linkrift.clickhouse import ClickHouse, ClickHouseAwayError
from linkrift.clicks import Click
from linkrift.postgres import Database, DatabaseAwayError

LOG = logging.getLogger(__name__)

DAY_MS = 86_400_000
CODES_AT_ONCE = 1000
# Links that wait to be counted, at most; what comes beyond that is counted with its next click, or at the next start.
CODES_WAITING = 100_000
# Counting takes at most this part of the time, however large the links are.
SHARE = 0.05
# After a start, links that were clicked since then are counted: nobody knows what the one before had not counted yet.
SWEEP_SECONDS = 86_400

_COUNT = """
SELECT code, uniqExact(event_id) FROM clicks
WHERE code IN %(codes)s AND clicked_at >= toDateTime(%(since)s) AND clicked_at < toDateTime(%(until)s)
GROUP BY code
"""
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
        self._swept = False

    def touch(self, clicks: Iterable[Click]) -> None:
        """Note that these are in ClickHouse."""
        days = {(click.code, click.clicked_at_ms // DAY_MS) for click in clicks}
        for code, day in days:
            if len(self._waiting) < CODES_WAITING:
                self._waiting[code, _month_of(day * DAY_MS / 1000)] = None

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
            await asyncio.sleep(max(self._interval, (time.monotonic() - started) * (1 / SHARE - 1)))

    async def count(self) -> None:
        """Count the links that wait.

        Raises:
            ClickHouseAwayError, DatabaseAwayError: one of them cannot be used; the links go on waiting.
        """
        if not self._swept:
            await self._sweep()
        while self._waiting:
            # Taken out before they are counted: one that is clicked meanwhile comes in again.
            some = [self._waiting.popitem()[0] for _ in range(min(CODES_AT_ONCE, len(self._waiting)))]
            try:
                await self._store(await self._count(some))
            except BaseException:
                self._waiting.update(dict.fromkeys(some))
                raise

    async def _sweep(self) -> None:
        now = time.time()
        since = int(now) - SWEEP_SECONDS
        rows = await self._clickhouse.execute(_CLICKED, {"since": since, "most": CODES_WAITING})
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
