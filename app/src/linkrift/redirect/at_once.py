"""Links in memory that lead somewhere without further ado: nearly all requests, answered as soon as they are read."""

from __future__ import annotations

import time

from aiohttp import HttpVersion11, hdrs
from aiohttp.http_parser import RawRequestMessage

from linkrift import metrics
from linkrift.codes import CANARY
from linkrift.health import Health, State
from linkrift.lifecycle import Activity
from linkrift.redirect.answers import Answers
from linkrift.redirect.cache import MemoryCache
from linkrift.redirect.capture import ClickCapture
from linkrift.redirect.hosts import Hosts
from linkrift.redirect.tally import Tally
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
            health: tells when connections are to be closed.
            activity: is told that a visitor was here.
            answers: makes the answers.
            request_ids: ties log lines, clicks and answers together.
            capture: takes the clicks.
            tally: counts the answers.
        """
        self._links = cache.links
        self._known_hosts = hosts.known
        self._health = health
        self._activity = activity
        self._answers = answers
        self._request_ids = request_ids
        self._capture = capture.take
        self._tally = tally
        self._hits = 0

    def answer(self, message: RawRequestMessage, peer: str) -> bytes | None:
        """Return the whole answer, or None: the service is to answer.

        Args:
            message: the request's head; there is no body.
            peer: address that it came from.
        """
        code = message.path[1:]
        entry = self._links.get(code)
        # A query, another host before the path, an encoded code: all of those are in no cache.
        if entry is None or entry.rules is not None or entry.gone:
            return None
        started = time.monotonic()
        now = time.time()
        if entry.fresh_until <= started or entry.expires_at <= now:
            return None
        method = message.method
        headers = message.headers
        if (
            (method != "GET" and method != "HEAD")
            or headers.get(hdrs.HOST) not in self._known_hosts
            or message.should_close
            or message.upgrade
            or message.version is not HttpVersion11
            or self._health.state is State.DRAINING
        ):
            return None
        self._activity.last = started
        self._hits += 1
        self._links.move_to_end(code)
        request_id = self._request_ids.of(headers.get(REQUEST_ID))
        if method == "GET" and code != CANARY:
            # HEAD looks whether the link is there; a visitor follows it with GET. The canary is followed by gates.
            self._capture(headers, peer, code, request_id, now, headers.get(hdrs.REFERER, ""))
        answer = self._answers.found_head(entry.location, request_id, now)
        self._tally.add(method, 302, time.monotonic() - started)
        return answer + b"\r\n"

    def refresh_metrics(self) -> None:
        """Hand over what was counted since the last time."""
        MEMORY_HITS.inc(self._hits)
        self._hits = 0
