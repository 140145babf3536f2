"""What counts as PostgreSQL's trouble, without PostgreSQL."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, Mock

import asyncpg
import pytest

from linkrift.breaker import FAILURES, State
from linkrift.postgres import Database, DatabaseAwayError
from linkrift.postgres_pool import PoolBusyError


def make(pool: Any) -> Database:
    database = Database(Mock(patience=1.0, connect_timeout=1.0), "test")
    database._pool = pool
    return database


async def test_waiting_for_our_own_connections_says_nothing_of_the_server() -> None:
    database = make(Mock(acquire=AsyncMock(side_effect=PoolBusyError("in use"))))
    database._breaker._note_failure(OSError())
    for _ in range(FAILURES):
        with pytest.raises(DatabaseAwayError):
            async with database.connection("test"):
                pass
    assert (database._breaker.state, database._breaker._failed) == (State.CLOSED, 1)


@pytest.mark.parametrize("error", [asyncpg.ReadOnlySQLTransactionError("x"), asyncpg.FeatureNotSupportedError("x")])
async def test_a_server_that_became_a_standby_is_left(error: Exception) -> None:
    pool = Mock(acquire=AsyncMock())
    database = make(pool)
    with pytest.raises(DatabaseAwayError):
        async with database.connection("test"):
            raise error
    pool.expire.assert_called_once()
    assert database._breaker.state is State.CLOSED
