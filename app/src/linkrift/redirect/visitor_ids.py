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


def visitor_id(salt: bytes, address: bytes, user_agent: str) -> str:
    """Return a visitor's id for the day of a salt.

    Args:
        salt: of the day of the click.
        address: the visitor's own, 4 or 16 bytes.
        user_agent: as it is stored.
    """
    return hashlib.blake2b(address + user_agent.encode(), key=salt, digest_size=VISITOR_DIGITS // 2).hexdigest()


class VisitorSalts:
    """Has the salts of yesterday, today and soon tomorrow, as far as Redis has told them."""

    def __init__(self, redis: Redis) -> None:
        """Prepare; without a salt nobody has an id."""
        self._redis = redis
        self._salts: dict[int, bytes] = {}
        self._failing = False

    def salt(self, day: int) -> bytes | None:
        """Return a day's salt, counted from 1970; None: it is not known."""
        return self._salts.get(day)

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
                self._salts[day] = await self._salt(day, now)
            self._failing = False
        except REDIS_ERRORS as error:
            if not self._failing and wanted - self._salts.keys():
                LOG.warning("visitors cannot be told apart, Redis has no salt for them: %s", error)
            self._failing = True
        for day in [day for day in self._salts if day < today - 1]:
            del self._salts[day]
        return len(wanted - self._salts.keys())

    async def _salt(self, day: int, now: float) -> bytes:
        """Return the day's salt; whoever comes first makes it, whoever has one brings it back."""
        key = salt_key(day)
        lifetime = (day + 2) * DAY_SECONDS - int(now)
        own = self._salts.get(day) or secrets.token_hex(_SALT_BYTES)
        await self._redis.set(key, own, ex=lifetime, nx=True)
        salt = await self._redis.get(key)
        if not isinstance(salt, bytes):
            raise OSError("it did not keep one")
        return salt
