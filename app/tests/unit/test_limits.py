"""Limits: what a bucket lets through, and what answers say about it."""

from __future__ import annotations

import uuid
from typing import cast

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from linkrift.api.buckets import Buckets, Limit, LocalBuckets, Verdict
from linkrift.api.problems import ApiError
from linkrift.api.rate_limits import CANARY_ACCOUNT, RateLimits, headers_of
from linkrift.api.settings import RateLimitSettings
from linkrift.api.tokens import Tokens
from linkrift.visitors import VisitorNetworks

TEN = Limit("createLink", 10, 60.0, 20)
SECRET = "made-up-secret-for-tests-0123456789"


def test_a_bucket_holds_a_burst_and_is_filled_again() -> None:
    buckets = LocalBuckets(100, 1)
    verdicts = [buckets.take(TEN, "somebody", 0.0) for _ in range(22)]
    assert [verdict.allowed for verdict in verdicts] == [True] * 20 + [False] * 2
    assert [verdict.remaining for verdict in verdicts[:3]] == [19, 18, 17]
    assert verdicts[19].remaining == 0
    assert round(verdicts[21].retry_after, 3) == 6.0
    # To be refused costs nothing.
    assert buckets.take(TEN, "somebody", 6.0).allowed
    assert not buckets.take(TEN, "somebody", 6.0).allowed
    assert buckets.take(TEN, "somebody else", 6.0).allowed
    later = buckets.take(TEN, "somebody", 6.0 + 120.0)
    assert (later.allowed, later.remaining) == (True, 19)


def test_a_process_on_its_own_lets_a_part_through_but_something() -> None:
    assert sum(LocalBuckets(100, 4).take(TEN, "x", 0.0).allowed for _ in range(1)) == 1
    buckets = LocalBuckets(100, 4)
    assert sum(buckets.take(TEN, "x", 0.0).allowed for _ in range(30)) == 5
    assert not buckets.take(TEN, "x", 23.9).allowed
    assert buckets.take(TEN, "x", 24.1).allowed
    buckets = LocalBuckets(100, 1000)
    assert sum(buckets.take(TEN, "x", 0.0).allowed for _ in range(30)) == 1


@given(st.lists(st.floats(0, 30, allow_nan=False), max_size=200), st.integers(1, 50), st.integers(1, 5))
def test_never_more_than_the_burst_and_what_was_filled_since(pauses: list[float], requests: int, burst: int) -> None:
    limit = Limit("x", requests, 60.0, requests * burst)
    buckets = LocalBuckets(10, 1)
    now, allowed = 0.0, 0
    for pause in pauses:
        now += pause
        verdict = buckets.take(limit, "x", now)
        allowed += verdict.allowed
        assert allowed <= limit.burst + now / 60.0 * requests * (1 + 1e-5) + 1e-3
        assert (verdict.retry_after == 0) == verdict.allowed
        assert 0 <= verdict.remaining < limit.burst


def test_no_request_is_lost_to_rounding() -> None:
    for requests in range(1, 300):
        limit = Limit("x", requests, 60.0, requests)
        buckets = LocalBuckets(10, 1)
        assert all(buckets.take(limit, "x", 1234567.891).allowed for _ in range(requests)), requests


def test_buckets_here_are_bounded_and_the_one_not_used_goes_first() -> None:
    buckets = LocalBuckets(2, 1)
    once = Limit("x", 1, 60.0, 1)
    assert buckets.take(once, "a", 0.0).allowed
    assert buckets.take(once, "b", 1.0).allowed
    assert not buckets.take(once, "a", 2.0).allowed
    assert buckets.take(once, "c", 3.0).allowed
    assert len(buckets) == 2
    assert not buckets.take(once, "a", 4.0).allowed, "it was asked for, although in vain"
    assert buckets.take(once, "b", 4.0).allowed, "it was forgotten"


def test_what_answers_say() -> None:
    assert headers_of(Verdict(TEN, True, 19, 0.0, 5.2)) == {
        "RateLimit-Policy": '"createLink";q=10;w=60;linkrift-burst=20',
        "RateLimit": '"createLink";r=19;t=6',
        "RateLimit-Limit": "20",
        "RateLimit-Remaining": "19",
        "RateLimit-Reset": "6",
    }


class Counted:
    """What the API counts with, without Redis."""

    def __init__(self) -> None:
        self._local = LocalBuckets(100, 1)

    async def take(self, limit: Limit, key: str) -> Verdict:
        return self._local.take(limit, key, 0.0)


class Asked:
    """Operations that may be asked for once."""

    def __init__(self) -> None:
        self._tokens = Tokens(SECRET, (), 60.0)
        once = RateLimitSettings(requests=1, writes=1, burst=1)
        self._limits = RateLimits(once, cast(Buckets, Counted()), VisitorNetworks(()), self._tokens, SECRET)

    def request(self, owner: uuid.UUID | None) -> web.Request:
        headers = {} if owner is None else {"Authorization": f"Bearer {self._tokens.issue(owner)}"}
        return make_mocked_request("GET", "/", headers=headers)

    async def __call__(self, owner: uuid.UUID | None, *, authenticated: bool) -> bool:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response()

        handler = self._limits.around("asked", answer, writes=False, authenticated=authenticated)
        try:
            await handler(self.request(owner))
        except ApiError as error:
            return error.status != 429
        return True

    async def nothing(self, owner: uuid.UUID | None) -> bool:
        try:
            await self._limits.spend_unmatched(self.request(owner))
        except ApiError as error:
            return error.status != 429
        return True


async def test_gates_of_all_hosts_ask_for_one_account_and_are_not_limited() -> None:
    asked = Asked()
    assert [await asked(CANARY_ACCOUNT, authenticated=True) for _ in range(5)] == [True] * 5
    assert [await asked(uuid.uuid4(), authenticated=True) for _ in range(2)] == [True] * 2
    somebody = uuid.uuid4()
    assert [await asked(somebody, authenticated=True) for _ in range(2)] == [True, False]
    # Where nobody is asked who they are, it is an address like any other.
    assert [await asked(CANARY_ACCOUNT, authenticated=False) for _ in range(2)] == [True, False]


async def test_a_token_does_not_lift_the_limit_of_an_address() -> None:
    asked = Asked()
    assert [await asked(uuid.uuid4(), authenticated=False) for _ in range(3)] == [True, False, False]
    assert not await asked(None, authenticated=False)
    assert [await asked.nothing(uuid.uuid4()) for _ in range(3)] == [True, False, False]
