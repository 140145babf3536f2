"""The parts that links with rules are made of, without stores."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import re
from datetime import datetime, timezone
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import asyncpg
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ReadOnlyError, ResponseError

from linkrift.environment import ConfigurationError
from linkrift.link_passwords import LinkPasswords
from linkrift.password_queue import BusyError
from linkrift.postgres import DatabaseAwayError
from linkrift.redirect import attempts, enumeration, pages
from linkrift.redirect.attempts import Admission, Attempts, LocalAttempts
from linkrift.redirect.enumeration import UnknownCodes
from linkrift.redirect.passes import COOKIE, LIFETIME_SECONDS, Passes
from linkrift.redirect.passwords import (
    ATTEMPTS_AT_ONCE,
    CONTENT_TYPE,
    READS_AT_ONCE,
    Attempt,
    FormError,
    Outcome,
    Passwords,
    read_password,
)
from linkrift.redirect.previews import Previews
from linkrift.redirect.queries import MAXIMUM_LOCATION, forward
from linkrift.redirect.settings import read_settings

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("location", "query", "merged"),
    [
        ("https://x/", "", "https://x/"),
        ("https://x/", "a=1", "https://x/?a=1"),
        ("https://x/#f", "a=1", "https://x/?a=1#f"),
        ("https://x/?a=1#f?x", "b=2", "https://x/?a=1&b=2#f?x"),
        ("https://x/?", "b=2", "https://x/?b=2"),
        # The owner's own parameters stay as they are, however a visitor writes their names.
        ("https://x/?a=1", "a=2&b=3", "https://x/?a=1&b=3"),
        ("https://x/?a=1", "%61=2", "https://x/?a=1"),
        ("https://x/?a+b=1", "a%20b=2&c", "https://x/?a+b=1&c"),
        ("https://x/?a=1", "a=2", "https://x/?a=1"),
        # Repeated and empty ones, in their order.
        ("https://x/", "b=2&a=1&b=3&&c=&d", "https://x/?b=2&a=1&b=3&c=&d"),
        # What is encoded stays as it is, what must be encoded is, and nothing ends the query early.
        ("https://x/", "a=%26%3D%zz", "https://x/?a=%26%3D%zz"),
        ("https://x/", 'a=<">', "https://x/?a=%3C%22%3E"),
        ("https://x/", "a=\udcff\u00fc", "https://x/?a=%FF%C3%BC"),
        ("https://x/", "a=1#b", "https://x/?a=1"),
        ("https://x/", "#b", "https://x/"),
    ],
)
def test_a_forwarded_query(location: str, query: str, merged: str) -> None:
    assert forward(location.encode(), query) == merged.encode()


def test_a_forwarded_query_has_a_bound() -> None:
    query = "a=" + "x" * MAXIMUM_LOCATION
    assert forward(b"https://x/", query) == b"https://x/"


@given(st.text(max_size=80))
def test_whatever_is_forwarded_fits_into_a_header(query: str) -> None:
    try:
        query.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return
    location = forward(b"https://x/?own=1#f", query)
    assert location.startswith(b"https://x/?own=1")
    assert location.endswith(b"#f")
    assert re.fullmatch(rb"[\x21-\x7e]+", location)


def value_of(cookie: str) -> str:
    return cookie.partition(";")[0].removeprefix(f"{COOKIE}=")


def test_a_pass_is_for_one_link_one_password_and_a_while() -> None:
    passes = Passes(["k" * 32])
    cookie = value_of(passes.cookie("abc", 2, NOW))
    header = f"{COOKIE}={cookie}"
    assert passes.admits(header, "abc", 2, NOW)
    assert passes.admits(f"a=b; {COOKIE}=nonsense;{header} ; c", "abc", 2, NOW + LIFETIME_SECONDS - 1)
    for code, password, now in (
        ("abd", 2, NOW),
        ("ABC", 2, NOW),
        ("abc", 1, NOW),
        ("abc", 3, NOW),
        ("abc", 2, NOW + LIFETIME_SECONDS),
        ("abc", 2, NOW - 3600),
    ):
        assert not passes.admits(header, code, password, now)


def test_a_pass_cannot_be_made_up() -> None:
    passes = Passes(["k" * 32])
    until, _, signature = value_of(passes.cookie("abc", 1, NOW)).partition(".")
    for value in (
        "",
        ".",
        until,
        f"{until}.",
        f"{until}.{signature[:-1]}",
        f"{until}.{signature}=",
        f"{int(until, 16) + 60:x}.{signature}",
        f"0{until}.{signature}",
        f"+{until}.{signature}",
        f"{until.upper()}_.{signature}",
        f"{until}.{'ü' * 43}",
        f"{until}.\udcff",
        f"nonsense.{signature}",
        f"{'f' * 5000}.{signature}",
    ):
        assert not passes.admits(f"{COOKIE}={value}", "abc", 1, NOW), value
    assert not Passes(["l" * 32]).admits(f"{COOKIE}={until}.{signature}", "abc", 1, NOW)


def test_a_key_is_changed_without_asking_anybody_again() -> None:
    old, both, new = Passes(["o" * 32]), Passes(["n" * 32, "o" * 32]), Passes(["n" * 32])
    by_old = f"{COOKIE}={value_of(old.cookie('abc', 1, NOW))}"
    by_both = f"{COOKIE}={value_of(both.cookie('abc', 1, NOW))}"
    assert both.admits(by_old, "abc", 1, NOW)
    assert both.admits(by_both, "abc", 1, NOW)
    assert new.admits(by_both, "abc", 1, NOW)
    assert not new.admits(by_old, "abc", 1, NOW)


def address(text: str) -> enumeration.Address:
    return ipaddress.ip_address(text)


def test_unknown_codes_are_limited_by_address() -> None:
    unknown = UnknownCodes(3)
    somebody = address("203.0.113.1")
    assert unknown.wait(somebody, 0.0) == 0
    assert [unknown.note(somebody, 0.0) for _ in range(5)] == [0, 0, 0, 20, 20]
    assert (unknown.wait(somebody, 0.0), unknown.wait(somebody, 20.5)) == (20, 0)
    assert unknown.note(address("203.0.113.2"), 0.0) == 0
    # A third of the minute is one more code, and what was refused does not count.
    assert [unknown.note(somebody, 20.5) for _ in range(2)] == [0, 20]
    assert [unknown.note(somebody, 200.0) for _ in range(4)] == [0, 0, 0, 20]


def test_a_network_of_ipv6_is_one_visitor_and_not_one_of_ipv4() -> None:
    unknown = UnknownCodes(1)
    assert unknown.note(address("2001:db8::1"), 0.0) == 0
    assert unknown.note(address("2001:db8::ffff"), 0.0) > 0
    assert unknown.note(address("2001:db8:0:1::1"), 0.0) == 0
    assert unknown.note(address("0:0:cb00:7101::1"), 0.0) == 0
    assert unknown.note(address("203.0.113.1"), 0.0) == 0


def test_unknown_codes_need_no_more_than_so_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enumeration, "MAXIMUM_KEPT", 10)
    unknown = UnknownCodes(1)
    for number in range(1000):
        unknown.note(ipaddress.IPv4Address(number), 0.0)
    assert unknown.size() == 10
    assert unknown.note(ipaddress.IPv4Address(999), 0.0) > 0


def test_no_limit_and_no_address() -> None:
    assert [UnknownCodes(0).note(address("203.0.113.1"), 0.0) for _ in range(3)] == [0, 0, 0]
    unknown = UnknownCodes(1)
    assert [unknown.note(None, 0.0) for _ in range(3)] == [0, 0, 0]


def test_attempts_without_redis() -> None:
    local = LocalAttempts()
    assert local.admit(["both", "address", "link"], 0.0) == 0
    assert local.admit(["both", "address", "link"], 10.0) == attempts.LOCAL_WINDOW_SECONDS - 10
    # Another link, then another one: an address has three.
    assert [local.admit([f"both{number}", "address", f"link{number}"], 0.0) > 0 for number in range(3)] == [
        False,
        False,
        True,
    ]
    # From other addresses: a link has five.
    answers = [local.admit([f"other{number}", f"address{number}", "link"], 0.0) > 0 for number in range(5)]
    assert answers == [False] * 4 + [True]
    local.forgive(["both", "address", "link"])
    assert local.admit(["both", "address", "link"], 0.0) == 0
    assert local.admit(["both", "address", "link"], attempts.LOCAL_WINDOW_SECONDS + 0.0) == 0


@pytest.mark.parametrize("trouble", [ResponseError("OOM"), ReadOnlyError("READONLY")])
async def test_an_attempt_is_taken_back_where_it_was_counted(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis takes no write, but a script that has nothing to write there succeeds."""
    counted = Attempts(Mock(), "secret")
    refuses, forgives = AsyncMock(side_effect=trouble), AsyncMock()
    monkeypatch.setattr(counted, "_admit", refuses)
    monkeypatch.setattr(counted, "_forgive", forgives)
    for _ in range(10):
        admission = await counted.admit("abc", "203.0.113.1")
        assert admission == Admission(0, local=True)
        await counted.forgive("abc", "203.0.113.1", admission)
    forgives.assert_not_awaited()
    wrong = await counted.admit("abc", "203.0.113.1")
    refuses.side_effect, refuses.return_value = None, 0
    # What Redis counted is taken back in Redis, and nothing else.
    await counted.forgive("abc", "203.0.113.1", await counted.admit("abc", "203.0.113.1"))
    forgives.assert_awaited_once()
    refuses.side_effect = trouble
    assert wrong.wait == 0
    assert (await counted.admit("abc", "203.0.113.1")).wait > 0


