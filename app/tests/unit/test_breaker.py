"""When a store is asked, and when it is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from linkrift import breaker as breaker_module
from linkrift.breaker import Breaker, BreakerOpenError, State


class StoreAwayError(Exception):
    """The store does not answer."""


class Store:
    """Answers a call as it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0
        self.probes = 0

    async def call(self, breaker: Breaker) -> None:
        with breaker.call() as asked:
            asked()
            self.calls += 1
            await self._answer()

    async def probe(self) -> None:
        self.probes += 1
        await self._answer()

    async def _answer(self) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(breaker_module, "time", clock)
    return clock


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "PROBE_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(breaker_module, "PROBE_PAUSE_MAXIMUM_SECONDS", 0.002)


def make(store: Store, patience: float = 60.0) -> Breaker:
    return Breaker("store", store.probe, (StoreAwayError,), patience=patience)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def shown(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"dependency": "store"}) or 0.0


async def fail(store: Store, breaker: Breaker, times: int) -> None:
    store.error = StoreAwayError("refused")
    for _ in range(times):
        with pytest.raises(StoreAwayError):
            await store.call(breaker)


async def test_three_failures_in_a_row_are_enough(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    breaker, opened = make(store), shown("linkrift_breaker_opened_total")
    await fail(store, breaker, 2)
    assert breaker.state is State.CLOSED
    await fail(store, breaker, 1)
    for _ in range(100):
        with pytest.raises(BreakerOpenError, match="store did not answer before"):
            await store.call(breaker)
    assert store.calls == 3
    assert shown("linkrift_breaker_opened_total") == opened + 1
    assert shown("linkrift_breaker_state") == State.OPEN
    assert "StoreAwayError: refused" in caplog.text
    await breaker.close()


async def test_an_answer_in_between_makes_them_no_row(store: Store) -> None:
    breaker = make(store)
    for _ in range(3):
        await fail(store, breaker, 2)
        store.error = None
        await store.call(breaker)
    # What the call itself is to blame for is an answer, too.
    await fail(store, breaker, 2)
    store.error = ValueError("wrong statement")
    with pytest.raises(ValueError, match="wrong statement"):
        await store.call(breaker)
    await fail(store, breaker, 2)
    assert breaker.state is State.CLOSED


async def test_only_probes_ask_until_one_is_answered(store: Store) -> None:
    breaker = make(store)
    await fail(store, breaker, 3)
    store.error = RuntimeError("of another kind")
    await until(lambda: store.probes >= 3)
    store.error, store.probes = None, 0
    store.gate.clear()
    await until(lambda: store.probes == 1)
    assert shown("linkrift_breaker_state") == State.HALF_OPEN
    with pytest.raises(BreakerOpenError):
        await store.call(breaker)
    store.gate.set()
    await until(lambda: breaker.state is State.CLOSED)
    assert shown("linkrift_breaker_state") == State.CLOSED
    await store.call(breaker)
    assert store.calls == 4
    # It has to fail three times again.
    await fail(store, breaker, 2)
    assert shown("linkrift_breaker_state") == State.CLOSED


async def test_a_probe_that_hangs_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "PROBE_SECONDS", 0.001)
    breaker = make(store)
    await fail(store, breaker, 3)
    store.error = None
    store.gate.clear()
    await until(lambda: store.probes >= 3)
    await breaker.close()
    assert breaker.state is not State.CLOSED


async def test_who_comes_after_three_that_wait_in_vain_does_not_wait(store: Store, clock: Clock) -> None:
    breaker = make(store, patience=1.0)
    for _ in range(3):
        await store.call(breaker)
    store.gate.clear()
    waiting = [asyncio.create_task(store.call(breaker)) for _ in range(3)]
    await until(lambda: store.calls == 6)
    clock.now += 2.0
    with pytest.raises(BreakerOpenError):
        await store.call(breaker)
    assert store.calls == 6
    store.gate.set()
    await asyncio.gather(*waiting)
    await until(lambda: breaker.state is State.CLOSED)


async def test_connecting_may_take_its_time(store: Store, clock: Clock) -> None:
    breaker = make(store, patience=1.0)
    with breaker.call(), breaker.call(), breaker.call():
        clock.now += 2.0
        with breaker.call():
            pass


async def test_slow_calls_are_no_sign_while_others_are_answered(store: Store, clock: Clock) -> None:
    breaker, fast = make(store, patience=1.0), Store()
    store.gate.clear()
    waiting = [asyncio.create_task(store.call(breaker)) for _ in range(3)]
    await until(lambda: store.calls == 3)
    with breaker.call():
        pass
    clock.now += 2.0
    await fast.call(breaker)
    # Nor are those that were given up by whoever asked.
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert breaker.state is State.CLOSED
    await fast.call(breaker)
