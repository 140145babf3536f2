"""Limits: what a bucket lets through, and what answers say about it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linkrift.api.buckets import Limit, LocalBuckets, Verdict
from linkrift.api.rate_limits import headers_of

TEN = Limit("createLink", 10, 60.0, 20)


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
    assert not buckets.take(once, "b", 4.0).allowed
    assert buckets.take(once, "a", 4.0).allowed, "it was forgotten"


def test_what_answers_say() -> None:
    assert headers_of(Verdict(TEN, True, 19, 0.0, 5.2)) == {
        "RateLimit-Policy": '"createLink";q=10;w=60;linkrift-burst=20',
        "RateLimit": '"createLink";r=19;t=6',
        "RateLimit-Limit": "20",
        "RateLimit-Remaining": "19",
        "RateLimit-Reset": "6",
    }
