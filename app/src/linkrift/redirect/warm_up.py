"""A new process begins with the links that were used last: a slot keeps a list of them in Redis.

PostgreSQL is asked for them, since what it says is what is; only where it is away, Redis.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence

from redis.asyncio import Redis

from linkrift.codes import is_code
from linkrift.postgres import DatabaseAwayError
from linkrift.redirect.cache import MemoryCache
from linkrift.redirect.lookup import Lookup
from linkrift.redis_client import REDIS_ERRORS

LOG = logging.getLogger(__name__)

# No code has a `#`. The services' rights in Redis are for names that begin like this.
KEY = "linkrift:link:#recent"
KEEP_SECONDS = 7 * 86400
INTERVAL_SECONDS = 60.0
DEADLINE_SECONDS = 2.0
CHUNK = 500


async def remember(redis: Redis, cache: MemoryCache, count: int) -> None:
    """Put this process's links in front of the list, which has up to `count` codes.

    Raises:
        RedisError, OSError: it is not there for the next process; no harm done.
    """
    codes = cache.recent(count)
    if codes:
        listed = dict.fromkeys(codes + await _listed(redis))
        await redis.set(KEY, " ".join(list(listed)[:count]), ex=KEEP_SECONDS)


async def keep_remembering(redis: Redis, cache: MemoryCache, count: int) -> None:
    """Do so again and again, until cancelled."""
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        try:
            await remember(redis, cache, count)
        except REDIS_ERRORS as error:
            LOG.debug("the links used last are not written down: %s", error)


async def warm_up(redis: Redis, cache: MemoryCache, lookup: Lookup, count: int) -> int:
    """Load up to `count` links of the list, the ones used last in any case, within DEADLINE_SECONDS.

    Returns:
        How many links were loaded.
    """
    began = time.monotonic()
    loaded = 0

    async def load() -> None:
        nonlocal loaded
        codes = (await _listed(redis))[:count]
        for chunk in _chunks(codes):
            loaded += await lookup.load(chunk)
            # They were used before those that are there already.
            cache.defer(chunk)

    try:
        await asyncio.wait_for(load(), DEADLINE_SECONDS)
    except (*REDIS_ERRORS, DatabaseAwayError, asyncio.TimeoutError) as error:
        LOG.warning("starting with %d links in memory: %s", loaded, str(error) or "no time left")
    except Exception:  # whatever it is: without these links we can start, too
        LOG.exception("starting with %d links in memory", loaded)
    LOG.info("links in memory", extra={"links": loaded, "duration_ms": round((time.monotonic() - began) * 1000, 3)})
    return loaded


async def _listed(redis: Redis) -> list[str]:
    data = await redis.get(KEY) or b""
    text = data if isinstance(data, str) else data.decode("ascii", "replace")
    return [code for code in text.split() if is_code(code)]


def _chunks(codes: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(codes), CHUNK):
        yield list(codes[start : start + CHUNK])
