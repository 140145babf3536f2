# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A real HAProxy that missed a rollout: what its visitors get until it follows its hosts."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _rotation_follower as follower_code
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import parse_file
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_follower import Follower, ask_slot
from ansible_collections.linkrift.platform.tests.servers.haproxy_bench import Balancer

pytestmark = pytest.mark.servers

FAILED = ("econ", "eresp", "wretr", "wredis", "hrsp_5xx")
BLUE = {"app1-blue": "ready", "app2-blue": "ready"}
ON_GREEN = {"app1-green": "ready", "app2-green": "ready", "app1-blue": "maint", "app2-blue": "maint"}


class Away:
    """A balancer that served its hosts' blue slots, and was told nothing of green since."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self.said: list[str] = []
        self.follower = Follower(balancer.rotation({})._file, balancer.haproxy, ask_slot, self.said.append)
        self._end = threading.Event()

    def deploy(self, *warm: str) -> None:
        """Have the hosts serve green; blue is warm on some of them, and takes no work any more on the others."""
        for name, slot in self.balancer.slots.items():
            slot.health = 200 if name.endswith("green") or name.split("-")[0] in warm else 404
            slot.standing = {"live_slot": "green", "live_seconds": 5, "admitted_seconds": 6}

    def age(self, seconds: float) -> None:
        """Have the file be older than what the hosts did."""
        then = time.time() - seconds
        os.utime(self.balancer.path, (then, then))

    def states(self) -> dict[str, str]:
        return {key[1]: found.state for key, found in parse_file(self.balancer.path.read_text()).items()}

    def go(self) -> None:
        """Look as the program does, until the test is over."""
        while not self._end.wait(0.1):
            self.follower.round()

    def end(self) -> None:
        self._end.set()


@pytest.fixture
async def away(tmp_path: Path) -> AsyncIterator[Away]:
    balancer = Balancer(tmp_path)
    made = Away(balancer)
    async with balancer.serving():
        try:
            await asyncio.to_thread(balancer.apply)
            await asyncio.to_thread(balancer.start)
            await asyncio.to_thread(balancer.apply, BLUE)
            made.age(60)
            yield made
        finally:
            made.end()


async def test_balancer_that_was_down_begins_with_what_is_live(away: Away) -> None:
    balancer = away.balancer
    await asyncio.to_thread(balancer.stop)
    away.deploy("app1")
    started = time.monotonic()
    await asyncio.to_thread(away.follower.first)
    assert time.monotonic() - started < 2
    assert away.states() == ON_GREEN
    await asyncio.to_thread(balancer.start)
    async with balancer.load() as visitors:
        await asyncio.sleep(0.5)
    assert visitors.failures == []
    assert set(visitors.answers) == {"app1-green", "app2-green"}
    assert balancer.admins() == ON_GREEN


async def test_balancer_that_was_cut_off_follows_without_a_lost_request(
    away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = away.balancer
    monkeypatch.setattr(follower_code, "PATIENCE", 0.5)
    monkeypatch.setattr(follower_code, "ASK_SECONDS", 0.2)
    # Requests are under way at any moment, so also at that of the switch.
    for slot in balancer.slots.values():
        slot.delay = 0.01
    before = balancer.counters()
    async with balancer.load(rate=100) as visitors:
        following = asyncio.create_task(asyncio.to_thread(away.go))
        await asyncio.sleep(0.5)
        assert set(visitors.answers) == set(BLUE)
        away.deploy("app1", "app2")
        await asyncio.to_thread(balancer.until, lambda: away.states() == ON_GREEN)
        await asyncio.sleep(0.3)
        visitors.answers.clear()
        await asyncio.sleep(0.3)
        away.end()
        await following
    assert visitors.failures == []
    assert set(visitors.answers) == {"app1-green", "app2-green"}
    after = balancer.counters()
    assert {name: after[name] - before[name] for name in FAILED} == dict.fromkeys(FAILED, 0)
    assert balancer.admins() == ON_GREEN
    assert len(away.said) == 2


async def test_balancer_whose_slots_were_stopped_finds_the_others(away: Away) -> None:
    balancer = away.balancer
    away.deploy()
    for name in BLUE:
        await balancer.slots[name].stop()
    following = asyncio.create_task(asyncio.to_thread(away.go))
    await asyncio.to_thread(balancer.until, lambda: balancer.admins() == ON_GREEN)
    away.end()
    await following
    async with balancer.load() as visitors:
        await asyncio.sleep(0.3)
    assert visitors.failures == []
    assert away.states() == ON_GREEN
