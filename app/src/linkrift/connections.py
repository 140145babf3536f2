"""The server's side of connections that do not behave: requests that cannot be read, and clients that never send one.

Balancers let nobody through to a service before they have a whole head (`timeout http-request`), and keep quiet
connections open to send the next request on. So only a connection on which no request ever came is closed here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

LOG = logging.getLogger(__name__)

# A client has this long for its first request.
HEAD_SECONDS = 10.0
SWEEP_SECONDS = 1.0

# Of one field of a request's head, and of its first line: aiohttp's own limit, said here so that it stays.
MAXIMUM_FIELD = 8190
# Balancers let 64 fields through, and add some of their own.
MAXIMUM_FIELDS = 80


class Connection(web.RequestHandler):
    """A connection whose broken requests get the service's own answer, which repeats nothing of them."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that cannot be read, or whose handler failed, and close the connection."""
        server = self._manager
        # What was begun cannot be answered anew: the one above ends the connection.
        if not isinstance(server, Server) or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            LOG.error("a request failed", exc_info=exc)
        else:
            # Anybody may send anything: that is worth no traceback, and no copy of it.
            LOG.info("a request that cannot be read", extra={"error": type(exc).__name__})
        response = server.refuse(status)
        response.force_close()
        return response


class Server(web.Server):
    """A server of such connections."""

    def __init__(
        self,
        handler: Callable[[Any], Awaitable[web.StreamResponse]],
        *,
        refuse: Callable[[int], web.Response],
        **options: Any,
    ) -> None:
        """Serve a handler.

        Args:
            handler: answers requests.
            refuse: makes the answer, given its status, to what is none.
            options: see aiohttp's.
        """
        limits = {"max_line_size": MAXIMUM_FIELD, "max_field_size": MAXIMUM_FIELD, "max_headers": MAXIMUM_FIELDS}
        super().__init__(handler, **{**limits, **options})
        self.refuse = refuse

    def __call__(self) -> web.RequestHandler:
        """Return what serves a connection."""
        return Connection(self, loop=self._loop, **self._kwargs)


class SilentConnections:
    """Closes connections on which no request ever came, or only a part of one."""

    def __init__(self, server: Callable[[], web.Server | None], seconds: float = HEAD_SECONDS) -> None:
        """Prepare.

        Args:
            server: the server, once there is one.
            seconds: how long a client has.
        """
        self._server = server
        self._seconds = seconds
        self._since: dict[web.RequestHandler, float] = {}

    async def run(self) -> None:
        """Look after them until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep(time.monotonic())

    def sweep(self, now: float) -> int:
        """Close those that had their time and return how many they were."""
        server = self._server()
        silent = [] if server is None else [each for each in server.connections if not each._request_count]
        # Those that were closed or did send something since the last time are forgotten with this.
        self._since = {connection: self._since.get(connection, now) for connection in silent}
        late = [connection for connection, since in self._since.items() if now - since >= self._seconds]
        for connection in late:
            connection.force_close()
        return len(late)
