"""Ids that tell the visitors of one day apart, and say nothing of them once the day is over.

An id is a hash of address and User-Agent with a salt that is new every day. The hosts share it through Redis, which
forgets it a day after its day; nobody stores it with the clicks.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time

from redis.asyncio import Redis

from linkrift.clicks import VISITOR_DIGITS
from linkrift.redis_client import REDIS_ERRORS, salt_key

LOG = logging.getLogger(__name__)

DAY_SECONDS = 86_400
# So long before a day begins, its salt is made: Redis may be away at midnight.
AHEAD_SECONDS = 6 * 3600
LOOK_SECONDS = 60.0
RETRY_SECONDS = 2.0
_SALT_BYTES = 16


class VisitorIds:
    """Makes the ids of visitors for the day of a salt."""

    def __init__(self, salt: bytes) -> None:
        """Prepare."""
        self.salt = salt
        # Copied for each id: the salt goes in once.
        self._salted = hashlib.blake2b(key=salt, digest_size=VISITOR_DIGITS // 2)

    def of(self, address: bytes, agent: bytes) -> str:
        """Return a visitor's id.

        Args:
            address: the visitor's own, 4 or 16 bytes.
            agent: the visitor's program, as it is stored.
        """
        hashed = self._salted.copy()
        hashed.update(address + agent)
        return hashed.hexdigest()


class VisitorSalts:
    """Has the salts of yesterday, today and soon tomorrow, as far as Redis has told them."""

    def __init__(self, redis: Redis) -> None:
        """Prepare; without a salt nobody has an id."""
        self._redis = redis
        self._ids: dict[int, VisitorIds] = {}
        self._failing = False

    def ids(self, day: int) -> VisitorIds | None:
        """Return what makes the ids of a day, counted from 1970; None: its salt is not known."""
        return self._ids.get(day)

    async def run(self) -> None:
        """Have the salts that are needed until cancelled."""
        while True:
            missing = await self.refresh(time.time())
            await asyncio.sleep(RETRY_SECONDS if missing else LOOK_SECONDS)

    async def refresh(self, now: float) -> int:
        """Get the salts that are needed now, and forget the old ones; returns how many are missing."""
        today = int(now) // DAY_SECONDS
        wanted = {today, int(now + AHEAD_SECONDS) // DAY_SECONDS}
        try:
            # Those that are here, too: Redis gives them up when its memory is full, and hosts must not differ.
            for day in sorted(wanted):
                self._ids[day] = VisitorIds(await self._salt(day, now))
            self._failing = False
        except REDIS_ERRORS as error:
            if not self._failing and wanted - self._ids.keys():
                LOG.warning("visitors cannot be told apart, Redis has no salt for them: %s", error)
            self._failing = True
        for day in [day for day in self._ids if day < today - 1]:
            del self._ids[day]
        return len(wanted - self._ids.keys())

    async def _salt(self, day: int, now: float) -> bytes:
        """Return the day's salt; whoever comes first makes it, whoever has one brings it back."""
        key = salt_key(day)
        lifetime = (day + 2) * DAY_SECONDS - int(now)
        known = self._ids.get(day)
        own = known.salt if known else secrets.token_hex(_SALT_BYTES)
        await self._redis.set(key, own, ex=lifetime, nx=True)
        salt = await self._redis.get(key)
        if not isinstance(salt, bytes) or not 0 < len(salt) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise OSError("it did not keep one")
        return salt