@pytest.mark.parametrize("error", [asyncpg.InsufficientPrivilegeError("denied"), asyncpg.DiskFullError("full")])
async def test_a_statement_that_is_refused_is_an_outage(error: Exception) -> None:
    database = MagicMock()
    database.connection.return_value.__aenter__.side_effect = error
    counted = AsyncMock()
    counted.admit.return_value = Admission(0)
    with pytest.raises(DatabaseAwayError):
        await Passwords(database, counted, AsyncMock(), timeout=1.0).check("abc", "sesame", None)
    # Nobody looked at the password.
    counted.forgive.assert_awaited_once_with("abc", "None", Admission(0))
    assert await Previews(database, timeout=1.0)._created_at("abc") is None


async def test_a_form_that_breaks_off_is_refused() -> None:
    request = Mock(content_type=CONTENT_TYPE, content_length=20)
    request.content.iter_any.return_value.__aiter__ = Mock(side_effect=web.RequestPayloadError("broke off"))
    with pytest.raises(FormError, match="did not come whole"):
        await read_password(request)


def test_attempts_without_redis_are_strict_when_there_is_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "LOCAL_MAXIMUM_KEPT", 6)
    local = LocalAttempts()
    answers = [local.admit([f"both{number}", f"address{number}", f"link{number}"], 0.0) for number in range(3)]
    assert answers == [0, 0, attempts.LOCAL_WINDOW_SECONDS]


