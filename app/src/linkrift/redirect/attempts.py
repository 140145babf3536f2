"""How often a link's password may be tried: by an address for one link, by an address, and for a link altogether."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from linkrift import metrics
from linkrift.redis_client import REDIS_ERRORS, attempts_key

LOG = logging.getLogger(__name__)

WINDOW_SECONDS = 900
# An address for one link, an address for all links, a link for all addresses.
LIMITS = (5, 30, 100)

# While Redis is away each process counts for itself, stricter: even twenty of them together allow no more an hour.
LOCAL_WINDOW_SECONDS = 3600
LOCAL_LIMITS = (1, 3, 5)
LOCAL_MAXIMUM_KEPT = 10_000

# Counts an attempt with each of the counters, unless one of them is at its limit already. Answers 0, or after how many
# seconds to come back.
_ADMIT = """
for number, key in ipairs(KEYS) do
    if tonumber(redis.call('GET', key) or 0) >= tonumber(ARGV[number]) then
        local left = redis.call('TTL', key)
        if left > 0 then
            return left
        end
        redis.call('SET', key, 0, 'EX', ARGV[4])
    end
end
for _, key in ipairs(KEYS) do
    if redis.call('INCR', key) == 1 then
        redis.call('EXPIRE', key, ARGV[4])
    end
end
return 0
"""

# Takes an attempt back.
_FORGIVE = """
for _, key in ipairs(KEYS) do
    if tonumber(redis.call('GET', key) or 0) > 0 then
        redis.call('DECR', key)
    end
end
return 0
"""


@dataclass(frozen=True)
class Admission:
    """Whether an attempt may be made.

    Attributes:
        wait: 0: it may. Otherwise after how many seconds the next one may.
        local: this process alone counted it.
    """

    wait: int
    local: bool = False


class Attempts:
    """Counts attempts before the password is looked at, and takes those back that were right.

    Keys are keyed hashes: neither an address nor a code can be read in Redis.
    """

    def __init__(self, redis: Redis, secret: str) -> None:
        """Prepare; `secret` is the same in all processes of the fleet."""
        self._redis = redis
        self._admit = redis.register_script(_ADMIT)
        self._forgive = redis.register_script(_FORGIVE)
        self._secret = hashlib.sha256(b"linkrift attempts\0" + secret.encode()).digest()
        self._local = LocalAttempts()

    async def admit(self, code: str, address: str) -> Admission:
        """Count an attempt.

        Args:
            code: of the link.
            address: whose attempt it is.
        """
        keys = self._keys(code, address)
        try:
            return Admission(int(await self._admit(keys=keys, args=[*LIMITS, WINDOW_SECONDS])))
        except REDIS_ERRORS as error:
            metrics.DEPENDENCY_ERRORS.labels("redis").inc()
            LOG.warning("attempts at passwords are counted by each process alone: %s", error)
            return Admission(self._local.admit(keys, time.monotonic()), local=True)

    async def forgive(self, code: str, address: str, admission: Admission) -> None:
        """Take an attempt back, which was right, where it was counted."""
        keys = self._keys(code, address)
        if admission.local:
            self._local.forgive(keys)
            return
        try:
            await self._forgive(keys=keys)
        except REDIS_ERRORS as error:
            metrics.DEPENDENCY_ERRORS.labels("redis").inc()
            LOG.warning("an attempt that was right stays counted: %s", error)

    def _keys(self, code: str, address: str) -> list[str]:
        return [self._key(f"both\0{code}\0{address}"), self._key(f"address\0{address}"), self._key(f"link\0{code}")]

    def _key(self, text: str) -> str:
        return attempts_key(hashlib.blake2b(text.encode(), key=self._secret, digest_size=16).hexdigest())


class LocalAttempts:
    """Counts attempts in one process, for as long as nobody can count them for all."""

    def __init__(self) -> None:
        # Key → attempts, and until when they count; in the order in which they end.
        self._counters: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def admit(self, keys: Sequence[str], now: float) -> int:
        """Count an attempt with each key; the answer is how long to wait, 0 not at all. `now` is time.monotonic()."""
        while self._counters and next(iter(self._counters.values()))[1] <= now:
            self._counters.popitem(last=False)
        for key, limit in zip(keys, LOCAL_LIMITS, strict=True):
            used, until = self._counters.get(key, (0, now))
            if used >= limit:
                return math.ceil(until - now)
        if len(self._counters) + len(keys) > LOCAL_MAXIMUM_KEPT:
            # Forgetting somebody would give them new attempts.
            return LOCAL_WINDOW_SECONDS
        for key in keys:
            used, until = self._counters.get(key, (0, now + LOCAL_WINDOW_SECONDS))
            self._counters[key] = used + 1, until
        return 0

    def forgive(self, keys: Sequence[str]) -> None:
        """Take an attempt with each key back."""
        for key in keys:
            if key in self._counters:
                used, until = self._counters[key]
                self._counters[key] = max(0, used - 1), until
