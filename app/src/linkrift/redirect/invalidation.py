"""Hears of changed links: the API publishes `<code> <version>` for each. What is missed, the feed tells soon after."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from redis.asyncio import Redis

from linkrift.redirect.cache import MemoryCache
from linkrift.redirect.feed import Feed
from linkrift.redirect.lookup import Lookup
from linkrift.redis_client import INVALIDATION_CHANNEL, REDIS_ERRORS

LOG = logging.getLogger(__name__)

SILENCE_SECONDS = 2.0
RETRY_SECONDS = 0.5


async def listen(redis: Redis, cache: MemoryCache, lookup: Lookup, feed: Feed) -> None:
    """Follow the channel until cancelled."""
    away = False
    while True:
        pubsub = redis.pubsub()
        try:
            await pubsub.subscribe(INVALIDATION_CHANNEL)
            await _follow(pubsub, cache, lookup, feed)
        except REDIS_ERRORS as error:
            if not away:
                LOG.warning("cannot hear of changed links: %s", error)
        finally:
            away = True
            cache.heard = False
            await pubsub.aclose()  # type: ignore[no-untyped-call] # the library declares no types here
        await asyncio.sleep(RETRY_SECONDS)


async def _follow(pubsub: Any, cache: MemoryCache, lookup: Lookup, feed: Feed) -> None:
    """Handle messages; raises when the connection is lost or Redis has nothing to say to a ping."""
    pinged = False
    while True:
        message = await pubsub.get_message(timeout=SILENCE_SECONDS)
        if message is None:
            if pinged:
                raise TimeoutError("no answer to a ping")
            await pubsub.ping()
            pinged = True
            continue
        pinged = False
        if message["type"] == "subscribe":
            # What was announced before is lost. If PostgreSQL cannot tell, either, anything may have changed.
            if not await feed.poll():
                lookup.doubt_all()
            cache.heard = True
            LOG.info("hearing of changed links")
        elif message["type"] == "message":
            code, _, version = message["data"].decode("utf-8", "replace").partition(" ")
            if version.isascii() and version.isdecimal():
                lookup.changed(code, int(version))
            else:
                lookup.forget(code)
