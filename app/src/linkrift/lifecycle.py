"""One process of a service, from its first socket to its last: started, drained and closed in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from linkrift.board import Board
from linkrift.health import Health, State
from linkrift.settings import ProcessSettings

LOG = logging.getLogger(__name__)

START_SECONDS = 5.0
QUIET_SECONDS = 1.0
POLL_SECONDS = 0.05
BACKLOG = 1024


@dataclass
class Activity:
    """What visitors ask of this process; health checks and metrics are left out.

    Attributes:
        last: when the last request came, time.monotonic().
        unanswered: requests that have no answer yet.
    """

    last: float = float("-inf")
    unanswered: int = 0


class Service(Protocol):
    """What a service gives to the process that runs it."""

    health: Health
    activity: Activity

    def make_runner(self, shutdown_timeout: float) -> web.BaseRunner:
        """Return what serves its port; requests still unanswered after `shutdown_timeout` seconds are cut off."""

    async def start(self) -> None:
        """Connect to what can be reached and start background tasks; must not fail when a dependency is away."""

    async def flush(self, deadline_seconds: float) -> None:
        """Finish what requests left behind, after the last one was answered: send clicks, acknowledge batches."""

    async def close(self) -> None:
        """Close the connections to the data stores."""


@dataclass(frozen=True)
class Process:
    """One of the slot's processes.

    Attributes:
        index: from 0.
        board: where it tells the others how it does.
        report_ready: called once, when it can answer.
        lifeline: becomes readable when the parent is gone; None: there is no parent.
    """

    index: int
    board: Board
    report_ready: Callable[[], None]
    lifeline: int | None = None


def listening_socket(host: str, port: int, *, shared: bool) -> socket.socket:
    """Open the service's port.

    Args:
        host: name or address to listen on; `::` takes IPv4, too.
        port: TCP port.
        shared: let the slot's other processes listen on it, too (SO_REUSEPORT).

    Raises:
        OSError: the address is not ours or the port is taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


async def run(create: Callable[[Process], Service], settings: ProcessSettings, process: Process) -> None:
    """Run a service until it is told to stop.

    The order at the end: `/health` turns to 503; the balancers stop sending; the listener closes; the requests still
    there are answered; clicks are flushed; Redis and PostgreSQL are closed.

    Args:
        create: makes the service.
        settings: how to run.
        process: which of the slot's processes this is.
    """
    stop = _stop_event(process.lifeline)
    service = create(process)
    process.board.write(process.index, os.getpid())
    listener = listening_socket(settings.host, settings.port, shared=settings.processes > 1)
    runner = service.make_runner(settings.shutdown_timeout / 3)
    await runner.setup()
    site = web.SockSite(runner, listener, backlog=BACKLOG, ssl_context=settings.tls)
    await site.start()
    try:
        await asyncio.wait_for(service.start(), START_SECONDS)
    except asyncio.TimeoutError:
        LOG.warning("a data store did not answer within %g s; starting without it", START_SECONDS)
    keep_what_is_here()
    service.health.state = State.SERVING
    process.report_ready()
    LOG.info("serving", extra={"port": settings.port, "index": process.index})
    await stop.wait()

    LOG.info("draining")
    service.health.state = State.DRAINING
    await drained(service.activity, settings.shutdown_timeout / 3)
    await runner.cleanup()
    await service.flush(settings.shutdown_timeout / 3)
    await service.close()
    LOG.info("stopped")


def keep_what_is_here() -> None:
    """Have the garbage collector leave alone what the process started with: modules, classes, links it was warmed with.

    Going through all of it takes tens of milliseconds, in which no visitor is answered.
    """
    gc.collect()
    gc.freeze()


async def drained(activity: Activity, deadline_seconds: float) -> bool:
    """Wait until every visitor's request is answered and none came for QUIET_SECONDS.

    A slot that was taken out of rotation before passes at once. One that was not goes on answering until the
    balancers have seen its 503.

    Returns:
        False when the deadline passed first; what is still there then is answered all the same.
    """
    deadline = time.monotonic() + deadline_seconds
    while activity.unanswered or time.monotonic() - activity.last < QUIET_SECONDS:
        if time.monotonic() >= deadline:
            LOG.warning("requests kept coming for %g s while draining; closing the listener", deadline_seconds)
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def _stop_event(lifeline: int | None) -> asyncio.Event:
    """Return an event that SIGTERM, SIGINT or the parent's end sets."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if lifeline is not None:

        def parent_gone() -> None:
            loop.remove_reader(lifeline)
            stop.set()

        loop.add_reader(lifeline, parent_gone)
    return stop
