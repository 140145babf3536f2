"""How often a link was followed: when, from where, and with what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from clickhouse_driver.errors import ErrorCodes
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.types import AwareDatetime

from linkrift.api.problems import ApiError
from linkrift.api.routing import QueryParameter
from linkrift.clickhouse import EVENT, ClickHouse, ClickHouseAwayError

LOG = logging.getLogger(__name__)

# What a breakdown is by, and the column that it comes from.
DIMENSIONS = {
    "country": "country",
    "referrer": "referrer_host",
    "browser": "browser",
    "os": "os",
    "device": "device",
}
TOP = 25
INTERVALS = {"hour": 3600, "day": 86_400}
# Points of a series, at most: five weeks by the hour, or a bit more than two years by the day.
POINTS = 840
# For all that is asked of ClickHouse for one answer; the balancers wait for twice as long.
SECONDS = 15.0
# How far back a series goes that does not say.
POINTS_DEFAULT = {"hour": 48, "day": 30}

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# What ClickHouse's DateTime can hold.
_LATEST = datetime(2106, 1, 1, tzinfo=timezone.utc)
_MOMENT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)

QUERY = (
    QueryParameter(
        "from", "Count clicks from then on; all of them where it is missing.", {"type": "string", "format": "date-time"}
    ),
    QueryParameter("to", "Count clicks before then; until now.", {"type": "string", "format": "date-time"}),
    QueryParameter(
        "interval",
        "Count them by the hour or day (UTC), too; without `from`, of the last 48 hours or 30 days.",
        {"type": "string", "enum": list(INTERVALS)},
    ),
    QueryParameter(
        "by",
        f"Break the clicks of people down by {', '.join(DIMENSIONS)}, separated by commas: the {TOP} most frequent.",
        {"type": "string", "pattern": f"^({'|'.join(DIMENSIONS)})(,({'|'.join(DIMENSIONS)}))*$"},
    ),
)

_WHERE = (
    "FROM clicks WHERE code = %(code)s AND clicked_at >= toDateTime(%(since)s) AND clicked_at < toDateTime(%(until)s)"
)
# Visitors have another id each day: one who came on two days is two.
_VISITORS = "uniqExactIf(visitor, visitor != 0 AND bot = 0)"
TOTALS = f"SELECT count(), uniqExact({EVENT}), uniqExactIf({EVENT}, bot = 1), {_VISITORS} {_WHERE}"

_CLICKS = f"SELECT uniqExact({EVENT}) {_WHERE}"
_NO_SUCH_COLUMN = (ErrorCodes.UNKNOWN_IDENTIFIER, ErrorCodes.NO_SUCH_COLUMN_IN_TABLE, ErrorCodes.THERE_IS_NO_COLUMN)


class Point(BaseModel):
    """Clicks within an hour or a day."""

    start: datetime
    clicks: int
    bots: int
    visitors: int


class Share(BaseModel):
    """Clicks that have something in common."""

    value: str = Field(description="Empty where it is not known.")
    clicks: int


class Stats(BaseModel):
    """How often a link was followed."""

    code: str
    clicks: int = Field(description="All of them, those of bots, too.")
    bots: int = Field(description="Those of programs that follow links by themselves.")
    visitors: int = Field(description="Different visitors, no bots, each counted once a day.")
    series: list[Point] | None = Field(default=None, description="With `interval`.")
    breakdowns: dict[str, list[Share]] | None = Field(default=None, description="With `by`. People only, no bots.")


@dataclass(frozen=True)
class Question:
    """What is asked for. Times are in seconds since 1970; `step` is the length of a point, 0: no series."""

    since: int
    until: int
    step: int
    by: tuple[str, ...]


def read_question(query: Mapping[str, str], now: datetime) -> Question:
    """Read the query of a request.

    Raises:
        ApiError: 400, it is not what is expected.
    """
    until = _moment(query, "to", now + timedelta(seconds=1))
    interval = query.get("interval")
    if interval is not None and interval not in INTERVALS:
        raise ApiError(400, f"`interval` must be one of {', '.join(INTERVALS)}.")
    step = INTERVALS[interval] if interval else 0
    earliest = until - POINTS_DEFAULT[interval] * step if interval else 0
    since = _moment(query, "from", _EPOCH + timedelta(seconds=max(0, earliest)))
    if since >= until:
        raise ApiError(400, "`from` must be before `to`.")
    if step and (until - since) // step > POINTS:
        raise ApiError(400, f"`from` and `to` must be at most {POINTS} of `interval` apart.")
    by = query["by"].split(",") if "by" in query else []
    if not set(by) <= DIMENSIONS.keys():
        raise ApiError(400, f"`by` must be some of {', '.join(DIMENSIONS)}, separated by commas.")
    return Question(since, until, step, tuple(dict.fromkeys(by)))


async def read_stats(clickhouse: ClickHouse, code: str, question: Question) -> Stats:
    """Return a link's figures.

    Raises:
        ClickHouseAwayError: they cannot be had.
        ApiError: 503, there are too many clicks for ClickHouse to count at a time.
    """
    try:
        return await asyncio.wait_for(_read_stats(clickhouse, code, question), SECONDS)
    except asyncio.TimeoutError as error:
        raise ClickHouseAwayError(f"no answer within {SECONDS:g} s") from error
    except ClickHouseAwayError as error:
        if not error.too_large:
            raise
        LOG.warning("clicks are too many to be counted at a time: %s", error, extra={"code": code})
        detail = (
            "These are too many clicks to be counted at a time. Ask for a shorter time by `from` and `to`, or later."
        )
        raise ApiError(503, detail, headers={"Retry-After": "60"}) from error


async def _read_stats(clickhouse: ClickHouse, code: str, question: Question) -> Stats:
    values = {"code": code, "since": question.since, "until": question.until}
    try:
        ((rows, clicks, bots, visitors),) = await clickhouse.execute(TOTALS, values)
    except ClickHouseAwayError as error:
        if error.code not in _NO_SUCH_COLUMN:
            raise
        # A rollout of the API alone, before one of the worker: only the clicks are known yet.
        ((clicks,),) = await clickhouse.execute(_CLICKS, values)
        return Stats(code=code, clicks=clicks, bots=0, visitors=0)
    # As long as no event is there twice, rows can be counted for them, which takes a tenth of the time.
    counted = _Counted(exact=rows == clicks)
    series, shares = await asyncio.gather(
        _series(clickhouse, counted, values, question),
        asyncio.gather(*(_breakdown(clickhouse, counted, values, DIMENSIONS[each]) for each in question.by)),
    )
    return Stats(
        code=code,
        clicks=clicks,
        bots=bots,
        visitors=visitors,
        series=series,
        breakdowns=dict(zip(question.by, shares, strict=True)) if question.by else None,
    )


class _Counted:
    """How events are counted in SQL: all, bots, people."""

    def __init__(self, *, exact: bool) -> None:
        self.all = "count()" if exact else f"uniqExact({EVENT})"
        self.bots = "countIf(bot = 1)" if exact else f"uniqExactIf({EVENT}, bot = 1)"


async def _series(
    clickhouse: ClickHouse, counted: _Counted, values: dict[str, Any], question: Question
) -> list[Point] | None:
    step = question.step
    if not step:
        return None
    start = f"intDiv(toUInt32(clicked_at), {step}) * {step}"
    statement = f"SELECT {start} AS start, {counted.all}, {counted.bots}, {_VISITORS} {_WHERE} GROUP BY start"
    found = {row[0]: row[1:] for row in await clickhouse.execute(statement, values)}
    starts = range(question.since // step * step, question.until, step)
    return [_point(each, *found.get(each, (0, 0, 0))) for each in starts]


def _point(start: int, clicks: int, bots: int, visitors: int) -> Point:
    return Point(start=datetime.fromtimestamp(start, timezone.utc), clicks=clicks, bots=bots, visitors=visitors)


async def _breakdown(clickhouse: ClickHouse, counted: _Counted, values: dict[str, Any], column: str) -> list[Share]:
    statement = (
        f"SELECT {column}, {counted.all} AS found {_WHERE} AND bot = 0"
        f" GROUP BY {column} ORDER BY found DESC, {column} LIMIT {TOP}"
    )
    return [Share(value=value, clicks=clicks) for value, clicks in await clickhouse.execute(statement, values)]


def _moment(query: Mapping[str, str], name: Literal["from", "to"], default: datetime) -> int:
    """Return a time of the query in seconds since 1970."""
    text = query.get(name)
    moment = default
    if text is not None:
        try:
            # Without the T it may be a number, which would be a time in units that nobody stated.
            moment = _MOMENT.validate_strings(text if "T" in text.upper() else "")
        except ValidationError as error:
            raise ApiError(400, f"`{name}` must be a time with its zone, such as 2026-01-31T00:00:00Z.") from error
    return int(min(max(moment, _EPOCH), _LATEST).timestamp())