def test_twenty_processes_alone_allow_no_more_than_all_together() -> None:
    for alone, together in zip(attempts.LOCAL_LIMITS, attempts.LIMITS, strict=True):
        assert 20 * alone / attempts.LOCAL_WINDOW_SECONDS <= together / attempts.WINDOW_SECONDS


async def test_passwords_are_checked_one_by_one_and_few_wait() -> None:
    checker = LinkPasswords(waiting=2)
    hashed = await checker.hash("open sesame")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    results = await asyncio.gather(*(checker.verify(hashed, "open sesame") for _ in range(3)), return_exceptions=True)
    assert [result for result in results if result is True] == [True, True]
    assert isinstance(results[2], BusyError)
    assert not await checker.verify(hashed, "open barley")
    assert not await checker.verify("nonsense", "open sesame")
    checker.close()


async def test_an_attempt_is_counted_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, checker = AsyncMock(), AsyncMock()
    row: dict[str, Any] | None = {"password_hash": "hash"}
    passwords = Passwords(AsyncMock(), counted, checker, timeout=1.0)

    async def find(_code: str) -> Any:
        return row

    monkeypatch.setattr(passwords, "_find_hash", find)

    async def outcome(admitted: int, verified: Any) -> tuple[Outcome, int, int]:
        counted.reset_mock()
        checker.reset_mock()
        counted.admit.return_value = Admission(admitted)
        checker.verify.side_effect = [verified]
        attempt = await passwords.check("abc", "sesame", ipaddress.ip_address("2001:db8::1"))
        return attempt.outcome, checker.verify.await_count, counted.forgive.await_count

    assert await outcome(0, True) == (Outcome.RIGHT, 1, 1)
    counted.admit.assert_awaited_once_with("abc", "2001:db8::/64")
    assert await outcome(0, False) == (Outcome.WRONG, 1, 0)
    assert await outcome(60, True) == (Outcome.TOO_MANY, 0, 0)
    assert await outcome(0, BusyError()) == (Outcome.BUSY, 1, 1)
    # Taken away meanwhile: the password, or the whole link, which then opens for no password at all.
    row = {"password_hash": None}
    assert await outcome(0, False) == (Outcome.RIGHT, 0, 1)
    row = None
    assert await outcome(0, True) == (Outcome.GONE, 0, 1)


