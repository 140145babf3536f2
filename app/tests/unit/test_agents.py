"""What is told of a visitor's program, and the rows that come of it."""

from __future__ import annotations

import uuid

import pytest

from linkrift.clicks import Click
from linkrift.worker.agents import NAME_LENGTH, Agent, agent_of
from linkrift.worker.rows import COLUMNS, columns

WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        (
            f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/140.0.0.0 Safari/537.36",
            Agent("Chrome", "Windows", "desktop", 0),
        ),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {WEBKIT} Version/18.1 Mobile/15E148 Safari/604.1",
            Agent("Mobile Safari", "iOS", "mobile", 0),
        ),
        (
            "Mozilla/5.0 (Android 15; Tablet; rv:140.0) Gecko/140.0 Firefox/140.0",
            Agent("Firefox Mobile", "Android", "tablet", 0),
        ),
        (
            f"Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) {WEBKIT} Version/6.0 TV Safari/537.36",
            Agent("Safari", "Tizen", "tv", 0),
        ),
        (
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            Agent("Googlebot", "", "bot", 1),
        ),
        ("curl/8.5.0", Agent("curl", "", "bot", 1)),
        ("nobody knows this one", Agent("", "", "", 0)),
        ("", Agent("", "", "", 0)),
        ("(" * 512, Agent("", "", "", 0)),
    ],
)
def test_what_a_user_agent_tells(user_agent: str, expected: Agent) -> None:
    assert agent_of(user_agent) == expected


@pytest.mark.parametrize("repeated", ["x ", "Mozilla/5.0 (", "bot;", "Android ", "\u0000", "ä", "Linux; "])
def test_no_user_agent_takes_long_or_says_too_much(repeated: str) -> None:
    agent = agent_of((repeated * 512)[:512])
    assert max(map(len, agent[:3])) <= NAME_LENGTH


def test_columns_are_rows_turned_round() -> None:
    ids = [str(uuid.uuid4()) for _ in range(3)]
    turned = columns(
        Click(each, "abc", 1_790_000_000_999, user_agent="curl/8.5.0", visitor="00000000000000ff", country="AT")
        for each in ids
    )
    by_name = dict(zip(COLUMNS, turned, strict=True))
    assert [str(each) for each in by_name["event_id"]] == ids
    assert by_name["clicked_at"] == (1_790_000_000,) * 3
    assert by_name["visitor"] == (255,) * 3
    assert (by_name["browser"], by_name["bot"]) == (("curl",) * 3, (1,) * 3)
