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
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

LOG = logging.getLogger(__name__)

# A client has this long for its first request.
HEAD_SECONDS = 10.0
SWEEP_SECONDS = 1.0

# Of one field of a request's head, and of its first line: aiohttp's own limit, said here so that it stays.
MAXIMUM_FIELD = 8190
# Balancers let 64 fields through, and add some of their own.
MAXIMUM_FIELDS = 80

# A client that asks on and on without reading the answers is cut off.
UNREAD_BYTES = 256 * 1024

AtOnce = Callable[[RawRequestMessage, "Connection"], bytes | None]
"""Makes the whole answer to a request without a body, given its head and where it came; None: it takes longer."""

# What a parser returns that found no request.
_NO_REQUEST: tuple[tuple[()], bool, bytes] = ((), False, b"")


class Connection(web.RequestHandler):
    """A connection whose broken requests get the service's own answer, which repeats nothing of them.

    What can be answered at once is: while no other request of the connection waits, it is taken from the parser's
    hands, and no task, no request object and no response object is made for it. They cost more than the answer.

    Attributes:
        peer: the address that it comes from.
    """

    __slots__ = ("peer",)

    def __init__(self, server: Server, **options: Any) -> None:
        """Prepare; for the options see aiohttp's."""
        super().__init__(server, **options)
        self.peer = ""
        if server.at_once is not None:
            self._parser: Any = _Parser(self, self._parser, server.at_once)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who the peer is."""
        super().connection_made(transport)
        name = self.peername
        self.peer = str(name[0]) if isinstance(name, (list, tuple)) else str(name or "")

    def answered(self, message: RawRequestMessage, at_once: AtOnce) -> bool:
        """Answer a request that has no body, if that can be done now; tell whether it was."""
        waiter, transport = self._waiter, self.transport
        if waiter is None or waiter.done() or self._messages or transport is None or transport.is_closing():
            return False
        try:
            answer = at_once(message, self)
        except Exception:
            # The handler may do better, and has an answer for what fails there, too.
            LOG.exception("a request could not be answered at once")
            return False
        if answer is None:
            return False
        transport.write(answer)
        if transport.get_write_buffer_size() > UNREAD_BYTES:
            transport.abort()
        self._request_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

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


class _Parser:
    """aiohttp's parser, out of whose hands requests are taken that can be answered at once."""

    __slots__ = ("_at_once", "_connection", "_parser", "message_consumed")

    def __init__(self, connection: Connection, parser: Any, at_once: AtOnce) -> None:
        self._connection = connection
        self._parser = parser
        self._at_once = at_once
        self.message_consumed = parser.message_consumed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        """Return the requests that are left, whether the protocol changes, and what belongs to the next one."""
        found: tuple[Any, bool, bytes] = self._parser.feed_data(data)
        messages, upgraded, _ = found
        # One that others follow is answered in its turn, with them.
        if len(messages) == 1 and not upgraded:
            message, payload = messages[0]
            if payload is EMPTY_PAYLOAD and self._connection.answered(message, self._at_once):
                self.message_consumed()
                return _NO_REQUEST
        return found


class Server(web.Server):
    """A server of such connections."""

    def __init__(
        self,
        handler: Callable[[Any], Awaitable[web.StreamResponse]],
        *,
        refuse: Callable[[int], web.Response],
        at_once: AtOnce | None = None,
        **options: Any,
    ) -> None:
        """Serve a handler.

        Args:
            handler: answers requests.
            refuse: makes the answer, given its status, to what is none.
            at_once: is asked before the handler.
            options: see aiohttp's.
        """
        limits = {"max_line_size": MAXIMUM_FIELD, "max_field_size": MAXIMUM_FIELD, "max_headers": MAXIMUM_FIELDS}
        super().__init__(handler, **{**limits, **options})
        self.refuse = refuse
        self.at_once = at_once

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
