"""Answers of the redirect path, written to the connection as they are.

aiohttp's own response objects cost a third of the whole request here, for headers that are the same every time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from linkrift.connections import UNREAD_BYTES

_TEXT = {"Content-Type": "text/plain; charset=utf-8"}


class Answer(web.StreamResponse):
    """A complete answer: head and body in one piece."""

    def __init__(self, head: bytes, body: bytes = b"", *, close: bool = False) -> None:
        """Prepare an answer.

        Args:
            head: status line and headers, each with its line end.
            body: nothing for HEAD.
            close: close the connection afterwards.
        """
        # Nothing of StreamResponse's own state is needed.
        self._whole = head, body
        self._keep_alive = not close

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the answer."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._keep_alive = self._keep_alive and bool(request.keep_alive)
        if not self._keep_alive:
            connection = b"Connection: close\r\n\r\n"
        elif request.version.minor == 0:
            connection = b"Connection: keep-alive\r\n\r\n"
        else:
            connection = b"\r\n"
        head, body = self._whole
        transport.write(head + connection + body)
        if transport.get_write_buffer_size() > UNREAD_BYTES:
            transport.abort()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: the answer is complete."""

    @property
    def keep_alive(self) -> bool | None:
        """Tell whether the connection stays open."""
        return self._keep_alive


class Answers:
    """Makes the answers with the headers that all of them have."""

    def __init__(self, version: str) -> None:
        """Prepare; `version` is the release id."""
        self._always = f"Server: linkrift\r\nX-Deployment-Version: {version}\r\n".encode("ascii")
        self._found_always = b"\r\nCache-Control: private, no-store\r\nContent-Length: 0\r\n" + self._always
        self._date = b""
        self._date_second = 0
        self._sentences: dict[str, tuple[bytes, bytes]] = {}

    def found_head(self, location: bytes, request_id: str, now: float) -> bytes:
        """302 to a target, without the line that ends it; `now` is the time in seconds since 1970."""
        return b"HTTP/1.1 302 Found\r\nLocation: " + location + self._found_always + self._tail(request_id, now)

    def found(self, location: bytes, request_id: str, now: float, *, close: bool) -> Answer:
        """302 to a target; the arguments are those of `found_head`."""
        return Answer(self.found_head(location, request_id, now), close=close)

    def redirect(
        self, status: int, location: bytes | None, request_id: str, now: float, *, close: bool, cookie: str = ""
    ) -> Answer:
        """A redirection of any kind.

        None of them is to be kept, not even 301 and 308: a link can be changed, and its clicks are counted.

        Args:
            status: 301, 302, 303, 307 or 308.
            location: the target; None: it is told to those only who follow the link.
            request_id: of the request.
            now: seconds since 1970.
            close: close the connection afterwards.
            cookie: what the visitor is to keep.
        """
        start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
        if cookie:
            start += f"\r\nSet-Cookie: {cookie}"
        if location is not None:
            return Answer(
                f"{start}\r\nLocation: ".encode("ascii") + location + self._found_always + self._tail(request_id, now),
                close=close,
            )
        return Answer(start.encode("ascii") + self._found_always + self._tail(request_id, now), close=close)

    def whole(
        self, status: str, body: str, request_id: str, *, head: bool, close: bool, headers: Mapping[str, str]
    ) -> Answer:
        """An answer with a body.

        Args:
            status: code and reason, for example `404 Not Found`.
            body: the content.
            request_id: of the request.
            head: the request was HEAD: everything but the body.
            close: close the connection afterwards.
            headers: Content-Type and others.
        """
        content = body.encode()
        start = self._start(status, content, headers) + self._tail(request_id, time.time())
        return Answer(start, b"" if head else content, close=close)

    def text(
        self, status: str, text: str, request_id: str, *, head: bool, close: bool, extra: dict[str, str] | None = None
    ) -> Answer:
        """An answer for people: one sentence. The arguments are those of `whole`, and `extra` more headers."""
        headers = {**_TEXT, **(extra or {})}
        return self.whole(status, _line(text), request_id, head=head, close=close, headers=headers)

    def sentence(self, status: str, text: str, request_id: str, now: float, *, head: bool) -> bytes:
        """The same in bytes, for a connection that stays open; there are few such sentences, made once each."""
        made = self._sentences.get(status)
        if made is None:
            content = _line(text).encode()
            made = self._sentences[status] = self._start(status, content, _TEXT), b"\r\n" + content
        start, rest = made
        return start + self._tail(request_id, now) + (b"\r\n" if head else rest)

    def _start(self, status: str, content: bytes, headers: Mapping[str, str]) -> bytes:
        """Return an answer's beginning, all of it that is the same each time."""
        everything = {
            **({"Content-Length": str(len(content))} if content or not status.startswith("204") else {}),
            "Cache-Control": "private, no-store",
            "X-Content-Type-Options": "nosniff",
            **headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in everything.items())
        return f"HTTP/1.1 {status}\r\n{lines}".encode("ascii") + self._always

    def _tail(self, request_id: str, now: float) -> bytes:
        second = int(now)
        if second != self._date_second:
            self._date_second = second
            self._date = f"Date: {formatdate(second, usegmt=True)}\r\nX-Request-ID: ".encode("ascii")
        return self._date + request_id.encode("ascii") + b"\r\n"


def _line(text: str) -> str:
    return f"{text}\n" if text and not text.endswith("\n") else text
