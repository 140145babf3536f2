"""Codes, links as they are cached, and click events as they travel."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tests.unit.rows import link_row
from linkrift import clicks, codes
from linkrift.clicks import Click, MalformedEventError
from linkrift.links import FOREVER, LinkState, Rules
from linkrift.worker.rows import COLUMNS, row

TEXT = st.text(st.characters(codec="utf-8"), max_size=100)


def test_made_up_codes() -> None:
    made = {codes.generate() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch("[0-9A-Za-z]{7}", code) for code in made)
    assert set("".join(made)) == set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@pytest.mark.parametrize("text", ["a", "A_b-9", "x" * 64])
def test_what_is_a_code(text: str) -> None:
    assert codes.is_code(text)


@pytest.mark.parametrize("text", ["", "x" * 65, "a b", "a/b", "ä", "a.b", "a\n", "health", "Admin", "METRICS", "api"])
def test_what_is_none(text: str) -> None:
    assert not codes.is_code(text)


def test_the_canary_can_be_followed_and_nobody_can_have_its_code() -> None:
    assert codes.is_code(codes.CANARY)
    assert codes.is_reserved(codes.CANARY)
    assert not codes.is_code(codes.CANARY.upper())


def test_the_migration_makes_the_canary() -> None:
    migration = Path(__file__).parents[2] / "migrations/postgresql/000004_canary.up.sql"
    assert f"'{codes.CANARY}'" in migration.read_text()


RULES = st.builds(
    Rules,
    status=st.sampled_from([301, 302, 307, 308]),
    password=st.integers(0, 3),
    active_from=st.one_of(st.just(0.0), st.floats(1, 4e9)),
    limited=st.booleans(),
    forward_query=st.booleans(),
)


@given(TEXT, st.integers(0, 2**62), st.booleans(), st.one_of(st.just(FOREVER), st.floats(0, 4e9)), RULES)
def test_a_link_survives_the_cache(target: str, version: int, gone: bool, expires_at: float, rules: Rules) -> None:
    state = LinkState(target, version, gone, expires_at, None if rules == Rules() else rules)
    assert LinkState.decode(state.encode().encode()) == state
    # What a release before schema level 5 makes of it: never more than it may.
    document = json.loads(state.encode())
    assert document.get("gone", False) == bool(gone or rules.password or rules.limited or rules.active_from)


def test_a_plain_link_says_that_it_has_no_rules() -> None:
    assert LinkState("https://x", 3).encode() == '{"target":"https://x","version":3,"rules":{}}'


def test_a_newer_release_may_add_fields() -> None:
    assert LinkState.decode(b'{"target":"x","version":3,"more":"y","rules":{}}') == LinkState("x", 3)
    assert LinkState.decode(b'{"target":"x","version":3,"rules":{"more":"y"}}') == LinkState("x", 3)


def test_a_link_that_an_older_release_wrote_may_have_rules() -> None:
    assert LinkState.decode(b'{"target":"x","version":3}') is None
    assert LinkState.decode(b'{"target":"x","version":3,"gone":true}') is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"target":1}',
        b"\xff",
        b'{"target":"x","version":"a","rules":{}}',
        b'{"target":"x","rules":1}',
    ],
)
def test_something_else_than_a_link(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a link|Expecting value|codec|invalid literal"):
        LinkState.decode(data)


def test_a_row_becomes_a_state() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert LinkState.of_row(link_row()) == LinkState("https://x", 1)
    assert LinkState.of_row(link_row(is_active=False)).gone
    assert LinkState.of_row(link_row(deleted_at=moment)).gone
    assert LinkState.of_row(link_row(expires_at=moment)).expires_at == moment.timestamp()
    row = link_row(redirect_status=308, forward_query=True, active_from=moment, limited=True, password=2)
    rules = LinkState.of_row(row).rules
    assert rules == Rules(308, password=2, active_from=moment.timestamp(), limited=True, forward_query=True)


CLICKS = st.builds(
    Click,
    event_id=st.uuids().map(str),
    code=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    clicked_at_ms=st.integers(0, 4_291_747_199_000),
    request_id=TEXT,
    referrer_host=TEXT,
    user_agent=TEXT,
    address=st.ip_addresses().map(str),
    visitor=st.one_of(st.just(""), st.from_regex("[0-9a-f]{16}", fullmatch=True)),
    country=st.sampled_from(["", "AT", "T1"]),
)


@given(st.lists(CLICKS, max_size=5))
def test_clicks_survive_the_stream(sent: list[Click]) -> None:
    received, rejected = clicks.decode(clicks.encode(sent).encode())
    assert received == sent
    assert rejected == []
    assert all(len(row(click)) == len(COLUMNS) for click in received)


@given(CLICKS)
def test_an_event_made_in_a_hurry_is_the_same(sent: Click) -> None:
    more = {
        "referrer": sent.referrer_host,
        "agent": sent.user_agent,
        "network": sent.address,
        "visitor": sent.visitor,
        "country": sent.country,
    }
    fields = "".join(clicks.field(name, value) for name, value in more.items())
    made = clicks.event(sent.event_id, sent.code, sent.clicked_at_ms, sent.request_id, fields)
    assert json.loads(clicks.entry([made, made])) == json.loads(clicks.encode([sent, sent]))


@pytest.mark.parametrize(
    "odd", [{"visitor": "x"}, {"visitor": 7}, {"visitor": "A" * 16}, {"country": "at"}, {"country": ["AT"]}]
)
def test_a_visitor_or_a_country_that_is_none_does_not_cost_the_click(odd: dict[str, object]) -> None:
    (received,), rejected = clicks.decode(json.dumps([{**GOOD, **odd}]).encode())
    assert (received.visitor, received.country, rejected) == ("", "", [])


GOOD = {"id": str(uuid.UUID(int=1)), "code": "abc", "at": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "1"}, "'id' is not a UUID"),
        ({"id": 1}, "'id' is not a text of at most 36 characters"),
        ({"code": ""}, "'code' is missing"),
        ({"code": "x" * 65}, "'code' is not a text of at most 64 characters"),
        ({"at": "now"}, "'at' is not a time in milliseconds"),
        ({"at": True}, "'at' is not a time in milliseconds"),
        ({"at": -1}, "'at' is not a time in milliseconds"),
        ({"at": 1e300}, "'at' is not a time in milliseconds"),
        ({"agent": "\ud800"}, "'agent' is not valid text"),
        ({"agent": "x" * 513}, "'agent' is not a text of at most 512 characters"),
    ],
)
def test_a_poison_event_harms_no_other(change: dict[str, object], reason: str) -> None:
    poison = {**GOOD, **change}
    received, rejected = clicks.decode(json.dumps([GOOD, poison, "text", GOOD]).encode())
    assert [click.code for click in received] == ["abc", "abc"]
    assert rejected == [(poison, reason), ("text", "not an object")]


@pytest.mark.parametrize("data", [None, b"", b"{}", b"\xff\xff", b'["\xed\xa0\x80"]', b"[" * 100_000])
def test_an_entry_that_cannot_be_read(data: bytes | None) -> None:
    with pytest.raises(MalformedEventError):
        clicks.decode(data)


def test_unknown_fields_are_left_alone() -> None:
    received, rejected = clicks.decode(json.dumps([{**GOOD, "language": "de"}]).encode())
    assert (len(received), rejected) == (1, [])
