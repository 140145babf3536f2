"""The worker's process: what it does when one of its tasks ends."""

from __future__ import annotations

import asyncio
import os

import pytest

from linkrift.board import Board
from linkrift.lifecycle import Process
from linkrift.release import Release
from linkrift.worker import service as service_module
from linkrift.worker.service import WorkerService
from linkrift.worker.settings import read_settings


class EndedError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("name", ["_consuming", "_counting"])
async def test_a_task_that_fails_unforeseen_ends_the_process(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(status: int) -> None:
        raise EndedError

    async def fail() -> None:
        raise KeyError("nobody knows")

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(service_module, "POLL_SECONDS", 0.001)
    variables = {
        "LINKRIFT_REDIS_URL": "redis://127.0.0.1:1/0",
        "LINKRIFT_CLICKHOUSE_HOST": "127.0.0.1",
        "LINKRIFT_CLICKHOUSE_PASSWORD": "none",
    }
    process = Process(0, Board(1), lambda: None)
    service = WorkerService(read_settings(variables), Release("1.2.3+0123456789ab", "1.2.3"), process)
    setattr(service, name, asyncio.create_task(fail()))
    with pytest.raises(EndedError):
        await asyncio.wait_for(service._watch(), 5.0)
    await service.close()
