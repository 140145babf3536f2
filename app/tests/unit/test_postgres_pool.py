"""Lending connections, with made-up ones."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from linkrift import postgres_pool
from linkrift.postgres_pool import Pool, PoolBusyError


class FakeConnection:
    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self.closed = False
        self.in_transaction = False
        server.open.append(self)

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        return self.in_transaction

    def terminate(self) -> None:
        if not self.closed:
            self.closed = True
            self._server.open.remove(self)

    async def close(self, timeout: float) -> None:
        await asyncio.sleep(0)
        if self._server.hangs:
            raise asyncio.TimeoutError
        self.terminate()


class FakeServer:
    """Has room for `room` connections."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.open: list[FakeConnection] = []
        self.attempts = 0
        self.most = 0
        self.hangs = False
        self.error: Exception | None = None

    async def connect(self, timeout: float) -> FakeConnection:
        self.attempts += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if len(self.open) >= self.room:
            raise asyncpg.TooManyConnectionsError("no room")
        connection = FakeConnection(self)
        self.most = max(self.most, len(self.open))
        return connection


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(postgres_pool, "time", clock)
    return clock


def make(server: FakeServer, maximum: int = 3) -> Pool:
    return Pool(server.connect, maximum)


async def use(pool: Pool, seen: list[Any], times: int = 5) -> None:
    for _ in range(times):
        connection = await pool.acquire(5.0)
        seen.append(connection)
        await asyncio.sleep(0)
        pool.release(connection, usable=True)


async def test_connections_are_used_again_and_no_more_than_there_may_be() -> None:
    server = FakeServer()
    pool = make(server)
    seen: list[Any] = []
    await asyncio.gather(*(use(pool, seen) for _ in range(20)))
    assert len(seen) == 100
    assert (server.attempts, server.most, pool.lent) == (3, 3, 0)
    # The one used last is lent first.
    one, two = await pool.acquire(1.0), await pool.acquire(1.0)
    pool.release(two, usable=True)
    pool.release(one, usable=True)
    assert await pool.acquire(1.0) is one
    await pool.close(0.0)
    assert server.open == []


async def test_who_waits_too_long_gets_none_and_takes_none_away() -> None:
    server = FakeServer()
    pool = make(server, maximum=1)
    connection = await pool.acquire(1.0)
    with pytest.raises(PoolBusyError):
        await pool.acquire(0.001)
    gone = asyncio.create_task(pool.acquire(5.0))
    waiting = asyncio.create_task(pool.acquire(5.0))
    await asyncio.sleep(0.01)
    # It is given back and the one who waited for it goes away in the same moment.
    pool.release(connection, usable=True)
    gone.cancel()
    assert await waiting is connection
    assert gone.cancelled()
    pool.release(connection, usable=True)
    assert (pool.lent, server.attempts) == (0, 1)
    await pool.close(0.0)


@pytest.mark.parametrize("trouble", ["not usable", "closed", "in a transaction"])
async def test_what_is_broken_is_not_lent_again_and_leaves_its_room(trouble: str) -> None:
    server = FakeServer()
    pool = make(server, maximum=1)
    connection: Any = await pool.acquire(1.0)
    waiting = asyncio.create_task(pool.acquire(5.0))
    await asyncio.sleep(0.01)
    if trouble == "closed":
        connection.terminate()
    connection.in_transaction = trouble == "in a transaction"
    pool.release(connection, usable=trouble != "not usable")
    another: Any = await waiting
    assert another is not connection
    assert connection.closed
    # One that ends while it is idle is not lent, either.
    pool.release(another, usable=True)
    another.terminate()
    assert await pool.acquire(1.0) is not another
    await pool.close(0.0)


async def test_without_more_room_at_the_server_all_share_what_there_is(clock: Clock) -> None:
    server = FakeServer(room=2)
    pool = make(server, maximum=10)
    seen: list[Any] = []
    await asyncio.gather(*(use(pool, seen) for _ in range(30)))
    assert len(seen) == 150
    assert len(set(seen)) == 2
    assert server.attempts <= 10, "each of the first asked once"
    before = server.attempts
    await asyncio.gather(*(use(pool, seen) for _ in range(30)))
    assert server.attempts == before
    # After a while it is tried again.
    clock.now += postgres_pool.FULL_SECONDS
    server.room = 5
    await asyncio.gather(*(use(pool, seen) for _ in range(30)))
    assert len(set(seen)) == 5
    await pool.close(0.0)


async def test_without_any_connection_the_trouble_is_told() -> None:
    server = FakeServer(room=0)
    pool = make(server, maximum=1)
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await pool.acquire(1.0)
    server.error = ConnectionRefusedError("nobody there")
    results = await asyncio.gather(*(pool.acquire(5.0) for _ in range(3)), return_exceptions=True)
    # Those who waited for room try for themselves.
    assert [type(result) for result in results] == [ConnectionRefusedError] * 3
    server.error, server.room = None, 1
    await use(pool, [])
    await pool.close(0.0)


async def test_no_connection_lives_for_ever(clock: Clock) -> None:
    server = FakeServer()
    pool = make(server)
    first: Any = await pool.acquire(1.0)
    clock.now += postgres_pool.LIFE_SECONDS
    pool.release(first, usable=True)
    second: Any = await pool.acquire(1.0)
    assert second is not first
    pool.release(second, usable=True)
    clock.now += postgres_pool.LIFE_SECONDS
    third: Any = await pool.acquire(1.0)
    assert third is not second
    pool.expire()
    pool.release(third, usable=True)
    fourth = await pool.acquire(1.0)
    assert fourth is not third
    pool.release(fourth, usable=True)
    pool.expire()
    await pool.close(1.0)
    assert [each.closed for each in (first, second, third)] == [True] * 3
    assert server.open == []


async def test_what_was_not_used_for_long_is_closed(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_pool, "LIFE_SECONDS", 1e9)
    server = FakeServer()
    pool = make(server)
    connections = [await pool.acquire(1.0) for _ in range(3)]
    pool.release(connections[0], usable=True)
    clock.now += postgres_pool.IDLE_SECONDS - 1.0
    pool.release(connections[1], usable=True)
    clock.now += 2.0
    assert await pool.acquire(1.0) is connections[1]
    await asyncio.sleep(0.01)
    assert len(server.open) == 2
    await pool.close(0.0)


async def test_closing_waits_for_what_is_in_use_and_then_cuts_it() -> None:
    server = FakeServer()
    pool = make(server, maximum=1)
    connection = await pool.acquire(1.0)
    waiting = asyncio.create_task(pool.acquire(5.0))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(pool.close(60.0))
    with pytest.raises(asyncpg.InterfaceError, match="the pool is closed"):
        await waiting
    assert not closing.done()
    pool.release(connection, usable=True)
    await closing
    assert server.open == []
    pool, server.hangs = make(server), True
    idle, used = await pool.acquire(1.0), await pool.acquire(1.0)
    pool.release(idle, usable=True)
    await pool.close(0.001)
    assert server.open == []
    pool.release(used, usable=False)
