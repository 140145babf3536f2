"""What memory alone can answer: nearly all requests, answered as soon as they are read."""

from __future__ import annotations

import time

from aiohttp import HttpVersion11, hdrs
from aiohttp.http_parser import RawRequestMessage

from linkrift import metrics
from linkrift.codes import CANARY
from linkrift.connections import Connection
from linkrift.health import Health, State
from linkrift.lifecycle import Activity
from linkrift.redirect.answers import Answers
from linkrift.redirect.cache import Entry, MemoryCache
from linkrift.redirect.capture import ClickCapture
from linkrift.redirect.enumeration import UnknownCodes
from linkrift.redirect.hosts import Guests, Hosts
from linkrift.redirect.tally import Tally
from linkrift.redirect.visit import GONE, NOT_THERE
from linkrift.request_ids import HEADER as REQUEST_ID
from linkrift.request_ids import RequestIds

MEMORY_HITS = metrics.CACHE_HITS.labels("memory")


class AnswersAtOnce:
    """Answers what needs a look into memory only, and leaves everything that is not plain to the service."""

    def __init__(
        self,
        *,
        cache: MemoryCache,
        hosts: Hosts,
        guests: Guests,
        unknown_codes: UnknownCodes,
        health: Health,
        activity: Activity,
        answers: Answers,
        request_ids: RequestIds,
        capture: ClickCapture,
        tally: Tally,
    ) -> None:
        """Prepare.

        Args:
            cache: the links.
            hosts: tells which hosts are ours.
            guests: tells whose unknown codes are counted.
            unknown_codes: counts them.
            health: tells when connections are to be closed.
            activity: is told that a visitor was here.
            answers: makes the answers.
            request_ids: ties log lines, clicks and answers together.
            capture: takes the clicks.
            tally: counts the answers.
        """
        self._cache = cache
        self._guests = guests
        self._unknown_codes = unknown_codes
        self._known_hosts = hosts.known
        self._health = health
        self._activity = activity
        self._answers = answers
        self._request_ids = request_ids
        self._capture = capture.take
        self._tally = tally
        self._hits = 0

    def answer(self, message: RawRequestMessage, connection: Connection) -> bytes | None:
        """Return the whole answer, or None: the service is to answer.

        Args:
            message: the request's head; there is no body.
            connection: on which it came.
        """
        code = message.path[1:]
        started = time.monotonic()
        # A query, another host before the path, an encoded code: all of those are in no cache.
        entry = self._cache.links.get(code)
        if entry is None:
            if not self._cache.is_unknown(code, started):
                return None
        elif entry.rules is not None or entry.fresh_until <= started:
            return None
        method, headers = message.method, message.headers
        if (
            (method != "GET" and method != "HEAD")
            or headers.get(hdrs.HOST) not in self._known_hosts
            or message.should_close
            or message.upgrade
            or message.version is not HttpVersion11
            or self._health.state is State.DRAINING
        ):
            return None
        request_id = self._request_ids.of(headers.get(REQUEST_ID))
        if entry is None:
            reply = self._not_there(message, connection, request_id, started)
        else:
            reply = self._follow(message, connection, code, entry, request_id)
        if reply is None:
            return None
        self._activity.last = started
        self._tally.add(method, reply[0], time.monotonic() - started)
        return reply[1]

    def _follow(
        self, message: RawRequestMessage, connection: Connection, code: str, entry: Entry, request_id: str
    ) -> tuple[int, bytes]:
        """Answer from a link that is fresh."""
        self._hits += 1
        self._cache.links.move_to_end(code)
        now = time.time()
        if entry.gone or entry.expires_at <= now:
            return 410, self._answers.sentence(*GONE, request_id, now, head=message.method == "HEAD")
        if message.method == "GET" and code != CANARY:
            # HEAD looks whether the link is there; a visitor follows it with GET. The canary is followed by gates.
            headers = message.headers
            self._capture(headers, connection.peer, code, request_id, now, headers.get(hdrs.REFERER, ""))
        return 302, self._answers.found_head(entry.location, request_id, now) + b"\r\n"

    def _not_there(
        self, message: RawRequestMessage, connection: Connection, request_id: str, started: float
    ) -> tuple[int, bytes] | None:
        """Answer that there is no such link; whoever asks for one such after another is left to the service."""
        forwarded_for = ",".join(message.headers.getall(hdrs.X_FORWARDED_FOR, ()))
        address = self._guests.address(connection.peer, forwarded_for, connection.transport)
        if self._unknown_codes.wait(address, started):
            return None
        self._unknown_codes.note(address, started)
        return 404, self._answers.sentence(*NOT_THERE, request_id, time.time(), head=message.method == "HEAD")

    def refresh_metrics(self) -> None:
        """Hand over what was counted since the last time."""
        MEMORY_HITS.inc(self._hits)
        self._hits = 0