class HashesInPostgresql:
    """PostgreSQL, which tells a password's hash when `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked = asyncio.Event()
        self.lent = self.most_lent = self.read = 0

    def connection(self, _query_type: str) -> HashesInPostgresql:
        return self

    async def __aenter__(self) -> HashesInPostgresql:
        self.lent += 1
        self.most_lent = max(self.most_lent, self.lent)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.lent -= 1

    async def fetchrow(self, _query: str, _code: str) -> dict[str, str]:
        self.read += 1
        self.asked.set()
        await self.gate.wait()
        return {"password_hash": "hash"}


async def test_many_attempts_hold_few_connections_and_those_beyond_many_none() -> None:
    database, counted, checker = HashesInPostgresql(), AsyncMock(), AsyncMock()
    counted.admit.return_value = Admission(0)
    checker.verify.return_value = True
    passwords = Passwords(database, counted, checker, timeout=5.0)  # type: ignore[arg-type] # a stand-in
    asking = [asyncio.create_task(passwords.check("abc", "sesame", None)) for _ in range(ATTEMPTS_AT_ONCE)]
    await asyncio.wait_for(database.asked.wait(), 5.0)
    assert await passwords.check("abc", "sesame", None) == Attempt(Outcome.BUSY, 1)
    assert counted.admit.await_count == ATTEMPTS_AT_ONCE, "nobody is asked for one too many"
    database.gate.set()
    assert {attempt.outcome for attempt in await asyncio.gather(*asking)} == {Outcome.RIGHT}
    assert (database.most_lent, database.read) == (READS_AT_ONCE, ATTEMPTS_AT_ONCE)
    assert (await passwords.check("abc", "sesame", None)).outcome is Outcome.RIGHT


async def test_an_attempt_over_its_limit_costs_postgresql_nothing() -> None:
    database, counted = HashesInPostgresql(), AsyncMock()
    counted.admit.return_value = Admission(60)
    passwords = Passwords(database, counted, AsyncMock(), timeout=5.0)  # type: ignore[arg-type] # a stand-in
    assert await passwords.check("abc", "sesame", None) == Attempt(Outcome.TOO_MANY, 60)
    assert database.most_lent == 0


def test_pages_say_nothing_that_is_not_escaped() -> None:
    page = pages.preview("abc", "https://x/?'\"><script>&", datetime(2026, 1, 1, tzinfo=timezone.utc))
    assert "https://x/?&#x27;&quot;&gt;&lt;script&gt;&amp;" in page
    assert "2026-01-01" in page
    assert "<script>" not in page + pages.ask_for_password("<script>")


def test_the_pages_style_is_the_one_that_their_policy_allows() -> None:

    style = re.findall("<style>(.*?)</style>", pages.ask_for_password())[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in pages.HEADERS["Content-Security-Policy"]


VARIABLES = {
    "LINKRIFT_DB_HOST": "127.0.0.1",
    "LINKRIFT_DB_USER": "nobody",
    "LINKRIFT_DB_PASSWORD": "none",
    "LINKRIFT_DB_SSL_MODE": "disable",
    "LINKRIFT_REDIS_URL": "redis://127.0.0.1:1/0",
}
KEY, PREVIOUS = "LINKRIFT_REDIRECT_PASS_KEY", "LINKRIFT_REDIRECT_PASS_PREVIOUS_KEY"


def test_keys_of_passes() -> None:
    assert read_settings(VARIABLES | {KEY: "k" * 32, PREVIOUS: "p" * 32}).pass_keys == ("k" * 32, "p" * 32)
    made_up = [read_settings(VARIABLES).pass_keys for _ in range(2)]
    assert made_up[0] != made_up[1]
    assert all(len(keys) == 1 and len(keys[0]) >= 32 for keys in made_up)
    for wrong in ({KEY: "short"}, {PREVIOUS: "p" * 32}, {"LINKRIFT_PUBLIC_HOSTS": "go.example.org/x"}):
        with pytest.raises(ConfigurationError):
            read_settings(VARIABLES | wrong)
    assert "kkkk" not in repr(read_settings(VARIABLES | {KEY: "k" * 32}))
    hosts = read_settings(VARIABLES | {"LINKRIFT_PUBLIC_HOSTS": " Go.example.org., 192.0.2.1,"}).public_hosts
    assert hosts == ("go.example.org", "192.0.2.1")
