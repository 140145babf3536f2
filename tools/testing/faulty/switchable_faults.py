"""What makes a release go wrong; the builder beside this file adds it to a copy of the application.

There it is imported with the package, before any command line, and puts itself in the place of what those run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from linkrift import commands, supervisor
from linkrift.connections import AtOnce, Server
from linkrift.environment import ConfigurationError
from linkrift.health import State
from linkrift.lifecycle import Process, Service
from linkrift.release import Release

FILE = Path("/etc/linkrift-faults.json")

EXIT_STATUS = 3
POLL_SECONDS = 0.1
MIB = 1024 * 1024

SERVICES = ("api", "redirect", "worker")
FAULTS: dict[str, dict[str, Any]] = {
    "": {},
    "exit": {},
    "never_ready": {},
    "wrong_version": {"version": "0.0.0+000000000000"},
    "answers_500": {},
    "fails_after": {"seconds": 5.0},
    "ignores_sigterm": {},
    "slow_start": {"seconds": 30.0},
    "leaks": {"mib": 16.0, "most": 1024.0},
    "logs_errors": {"per_second": 1.0, "from_start": False},
    "stores_nothing": {},
}
"""The faults, and their parameters' values where the file gives none. The first one is none."""
OF_REQUESTS = ("answers_500", "fails_after")
OF_CLICKS = ("stores_nothing",)

LOG = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Create = Callable[[Any, Release, Process], Service]


@dataclass(frozen=True)
class Fault:
    """What goes wrong; without a name nothing does."""

    name: str
    parameters: dict[str, Any]


def read_fault(service: str, path: Path) -> Fault:
    """Return the fault of a service; no file means that it has none.

    Raises:
        ConfigurationError: the file is not understood.
    """
    try:
        faults = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        faults = {}
    except (OSError, ValueError) as error:
        raise ConfigurationError([f"{path}: {error}"]) from error
    if not isinstance(faults, dict) or not faults.keys() <= set(SERVICES):
        raise ConfigurationError([f"{path}: expected an object with some of {', '.join(SERVICES)}"])
    wanted = faults.get(service, {"fault": ""})
    if not isinstance(wanted, dict) or wanted.get("fault") not in FAULTS:
        raise ConfigurationError([f"{path}: {service}: expected one of the faults {', '.join(filter(None, FAULTS))}"])
    name = str(wanted["fault"])
    if service == "worker" and name in OF_REQUESTS:
        raise ConfigurationError([f"{path}: {service}: it answers no visitor, so {name} is no fault of it"])
    if service != "worker" and name in OF_CLICKS:
        raise ConfigurationError([f"{path}: {service}: it stores no clicks, so {name} is no fault of it"])
    known = FAULTS[name]
    given = {key: value for key, value in wanted.items() if key != "fault"}
    for key, value in given.items():
        if key not in known or not _is_like(value, known[key]):
            raise ConfigurationError([f"{path}: {service}: {key} is no parameter of {name}, or has a strange value"])
    return Fault(name, {**known, **given})


