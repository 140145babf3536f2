"""Counts requests against limits: in Redis for all processes together, or here while Redis is away.

A limit is a bucket that holds `burst` requests and is filled with `requests` in each `window`. All that is kept of a
bucket is the moment at which it will be full again (the generic cell rate algorithm), so taking from it is one number
read and one written, in one script: two processes cannot both take the last request.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

from redis.asyncio import Redis

from linkrift import metrics
from linkrift.redis_client import REDIS_ERRORS

LOG = logging.getLogger(__name__)

KEY_PREFIX = "linkrift:limit:"
# While Redis is away: so many buckets are kept here, about 2 MB; the one not used for longest goes first.
LOCAL_BUCKETS = 10_000
# What a process lets through by itself: others do the same, on other hosts, too.
LOCAL_SHARE = 2
WARN_SECONDS = 60.0

# KEYS[1]: the bucket. ARGV: microseconds that a request costs, requests that the bucket holds.
# Returns whether it was let through, how many are left, and in how many microseconds one is, and all are.
# The time is Redis' own, so that the hosts' clocks do not matter; what a clock that was set back left is capped.
_TAKE = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local cost = tonumber(ARGV[1])
local room = cost * tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1]) or 0) or 0
full = math.min(math.max(full, now), now + room)
local taken = full + cost
if taken - now > room then
    return {0, 0, taken - now - room, full - now}
end
redis.call('SET', KEYS[1], string.format('%.0f', taken), 'PX', math.ceil((taken - now) / 1000))
return {1, math.floor((room - (taken - now)) / cost), 0, taken - now}
"""


@dataclass(frozen=True)
class Limit:
    """How often something may be done.

    Attributes:
        name: what clients see.
        requests: how many in a window, in the long run.
        window: seconds.
        burst: how many at once.
    """

    name: str
    requests: int
    window: float
    burst: int

    @property
    def cost(self) -> int:
        """Microseconds in which the bucket is filled by one request."""
        return max(1, round(self.window * 1_000_000 / self.requests))


@dataclass(frozen=True)
class Verdict:
    """What came of taking a request from a bucket.

    Attributes:
        limit: the limit that it was.
        allowed: it was let through.
        remaining: how many more may come at once.
        retry_after: seconds until the next one may come; 0 when it was let through.
        full_after: seconds until the whole burst is there again.
    """

    limit: Limit
    allowed: bool
    remaining: int
    retry_after: float
    full_after: float


class Buckets:
    """Takes requests from buckets; never fails."""

    def __init__(self, redis: Redis, processes: int) -> None:
        """Prepare.

        Args:
            redis: where the buckets are.
            processes: how many processes share what is let through while Redis is away.
        """
        self._script = redis.register_script(_TAKE)
        self._local = LocalBuckets(LOCAL_BUCKETS, processes * LOCAL_SHARE)
        self._warned = float("-inf")

    async def take(self, limit: Limit, key: str) -> Verdict:
        """Take a request from a bucket, in Redis or here."""
        try:
            answer = await self._script(keys=[KEY_PREFIX + key], args=[limit.cost, limit.burst])
        except REDIS_ERRORS as error:
            self._note(error)
            return self._local.take(limit, key, time.monotonic())
        allowed, remaining, retry, full = map(int, answer)
        return Verdict(limit, bool(allowed), remaining, retry / 1e6, full / 1e6)

    def _note(self, error: Exception) -> None:
        metrics.DEPENDENCY_ERRORS.labels("redis").inc()
        if time.monotonic() - self._warned >= WARN_SECONDS:
            self._warned = time.monotonic()
            LOG.warning("requests are limited by each process for itself: %s", error)


class LocalBuckets:
    """Buckets of this process: a part of each limit, at least one request."""

    def __init__(self, size: int, share: int) -> None:
        """Keep at most `size` buckets, each with the `share`-th part of its limit."""
        self._size = size
        self._share = share
        self._full: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full)

    def take(self, limit: Limit, key: str, now: float) -> Verdict:
        """Take a request from a bucket at a time (monotonic seconds)."""
        cost = limit.cost * self._share / 1e6
        room = cost * max(1, limit.burst // self._share)
        full = max(self._full.get(key, now), now)
        taken = full + cost
        # The last request of a burst must not be lost to an error of rounding.
        if taken - now > room + cost * 1e-6:
            # Who is refused goes on asking, and must not be forgotten for it.
            self._full.move_to_end(key)
            return Verdict(limit, False, 0, taken - now - room, full - now)
        self._full[key] = taken
        self._full.move_to_end(key)
        if len(self._full) > self._size:
            self._full.popitem(last=False)
        return Verdict(limit, True, int((room - (taken - now)) / cost + 1e-6), 0.0, taken - now)
