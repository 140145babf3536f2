"""One process from start to stop, in this process."""

from __future__ import annotations

import asyncio
import gc
import os
import uuid

import aiohttp
import pytest
from redis.asyncio import Redis

from app.tests.servers.harness import RELEASE, eventually, variables_of
from app.tests.servers.test_programs import insert_link
from linkrift.board import Board
from linkrift.lifecycle import Process, Service, run
from linkrift.redirect.service import RedirectService
from linkrift.redirect.settings import read_settings
from tools.testing.servers import PostgresqlServer


async def test_a_process_ends_when_its_parent_does(
    environment: dict[str, str], postgresql: PostgresqlServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Clicks are sent when the process ends, or not at all.
    monkeypatch.setattr("linkrift.redirect.buffer.FLUSH_SECONDS", 3600.0)
    code = f"last-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    settings = read_settings(variables_of("redirect", environment, postgresql))
    lifeline, parent = os.pipe()
    ready = asyncio.Event()
    board = Board(1)
    services: list[Service] = []

    def create(process: Process) -> Service:
        services.append(RedirectService(settings, RELEASE, process))
        return services[0]

    running = asyncio.create_task(run(create, settings.process, Process(0, board, ready.set, lifeline)))
    await asyncio.wait_for(ready.wait(), 10.0)
    # What a process starts with is not looked through again and again while visitors wait.
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    assert board.totals().pids == (os.getpid(),)
    url = f"http://127.0.0.1:{settings.process.port}"
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/health") as response:
            assert response.status == 200
        # A request just now keeps it open for another moment, in which /health says that it is going.
        services[0].activity.last = asyncio.get_running_loop().time()
        os.close(parent)

        async def draining() -> bool:
            async with session.get(f"{url}/health") as response:
                return response.status == 503

        await eventually(draining, "/health says 503")
        async with session.get(f"{url}/nothing-here") as response:
            assert (response.status, response.headers["Connection"]) == (404, "close")
        async with session.get(f"{url}/{code}", allow_redirects=False) as response:
            assert (response.status, response.headers["Connection"]) == (302, "close")
    assert await redis.xlen("linkrift:clicks") == 0
    await asyncio.wait_for(running, 10.0)
    os.close(lifeline)
    assert await redis.xlen("linkrift:clicks") == 1
