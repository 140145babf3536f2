"""What is kept of a visitor: the network, not the address; the referring host, not the page."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from linkrift.clicks import REFERRER_HOST_LENGTH
from linkrift.environment import Network

IPV4_PREFIX = 24
IPV6_PREFIX = 48
# Of X-Forwarded-For, the end is looked at: some dozens of hops.
FORWARDED_FOR_LENGTH = 512

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class VisitorNetworks:
    """Finds a visitor's address and network from the connection and X-Forwarded-For."""

    def __init__(
        self, trusted: tuple[Network, ...], *, ipv4_prefix: int = IPV4_PREFIX, ipv6_prefix: int = IPV6_PREFIX
    ) -> None:
        """Prepare.

        Args:
            trusted: X-Forwarded-For is believed from these networks only.
            ipv4_prefix: bits of an IPv4 address that are kept.
            ipv6_prefix: the same for IPv6.
        """
        self._trusted = trusted
        self._masks = {4: _mask(ipv4_prefix, 32), 6: _mask(ipv6_prefix, 128)}
        self._network_of = lru_cache(maxsize=8192)(self._find_network)
        # Proxies are few, and asked about for each click.
        self._proxy = lru_cache(maxsize=1024)(self._find_proxy)

    def address(self, peer: str, forwarded_for: str) -> Address | None:
        """Return the address that a request came from, or None when that cannot be told.

        It is for limits and for telling visitors apart, as long as that lasts, and is never stored or logged.

        Args:
            peer: the address that the connection came from.
            forwarded_for: the header X-Forwarded-For, all of them joined by commas; each proxy adds to the end.
        """
        address, trusted = self._proxy(peer)
        for hop in reversed(forwarded_for.split(",")):
            if not trusted:
                break
            next_address = _parse(hop.strip())
            if next_address is None:
                break
            address, trusted = next_address, self._is_trusted(next_address)
        return address

    def of(self, peer: str, forwarded_for: str) -> str:
        """Return the network that a request came from, or an empty text when that cannot be told."""
        # What is remembered must not be as long as a visitor likes.
        return self._network_of(peer, last_hops(forwarded_for))

    def network(self, address: Address) -> str:
        """Return the network of an address: that much of it is kept."""
        return str(type(address)(int(address) & self._masks[address.version]))

    def trusts(self, peer: str) -> bool:
        """Tell whether what a peer says of its visitors is believed."""
        return self._proxy(peer)[1]

    def _find_proxy(self, peer: str) -> tuple[Address | None, bool]:
        address = _parse(peer)
        return address, address is not None and self._is_trusted(address)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def _find_network(self, peer: str, forwarded_for: str) -> str:
        address = self.address(peer, forwarded_for)
        return "" if address is None else self.network(address)


def last_hops(forwarded_for: str) -> str:
    """Return the end of an X-Forwarded-For that is longer than any that is believed; hops are whole."""
    if len(forwarded_for) <= FORWARDED_FOR_LENGTH:
        return forwarded_for
    return forwarded_for[-FORWARDED_FOR_LENGTH:].partition(",")[2]


@lru_cache(maxsize=2048)
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


def _mask(prefix: int, bits: int) -> int:
    return (1 << bits) - (1 << (bits - prefix))