def _is_like(value: object, example: object) -> bool:
    """Tell whether a value is of the kind of another one; a number must be above 0."""
    if isinstance(example, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    return type(value) is type(example)


class FaultyService:
    """A service with a fault, in one of its processes."""

    def __init__(self, service: Service, fault: Fault, process: Process) -> None:
        """Prepare the fault."""
        self.health = service.health
        self.activity = service.activity
        self._service = service
        self._fault = fault
        # What is said per second is meant for the slot, not for each of its processes.
        self._is_first = process.index == 0
        self._runner: web.BaseRunner | None = None
        self._task: asyncio.Task[None] | None = None
        self._fails = fault.name == "answers_500"
        self._leaked: list[bytes] = []
        if fault.name == "never_ready":
            self.health._checks = {**self.health._checks, "fault": _fail}
        if fault.name == "stores_nothing":
            # What it tries out while it is a candidate goes another way.
            vars(service)["_consumer"]._try_insert = _store_nothing
        if fault.name == "wrong_version":
            self.health._identity["version"] = fault.parameters["version"]

    def make_runner(self, shutdown_timeout: float) -> web.BaseRunner:
        """Return what serves the port."""
        self._runner = self._service.make_runner(shutdown_timeout)
        return self._runner

    async def start(self) -> None:
        """Begin with the fault, then with the service."""
        if self._fault.name:
            # A service may be told to keep quiet about less.
            LOG.warning("this is a test: something will go wrong", extra={"fault": self._fault.name})
        if self._fault.name in OF_REQUESTS and self._runner is not None and self._runner.server is not None:
            server = self._runner.server
            server.request_handler = self._faulty(server.request_handler)
            if isinstance(server, Server) and server.at_once is not None:
                server.at_once = self._faulty_at_once(server.at_once)
        if self._fault.name == "ignores_sigterm":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
        self._task = asyncio.create_task(self._go_wrong())
        await self._service.start()

    async def flush(self, deadline_seconds: float) -> None:
        """Finish what requests left behind."""
        if self._task is not None:
            self._task.cancel()
        await self._service.flush(deadline_seconds)

    async def close(self) -> None:
        """Close the connections to the data stores."""
        await self._service.close()

    def _faulty(self, handler: Handler) -> Handler:
        # Not at the top: what it imports must not be imported before the metrics directory is set.
        from linkrift.operations import OPERATIONS_PATHS

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if not self._fails or request.path in OPERATIONS_PATHS:
                return await handler(request)
            self.activity.last = time.monotonic()
            response = web.Response(status=500, text="This release fails on purpose.\n")
            if self.health.state is State.DRAINING:
                response.force_close()
            return response

        return handle

    def _faulty_at_once(self, at_once: AtOnce) -> AtOnce:
        """Leave to the handler, which is faulty, what the service would answer without it."""
        return lambda message, connection: None if self._fails else at_once(message, connection)

    async def _go_wrong(self) -> None:
        parameters = self._fault.parameters
        while not parameters.get("from_start"):
            if self.health._admission.admitted():
                break
            await asyncio.sleep(POLL_SECONDS)
        if self._fault.name == "fails_after":
            await asyncio.sleep(parameters["seconds"])
            self._fails = True
        elif self._fault.name == "leaks" and self._is_first:
            await self._leak(parameters["mib"], parameters["most"])
        elif self._fault.name == "logs_errors" and self._is_first:
            while True:
                LOG.error("this release complains on purpose")
                await asyncio.sleep(1 / parameters["per_second"])

    async def _leak(self, mib: float, most: float) -> None:
        while sum(map(len, self._leaked)) < most * MIB:
            # Bytes that are not zero: pages nobody has written to cost no memory.
            self._leaked.append(b"\x01" * int(mib * POLL_SECONDS * MIB))
            await asyncio.sleep(POLL_SECONDS)


async def _fail() -> None:
    msg = "this release is never ready, on purpose"
    raise RuntimeError(msg)


async def _store_nothing(_block: Any) -> bool:
    return False


class DeafSupervisor(supervisor.Supervisor):
    """A parent that ignores SIGTERM."""

    def _on_stop_signal(self, number: int, frame: object) -> None:
        if number != signal.SIGTERM:
            super()._on_stop_signal(number, frame)


class FaultyProgram(commands.Program[Any]):
    """A service's command line, with the service's fault when that is to be run."""

    def serve(self) -> int:
        """Run the service until it is stopped."""
        fault = read_fault(self._name, FILE)
        if fault.name == "exit":
            print("this release ends on purpose", file=sys.stderr)
            return EXIT_STATUS
        if fault.name == "slow_start":
            # Here, where SIGTERM still ends it: a slow start shall be nothing but slow.
            time.sleep(fault.parameters["seconds"])
        if fault.name == "ignores_sigterm":
            vars(commands)["Supervisor"] = DeafSupervisor
        load = self._load

        def load_faulty() -> Create:
            create = load()
            return lambda settings, release, process: FaultyService(create(settings, release, process), fault, process)

        self._load = load_faulty
        return super().serve()


def install() -> None:
    """Take the place of the command lines' class; the services' own modules import it afterwards."""
    vars(commands)["Program"] = FaultyProgram
