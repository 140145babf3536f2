"""The Redis stream of click events, as a worker uses it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from linkrift.clicks import FIELD, Click, MalformedEventError, decode
from linkrift.redis_client import CLICK_STREAM, DEAD_CLICK_STREAM, WORKER_GROUP

# Of the entries that are set aside, about the newest this many are kept.
DEAD_ENTRIES = 10_000
_PENDING_AT_ONCE = 100
_NO_ID = "0-1"  # no entry that Redis made has it
# After all that Redis makes. Not the greatest one: Redis takes that for ">", and hands out new entries.
_LATE_ID = "18446744073709551615-0"


@dataclass(frozen=True)
class StreamEntry:
    """An entry of the stream; what cannot be read of it is in `rejected`, each with the reason."""

    id: bytes
    clicks: list[Click]
    rejected: list[tuple[str, str]] = field(default_factory=list)


class ClickQueue:
    """Takes entries as one consumer of the group. Each call may raise RedisError or OSError.

    Entries that other consumers took and never acknowledged are found by XPENDING and taken by XCLAIM: XAUTOCLAIM,
    which does both, is not in Redis 6.0 (Ubuntu 22.04).
    """

    def __init__(self, redis: Redis, consumer: str) -> None:
        """Prepare.

        Args:
            redis: its timeout must be longer than `read` waits.
            consumer: the name of this consumer; it is the same after a restart, so that it finds what it had taken.
        """
        self._redis = redis
        self._consumer = consumer

    async def open(self) -> None:
        """Make the consumer group, if it is not there; it begins with the oldest entry."""
        # Looked for first: a Redis that is full lets nobody make anything, though what fills it may be what waits here.
        try:
            await self._redis.xpending(CLICK_STREAM, WORKER_GROUP)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
        else:
            return
        try:
            await self._redis.xgroup_create(CLICK_STREAM, WORKER_GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def read(self, count: int, wait_seconds: float) -> list[StreamEntry]:
        """Take new entries, waiting for the first one."""
        answer = await self._redis.xreadgroup(
            WORKER_GROUP, self._consumer, {CLICK_STREAM: ">"}, count=count, block=max(1, int(wait_seconds * 1000))
        )
        return _entries(answer)

    async def read_own(self, count: int, after: bytes) -> list[StreamEntry]:
        """Return entries that this consumer took before and did not acknowledge."""
        answer = await self._redis.xreadgroup(WORKER_GROUP, self._consumer, {CLICK_STREAM: after}, count=count)
        return _entries(answer)

    async def reclaim(self, idle_seconds: float, count: int) -> list[StreamEntry]:
        """Take entries over that others took at least `idle_seconds` ago."""
        idle_ms = int(idle_seconds * 1000)
        idle: list[Any] = []
        # Consumer by consumer: what one has, were it this one, must not hide what another one left.
        for name in await self._others():
            pending = cast(
                "list[dict[str, Any]]",
                await self._redis.xpending_range(CLICK_STREAM, WORKER_GROUP, "-", "+", _PENDING_AT_ONCE, name),
            )
            idle += [entry["message_id"] for entry in pending if entry["time_since_delivered"] >= idle_ms]
            if len(idle) >= count:
                break
        if not idle:
            return []
        claimed = await self._redis.xclaim(CLICK_STREAM, WORKER_GROUP, self._consumer, idle_ms, idle[:count])
        return _entries([[CLICK_STREAM, claimed]])

    async def _others(self) -> list[str]:
        """Return the names of the other consumers that took entries and did not acknowledge them."""
        summary = await self._redis.xpending(CLICK_STREAM, WORKER_GROUP)
        names = [consumer["name"].decode() for consumer in summary["consumers"]]
        return [name for name in names if name != self._consumer]

    async def acknowledge(self, entries: Sequence[StreamEntry]) -> None:
        """Take entries out of the stream for good.

        In no transaction: a Redis that is full begins none, and this is what makes room. So the entries go first, which
        are stored; one of them that is acknowledged by nobody, since this broke off, is found again and is empty.
        """
        ids = [entry.id for entry in entries]
        async with self._redis.pipeline(transaction=False) as pipeline:
            # This is the only group: what it has acknowledged nobody needs.
            pipeline.xdel(CLICK_STREAM, *ids)
            pipeline.xack(CLICK_STREAM, WORKER_GROUP, *ids)
            await pipeline.execute()

    async def set_aside(self, entries: Sequence[StreamEntry]) -> int:
        """Keep what cannot be read, with the reason, for a person to look at; returns how many events that were."""
        rejected = [(entry.id, content, reason) for entry in entries for content, reason in entry.rejected]
        if rejected:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for entry_id, content, reason in rejected:
                    fields: dict[Any, Any] = {"entry": entry_id, "event": content, "reason": reason}
                    pipeline.xadd(DEAD_CLICK_STREAM, fields, maxlen=DEAD_ENTRIES, approximate=True)
                await pipeline.execute()
        return len(rejected)

    async def try_out(self) -> None:
        """Do all that a batch takes, but with nothing: raises where the stream cannot be used as that needs.

        Nothing is taken: the entries that are asked for are this consumer's own, of which none is as late.
        """
        await self.open()
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xreadgroup(WORKER_GROUP, self._consumer, {CLICK_STREAM: _LATE_ID}, count=1)
            pipeline.xdel(CLICK_STREAM, _NO_ID)
            pipeline.xack(CLICK_STREAM, WORKER_GROUP, _NO_ID)
            await pipeline.execute()

    async def length(self) -> int:
        """Return how many entries are not in ClickHouse yet."""
        return int(await self._redis.xlen(CLICK_STREAM))

    async def oldest_ms(self) -> int | None:
        """Return when the oldest of them was added, in milliseconds since 1970."""
        entries = cast("list[Any]", await self._redis.xrange(CLICK_STREAM, count=1))
        return int(entries[0][0].partition(b"-")[0]) if entries else None


def _entries(answer: Any) -> list[StreamEntry]:
    """Read the answer of XREADGROUP."""
    streams = answer.items() if isinstance(answer, dict) else (answer or [])
    return [_entry(entry_id, fields) for _, entries in streams for entry_id, fields in entries if entry_id is not None]


def _entry(entry_id: bytes, fields: dict[bytes, bytes] | None) -> StreamEntry:
    if not fields:
        return StreamEntry(entry_id, [])  # deleted from the stream meanwhile
    try:
        clicks, rejected = decode(fields.get(FIELD))
    except MalformedEventError as error:
        raw = {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in fields.items()}
        return StreamEntry(entry_id, [], [(json.dumps(raw), str(error))])
    return StreamEntry(entry_id, clicks, [(json.dumps(document), reason) for document, reason in rejected])
