"""What may be asked of the statistics."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from clickhouse_driver.errors import ServerException

from linkrift.api.problems import ApiError
from linkrift.api.stats import POINTS, Question, read_question, read_stats
from linkrift.clickhouse import ClickHouseAwayError

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=timezone.utc)
SECONDS = int(NOW.timestamp()) + 1
DAY = 86_400


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, Question(0, SECONDS, 0, ())),
        ({"interval": "day"}, Question(SECONDS - 30 * DAY, SECONDS, DAY, ())),
        ({"interval": "hour"}, Question(SECONDS - 2 * DAY, SECONDS, 3600, ())),
        ({"from": "2026-11-22T00:00:00+01:00"}, Question(1_795_302_000, SECONDS, 0, ())),
        ({"from": "2026-11-21T00:00:00Z", "to": "2026-11-22t00:00:00z"}, Question(1_795_219_200, 1_795_305_600, 0, ())),
        ({"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}, Question(0, 4_291_747_200, 0, ())),
        ({"by": "os,country,os"}, Question(0, SECONDS, 0, ("os", "country"))),
    ],
)
def test_what_is_asked(query: dict[str, str], expected: Question) -> None:
    assert read_question(query, NOW) == expected


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"from": "yesterday"}, "`from`"),
        ({"from": "2026-11-22T00:00:00"}, "zone"),
        ({"to": "1790000000"}, "`to`"),
        ({"to": ""}, "`to`"),
        ({"from": "2026-11-22T00:00:00Z", "to": "2026-11-22T00:00:00Z"}, "before"),
        ({"interval": "minute"}, "`interval`"),
        ({"interval": "hour", "from": "2026-01-01T00:00:00Z"}, f"at most {POINTS}"),
        ({"by": "user_agent"}, "`by`"),
        ({"by": ""}, "`by`"),
        ({"by": "country;DROP TABLE clicks"}, "`by`"),
    ],
)
def test_what_is_refused(query: dict[str, str], word: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_question(query, NOW)
    assert caught.value.status == 400
    assert word in caught.value.detail


class RefusingClickHouse:
    def __init__(self, code: int) -> None:
        self.code = code

    async def execute(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        raise ClickHouseAwayError.of(ServerException("refused", self.code))


@pytest.mark.parametrize("code", [241, 159])
async def test_more_clicks_than_can_be_counted_are_said_to_be_so(code: int) -> None:
    question = Question(0, SECONDS, 0, ())
    with pytest.raises(ApiError) as caught:
        await read_stats(RefusingClickHouse(code), "abc", question)  # type: ignore[arg-type] # a stand-in
    assert caught.value.status == 503
    assert "shorter time" in caught.value.detail
    with pytest.raises(ClickHouseAwayError):
        await read_stats(RefusingClickHouse(999), "abc", question)  # type: ignore[arg-type] # a stand-in
