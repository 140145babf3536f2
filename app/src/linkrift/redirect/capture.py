"""Clicks as they are taken from a request's headers."""

from __future__ import annotations

from aiohttp import hdrs
from multidict import CIMultiDictProxy, istr

from linkrift.clicks import USER_AGENT_LENGTH
from linkrift.redirect.buffer import ClickBuffer, RawClick
from linkrift.visitors import last_hops

# Together they are hardly ever longer; then none of them is cut.
SHORT_HEADERS = 512
REFERRER_LENGTH = 1024
# Longer than any country, so that what is cut is none.
COUNTRY_LENGTH = 8

# Names that are their own small form are looked up twice as fast.
COUNTRY = istr("CF-IPCountry")


class ClickCapture:
    """Takes clicks; of headers, no more than is looked at: they wait in memory."""

    def __init__(self, clicks: ClickBuffer) -> None:
        """Prepare."""
        self._clicks = clicks

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
        agent = headers.get(hdrs.USER_AGENT, "")
        forwarded_for = ",".join(headers.getall(hdrs.X_FORWARDED_FOR, ()))
        country = headers.get(COUNTRY, "")
        if len(agent) + len(referrer) + len(forwarded_for) + len(country) > SHORT_HEADERS:
            agent, referrer, country = agent[:USER_AGENT_LENGTH], referrer[:REFERRER_LENGTH], country[:COUNTRY_LENGTH]
            forwarded_for = last_hops(forwarded_for)
        self._clicks.capture(RawClick(code, now, request_id, referrer, agent, peer, forwarded_for, country))
