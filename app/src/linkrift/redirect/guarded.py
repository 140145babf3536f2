"""Answers links that have rules: a password, a maximum, a time to begin, another status, a forwarded query."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from linkrift.links import PLAIN, LinkState
from linkrift.postgres import DatabaseAwayError
from linkrift.redirect import pages
from linkrift.redirect.cache import Entry, TargetError
from linkrift.redirect.clicks_left import ClicksLeft, UncountableError
from linkrift.redirect.enumeration import Address
from linkrift.redirect.passes import Passes
from linkrift.redirect.passwords import FormError, Outcome, Passwords, is_from_our_page, read_password
from linkrift.redirect.queries import forward
from linkrift.redirect.visit import Reply, Visit
from linkrift.visitors import VisitorNetworks

LOG = logging.getLogger(__name__)

# How often a link may change between what we know and what PostgreSQL counts for, within one request.
CHANGES = 3

Capture = Callable[[web.BaseRequest, str, str, float, str], None]
"""Takes a click: request, code, request id, seconds since 1970, referrer."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A link as it is at one moment; the cache's entry may change while somebody waits."""

    location: bytes
    version: int
    gone: bool
    expires_at: float
    status: int
    password: int
    active_from: float
    limited: bool
    forward_query: bool

    @classmethod
    def of(cls, entry: Entry) -> _Known:
        rules = entry.rules or PLAIN
        return cls(
            location=entry.location,
            version=entry.version,
            gone=entry.gone,
            expires_at=entry.expires_at,
            status=rules.status,
            password=rules.password,
            active_from=rules.active_from,
            limited=rules.limited,
            forward_query=rules.forward_query,
        )


class GuardedLinks:
    """Answers links whose rules are more than leading to their target with 302."""

    def __init__(
        self,
        *,
        clicks_left: ClicksLeft,
        passwords: Passwords,
        passes: Passes,
        networks: VisitorNetworks,
        capture: Capture,
        changed: Callable[[str, int], None],
    ) -> None:
        """Prepare.

        Args:
            clicks_left: takes clicks of links that have a maximum.
            passwords: checks passwords.
            passes: what a visitor gets for one.
            networks: finds a visitor's address.
            capture: takes a click for counting.
            changed: called with a code and a version that turned out to be newer than what we knew.
        """
        self._clicks_left = clicks_left
        self._passwords = passwords
        self._passes = passes
        self._networks = networks
        self._capture = capture
        self._changed = changed

    async def follow(self, visit: Visit, entry: Entry) -> Reply:
        """Answer GET or HEAD."""
        return await self._follow(visit, _Known.of(entry))

    async def open(self, visit: Visit, entry: Entry) -> Reply:
        """Answer POST: a form with a link's password."""
        known = _Known.of(entry)
        closed = _closed(visit, known)
        if closed is not None:
            return closed
        if not known.password:
            return refuse_method(visit)
        if not is_from_our_page(visit.request):
            return visit.text("403 Forbidden", "Enter the password on the link's own page.", close=True)
        try:
            password = await read_password(visit.request)
        except FormError as error:
            return visit.text(error.status, str(error), close=True)
        try:
            attempt = await self._passwords.check(visit.code, password, self._address(visit.request))
        except DatabaseAwayError as error:
            LOG.warning("cannot check a password: %s", error, extra={"code": visit.code})
            return visit.unavailable("The password cannot be checked at the moment. Please try again.")
        wait = {"Retry-After": str(attempt.wait)}
        if attempt.outcome is Outcome.BUSY:
            return visit.page("503 Service Unavailable", pages.ask_for_password("Please try again in a moment."), wait)
        if attempt.outcome is Outcome.TOO_MANY:
            minutes = (attempt.wait + 59) // 60
            text = f"Too many attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}."
            return visit.page("429 Too Many Requests", pages.ask_for_password(text), wait)
        if attempt.outcome is Outcome.WRONG:
            return visit.page("403 Forbidden", pages.ask_for_password("This is not the password."))
        if attempt.outcome is Outcome.GONE:
            return visit.gone()
        cookie = self._passes.cookie(visit.code, known.password, time.time())
        return await self._follow(visit, known, cookie=cookie)

    async def _follow(self, visit: Visit, known: _Known, *, cookie: str = "") -> Reply:
        passed = known.password if cookie else 0
        for _ in range(CHANGES):
            refusal = _closed(visit, known)
            if refusal is not None:
                return refusal
            if known.password and known.password != passed and not self._has_pass(visit, known):
                return visit.page("200 OK", pages.ask_for_password())
            if not known.limited:
                return self._lead(visit, known, cookie)
            try:
                ask = self._clicks_left.look if visit.head else self._clicks_left.take
                left = await ask(visit.code, known.version)
            except UncountableError as error:
                LOG.warning("cannot count a click: %s", error, extra={"code": visit.code})
                return visit.unavailable("This short link cannot be counted at the moment. Please try again.")
            if isinstance(left, LinkState):
                self._changed(visit.code, left.version)
                try:
                    known = _Known.of(Entry(left, 0.0))
                except TargetError as error:
                    LOG.error("a link cannot be followed: %s", error, extra={"code": visit.code})
                    return visit.unavailable("This short link leads nowhere at the moment.")
                continue
            return self._lead(visit, known, cookie) if left else visit.gone()
        return visit.unavailable("This short link is being changed. Please try again.")

    def _lead(self, visit: Visit, known: _Known, cookie: str) -> Reply:
        """Answer with the target."""
        request = visit.request
        if visit.head:
            # Whoever only looks has not used a click, so does not learn for what.
            return visit.redirect(known.status, None if known.limited else self._target(request, known))
        form = request.method == "POST"
        # The form's own page is not where a visitor comes from.
        referrer = "" if form else request.headers.get("Referer", "")
        self._capture(request, visit.code, visit.request_id, time.time(), referrer)
        # The form's answer must not have the browser send the form on to the target.
        status = 303 if form else known.status
        return visit.redirect(status, self._target(request, known), cookie=cookie)

    @staticmethod
    def _target(request: web.BaseRequest, known: _Known) -> bytes:
        if not known.forward_query:
            return known.location
        return forward(known.location, request.raw_path.partition("?")[2])

    def _has_pass(self, visit: Visit, known: _Known) -> bool:
        cookies = "; ".join(visit.request.headers.getall("Cookie", ()))
        return self._passes.admits(cookies, visit.code, known.password, time.time())

    def _address(self, request: web.BaseRequest) -> Address | None:
        return self._networks.address(request.remote or "", ",".join(request.headers.getall("X-Forwarded-For", ())))


def refuse_method(visit: Visit) -> Reply:
    """Answer a method that nothing here takes. Its body, if it has one, is not read."""
    text = "Short links are followed with GET."
    return visit.text("405 Method Not Allowed", text, {"Allow": "GET, HEAD"}, close=True)


def _closed(visit: Visit, known: _Known) -> Reply | None:
    """Answer for a link that leads nowhere now; None: it does."""
    now = time.time()
    if known.gone or known.expires_at <= now:
        return visit.gone()
    if known.active_from > now:
        return visit.not_there()
    return None
