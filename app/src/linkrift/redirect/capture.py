"""Clicks as they are taken from a request's headers, made events at once.

Later, in the background, that takes twice as long: what a request brought has left the processor's caches by then.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache

from aiohttp import hdrs
from multidict import CIMultiDictProxy, istr

from linkrift.clicks import USER_AGENT_LENGTH, EventIds, event, field
from linkrift.redirect.buffer import ClickBuffer
from linkrift.redirect.visitor_ids import DAY_SECONDS, VisitorSalts
from linkrift.visitors import FORWARDED_FOR_LENGTH, VisitorNetworks, last_hops, referrer_host

LOG = logging.getLogger(__name__)

REFERRER_LENGTH = 1024
AGENTS_REMEMBERED = 1024

# Names that are their own small form are looked up twice as fast.
COUNTRY = istr("CF-IPCountry")

# Two letters of ISO 3166, or what Cloudflare has for networks such as Tor's.
_COUNTRY = re.compile("[A-Z][A-Z0-9]")
_NO_COUNTRY = "XX"


class ClickCapture:
    """Takes clicks while requests are answered: does nothing that could wait."""

    def __init__(
        self, clicks: ClickBuffer, ids: EventIds, networks: VisitorNetworks, visitors: VisitorSalts | None = None
    ) -> None:
        """Prepare.

        Args:
            clicks: where they go.
            ids: gives each its own.
            networks: finds the visitor's address and network.
            visitors: tells visitors apart; None: nobody does.
        """
        self._clicks = clicks
        self._ids = ids
        self._networks = networks
        self._visitors = visitors
        # Nearly all visitors have one of few programs.
        self._agent = lru_cache(maxsize=AGENTS_REMEMBERED)(_agent)
        self._failed = False

    def take(
        self, headers: CIMultiDictProxy[str], peer: str, code: str, request_id: str, now: float, referrer: str
    ) -> None:
        """Take a click.

        Args:
            headers: of the request.
            peer: address that it came from.
            code: the link's.
            request_id: of the request.
            now: seconds since 1970.
            referrer: the page that the visitor comes from, or nothing.
        """
        clicks = self._clicks
        try:
            if clicks.has_room():
                more = self._visitor(headers, peer, now, referrer)
                clicks.add(event(self._ids.one(), code, int(now * 1000), request_id, more))
            else:
                clicks.merge(code, int(now * 1000))
        except Exception:
            # Whoever followed the link gets their answer.
            clicks.drop()
            if not self._failed:
                LOG.exception("a click is lost: it cannot be made an event")
            self._failed = True

    def _visitor(self, headers: CIMultiDictProxy[str], peer: str, now: float, referrer: str) -> str:
        """Return what is kept of a visitor, as it stands in an event."""
        agent, agent_bytes = self._agent(headers.get(hdrs.USER_AGENT, "")[:USER_AGENT_LENGTH])
        more = field("referrer", referrer_host(referrer[:REFERRER_LENGTH])) + agent if referrer else agent
        forwarded_for = ",".join(headers.getall(hdrs.X_FORWARDED_FOR, ()))
        if len(forwarded_for) > FORWARDED_FOR_LENGTH:
            forwarded_for = last_hops(forwarded_for)
        address = self._networks.packed(peer, forwarded_for)
        if address is not None:
            # Digits, dots and colons: nothing to quote.
            more += f',"network":"{self._networks.network(address)}"'
            visitors = None if self._visitors is None else self._visitors.ids(int(now) // DAY_SECONDS)
            if visitors is not None:
                more += f',"visitor":"{visitors.of(address, agent_bytes)}"'
        country = headers.get(COUNTRY)
        if country and country != _NO_COUNTRY and _COUNTRY.fullmatch(country) and self._networks.trusts(peer):
            more += field("country", country)
        return more


def _agent(agent: str) -> tuple[str, bytes]:
    """Return a visitor's program as it stands in an event, and as bytes."""
    # Bytes that are no text came in as lone surrogates; they could not be stored.
    data = agent.encode("utf-8", "replace")
    return field("agent", data.decode()), data
