"""Connections to PostgreSQL that are lent and given back.

What asyncpg's own pool lacks: while the server has no room for another connection, the ones that we have serve all; and
no connection lives for ever, so that a server that took over is found.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg

LIFE_SECONDS = 300.0
IDLE_SECONDS = 600.0
# How long we believe that the server has no room.
FULL_SECONDS = 1.0
CLOSE_SECONDS = 2.0
_RANDOM = random.SystemRandom()


class PoolBusyError(Exception):
    """All connections are in use. That says nothing of the server."""


class _Held:
    """A connection, until when it may live, and since when it is idle."""

    __slots__ = ("connection", "dies_at", "idle_since")

    def __init__(self, connection: asyncpg.Connection, dies_at: float) -> None:
        self.connection = connection
        self.dies_at = dies_at
        self.idle_since = 0.0


class Pool:
    """Up to `maximum` connections, made when they are needed; the one used last is lent first."""

    def __init__(self, connect: Callable[[float], Awaitable[asyncpg.Connection]], maximum: int) -> None:
        """Prepare.

        Args:
            connect: makes a connection within so many seconds.
            maximum: connections that may be open.
        """
        self._connect = connect
        self._maximum = maximum
        self._connecting = 0
        self._idle: list[_Held] = []
        self._lent: dict[asyncpg.Connection, _Held] = {}
        # Each gets a connection, or None: there is room for a new one.
        self._waiting: deque[asyncio.Future[_Held | None]] = deque()
        self._full_until = 0.0
        self._closed = False
        self._all_back = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def lent(self) -> int:
        """How many connections are in use."""
        return len(self._lent)

    async def acquire(self, timeout: float) -> asyncpg.Connection:
        """Lend a connection.

        Args:
            timeout: seconds this may take.

        Raises:
            PoolBusyError: none was free in time.
            asyncio.TimeoutError: the server did not answer.
            asyncpg.TooManyConnectionsError: the server has no room, and we have no connection.
            asyncpg.InterfaceError: the pool is closed.
            OSError, asyncpg.PostgresError: what connecting ended with.
        """
        deadline = time.monotonic() + timeout
        while not self._closed:
            held = self._take_idle()
            if held is None and self._has_room():
                held = await self._open(deadline)
            elif held is None:
                held = await self._wait(deadline)
            if held is not None:
                self._lent[held.connection] = held
                return held.connection
        raise asyncpg.InterfaceError("the pool is closed")

    def release(self, connection: asyncpg.Connection, *, usable: bool) -> None:
        """Take a connection back.

        Args:
            connection: from `acquire`.
            usable: nothing on it was left unfinished.
        """
        held = self._lent.pop(connection)
        if self._closed and not self._lent:
            self._all_back.set()
        if not usable or self._closed or connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
            self._hand_over(None)
        elif held.dies_at < time.monotonic():
            self._end(held)
            self._hand_over(None)
        elif not self._hand_over(held):
            held.idle_since = time.monotonic()
            self._idle.append(held)

    def expire(self) -> None:
        """Make new connections from now on; those in use end when they are given back."""
        for held in self._lent.values():
            held.dies_at = 0.0
        for held in self._idle:
            self._end(held)
        self._idle.clear()

    async def close(self, deadline_seconds: float) -> None:
        """Close all connections; those still in use after the deadline are cut."""
        self._closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        if self._lent:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._all_back.wait(), deadline_seconds)
        for connection in self._lent:
            connection.terminate()
        self.expire()
        if self._closing:
            await asyncio.wait(self._closing)

    def _has_room(self) -> bool:
        used = self._connecting + len(self._lent) + len(self._idle)
        return used < self._maximum and (used == 0 or time.monotonic() >= self._full_until)

    def _take_idle(self) -> _Held | None:
        now = time.monotonic()
        while self._idle and self._idle[0].idle_since < now - IDLE_SECONDS:
            self._end(self._idle.pop(0))
        while self._idle:
            held = self._idle.pop()
            if held.dies_at < now:
                self._end(held)
            elif not held.connection.is_closed():
                return held
        return None

    async def _open(self, deadline: float) -> _Held | None:
        """Make a connection; None: the server has no room, but we have some."""
        self._connecting += 1
        try:
            connection = await self._connect(max(0.001, deadline - time.monotonic()))
        except asyncpg.TooManyConnectionsError:
            if not self._lent and not self._idle:
                raise
            self._full_until = time.monotonic() + FULL_SECONDS
            return None
        except BaseException:
            self._hand_over(None)
            raise
        finally:
            self._connecting -= 1
        # Not all at once.
        return _Held(connection, time.monotonic() + LIFE_SECONDS * _RANDOM.uniform(0.8, 1.0))

    async def _wait(self, deadline: float) -> _Held | None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[_Held | None] = loop.create_future()
        self._waiting.append(waiter)
        # Not wait_for: before Python 3.12 it loses a cancellation that meets the result.
        timer = loop.call_later(max(0.001, deadline - time.monotonic()), _give_up, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # It came in the moment in which we gave up.
                self._pass_on(waiter.result())
            raise
        finally:
            timer.cancel()
            with suppress(ValueError):
                self._waiting.remove(waiter)

    def _hand_over(self, held: _Held | None) -> bool:
        """Give a connection, or room for one, to who waits longest; False: nobody does."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                if held is not None:
                    self._lent[held.connection] = held
                waiter.set_result(held)
                return True
        return False

    def _pass_on(self, held: _Held | None) -> None:
        if held is not None:
            del self._lent[held.connection]
        if not self._hand_over(held) and held is not None:
            held.idle_since = time.monotonic()
            self._idle.append(held)

    def _end(self, held: _Held) -> None:
        """Close a connection in good order, while nobody waits for that."""
        task = asyncio.get_running_loop().create_task(_close(held.connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _give_up(waiter: asyncio.Future[_Held | None]) -> None:
    if not waiter.done():
        waiter.set_exception(PoolBusyError("all connections are in use"))


async def _close(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except (OSError, asyncio.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
