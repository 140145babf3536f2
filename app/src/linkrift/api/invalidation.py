"""Tells the redirect service that a link changed: puts the new state into Redis and publishes the code."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from linkrift import metrics
from linkrift.links import LinkState
from linkrift.redis_client import INVALIDATION_CHANNEL, REDIS_ERRORS, link_key

LOG = logging.getLogger(__name__)

TTL_SECONDS = 300
RETRY_SECONDS = 0.5
MAXIMUM_PENDING = 100_000

# Two changes of a link may arrive in the wrong order: what is newer stays. A redirect process writes only where there
# is nothing, so it cannot bring back an old state that it read before the change.
_PUT_IF_NEWER = """
local known = redis.call('GET', KEYS[1])
if known then
    local ok, link = pcall(cjson.decode, known)
    if ok and type(link) == 'table' and tonumber(link['version'] or 0) > tonumber(ARGV[2]) then
        return 0
    end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5] .. ' ' .. ARGV[2])
return 1
"""


class Invalidation:
    """Announces changed links; what Redis does not take is announced again until it does."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(_PUT_IF_NEWER)
        self._pending: dict[str, LinkState] = {}

    async def announce(self, code: str, state: LinkState) -> None:
        """Announce a change that was committed; does not fail when Redis is away."""
        try:
            await self._send(code, state)
        except REDIS_ERRORS as error:
            metrics.DEPENDENCY_ERRORS.labels("redis").inc()
            LOG.warning("a changed link is announced later: %s", error, extra={"code": code})
            known = self._pending.get(code)
            if len(self._pending) < MAXIMUM_PENDING and (known is None or known.version < state.version):
                self._pending[code] = state

    async def run(self) -> None:
        """Announce what could not be announced before, until cancelled."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            with suppress(*REDIS_ERRORS):
                await self.send_pending()

    async def send_pending(self) -> None:
        """Announce what waits.

        Raises:
            RedisError, OSError: Redis is still away.
        """
        while self._pending:
            code, state = next(iter(self._pending.items()))
            await self._send(code, state)
            if self._pending.get(code) is state:
                del self._pending[code]

    async def flush(self, deadline_seconds: float) -> None:
        """Announce what waits before the process ends, if Redis takes it; caches forget within minutes."""
        with suppress(*REDIS_ERRORS, asyncio.TimeoutError):
            await asyncio.wait_for(self.send_pending(), deadline_seconds)

    async def _send(self, code: str, state: LinkState) -> None:
        arguments: list[str | int] = [state.encode(), state.version, TTL_SECONDS, INVALIDATION_CHANNEL, code]
        try:
            await self._script(keys=[link_key(code)], args=arguments)
        except ResponseError:
            # It takes no writes: no memory, or it is a replica. Who hears the message does not believe what it holds.
            await self._redis.publish(INVALIDATION_CHANNEL, f"{code} {state.version}")
            raise
