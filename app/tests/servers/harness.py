"""Runs services for tests: in this process, and as the programs that they are."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from linkrift.api.service import ApiService
from linkrift.api.settings import read_settings as read_api_settings
from linkrift.board import Board
from linkrift.health import State
from linkrift.lifecycle import Process, Service, listening_socket
from linkrift.redirect.service import RedirectService
from linkrift.redirect.settings import read_settings as read_redirect_settings
from linkrift.release import Release
from linkrift.worker.service import WorkerService
from linkrift.worker.settings import read_settings as read_worker_settings
from tools.testing.process import free_port
from tools.testing.servers import PostgresqlServer

SOURCE = Path(__file__).parents[2] / "src"
MIGRATIONS = SOURCE.parent / "migrations"
RELEASE = Release("1.2.3+0123456789ab", "1.2.3")
DEADLINE_SECONDS = 20.0
REDIS_PASSWORD = "REDIS_PASSWORD_"


def variables_of(
    service: str, environment: dict[str, str], postgresql: PostgresqlServer, **more: str
) -> dict[str, str]:
    """Return the environment of a service, with its own users of PostgreSQL and Redis."""
    role = f"linkrift_{service}"
    others = {name: value for name, value in environment.items() if not name.startswith(REDIS_PASSWORD)}
    own = {
        "LINKRIFT_REDIS_URL": environment["LINKRIFT_REDIS_URL"].replace("//", f"//{role}@"),
        "LINKRIFT_REDIS_PASSWORD": environment[REDIS_PASSWORD + role],
        "LINKRIFT_DB_USER": role,
        "LINKRIFT_DB_PASSWORD": postgresql.passwords[role],
        f"LINKRIFT_{service.upper()}_PORT": str(free_port()),
    }
    return {**others, **own, **more}


@dataclass
class Running:
    """A service in this process."""

    service: Service
    url: str
    board: Board


@asynccontextmanager
async def running(name: str, variables: dict[str, str]) -> AsyncIterator[Running]:
    """Run a service in this process, as `lifecycle.run` does, without signals."""
    board = Board(1)
    board.write(0, os.getpid())
    process = Process(0, board, lambda: None)
    service: Service
    if name == "api":
        service = ApiService(read_api_settings(variables), RELEASE, process)
    elif name == "redirect":
        service = RedirectService(read_redirect_settings(variables), RELEASE, process)
    else:
        service = WorkerService(read_worker_settings(variables), RELEASE, process)
    listener = listening_socket("127.0.0.1", 0, shared=False)
    runner = service.make_runner(2.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    await service.start()
    service.health.state = State.SERVING
    try:
        yield Running(service, f"http://127.0.0.1:{listener.getsockname()[1]}", board)
    finally:
        service.health.state = State.DRAINING
        await runner.cleanup()
        await service.flush(5.0)
        await service.close()


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = DEADLINE_SECONDS) -> float:
    """Wait until a condition holds; returns the seconds that it took."""
    started = time.monotonic()
    while not await condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)
    return time.monotonic() - started


class Program:
    """A service as a program of its own."""

    def __init__(self, name: str, variables: dict[str, str], log: Path, module: str = "") -> None:
        self.port = int(variables[f"LINKRIFT_{name.upper()}_PORT"])
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"from {module or f'linkrift.{name}.cli'} import main; main()"],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), **variables},
                stdout=stream,
                stderr=stream,
            )

    async def until_health(self, status: int, path: str = "/health") -> None:
        async with aiohttp.ClientSession() as session:

            async def answers() -> bool:
                assert self.process.poll() is None, self.log.read_text()
                try:
                    async with session.get(self.url + path) as response:
                        return response.status == status
                except aiohttp.ClientConnectionError:
                    return False

            await eventually(answers, f"{path} answers {status}: {self.log.read_text()}")

    def children(self) -> list[int]:
        """Return the ids of its processes, its own left out."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    async def stop(self) -> int:
        """Stop it as systemd does and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, DEADLINE_SECONDS)

    def kill(self) -> None:
        """Kill it, as a crash would."""
        for pid in self.children():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def program(name: str, variables: dict[str, str], log: Path, module: str = "") -> AsyncIterator[Program]:
    """Run a service as a program until the end of the block; `module` has its command line, if not its own."""
    started = Program(name, variables, log, module)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            await started.stop()
