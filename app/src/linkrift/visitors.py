"""What is kept of a visitor: the network, not the address; the referring host, not the page."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from linkrift.clicks import REFERRER_HOST_LENGTH
from linkrift.environment import Network

IPV4_PREFIX = 24
IPV6_PREFIX = 48

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class VisitorNetworks:
    """Finds a visitor's network from the connection and X-Forwarded-For."""

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        """Believe X-Forwarded-For from these networks only."""
        self._trusted = trusted
        self.of = lru_cache(maxsize=8192)(self._of)

    def _of(self, peer: str, forwarded_for: str) -> str:
        """Return the network that a request came from, or an empty text when that cannot be told.

        Args:
            peer: the address that the connection came from.
            forwarded_for: the header X-Forwarded-For, all of them joined by commas; each proxy adds to the end.
        """
        address = self.address(peer, forwarded_for)
        return "" if address is None else _network(address)

    def address(self, peer: str, forwarded_for: str) -> Address | None:
        """Return the address that a request came from, or None when that cannot be told; arguments as above.

        It is for limits, for as long as they last, and is never stored or logged.
        """
        address = _parse(peer)
        for hop in reversed(forwarded_for.split(",")):
            if address is None or not any(address in network for network in self._trusted):
                break
            next_address = _parse(hop.strip())
            if next_address is None:
                break
            address = next_address
        return address


@lru_cache(maxsize=8192)
def referrer_host(referrer: str) -> str:
    """Return the host of a Referer header, in lower case, or an empty text."""
    try:
        host = urlsplit(referrer).hostname or ""
    except ValueError:
        return ""
    host = host.rstrip(".")
    return host if len(host) <= REFERRER_HOST_LENGTH and host.isprintable() else ""


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def _network(address: Address) -> str:
    prefix = IPV4_PREFIX if address.version == 4 else IPV6_PREFIX
    return str(ipaddress.ip_network((address, prefix), strict=False).network_address)
