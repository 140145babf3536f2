"""What is kept of a visitor: the network, not the address; the referring host, not the page."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from urllib.parse import urlsplit

from linkrift.clicks import REFERRER_HOST_LENGTH
from linkrift.environment import Network

IPV4_PREFIX = 24
IPV6_PREFIX = 48
# Of X-Forwarded-For, the end is looked at: some dozens of hops.
FORWARDED_FOR_LENGTH = 512

# By the bytes of an address.
_FAMILIES = {4: AF_INET, 16: AF_INET6}
# How an IPv4 address begins that is written as one of IPv6 (RFC 4291, 2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"

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
        # Numbers: objects for addresses would take ten times as long, and each click of a new visitor asks.
        self._trusted = {
            size: tuple(
                (int(network.netmask), int(network.network_address))
                for network in trusted
                if network.max_prefixlen == size * 8
            )
            for size in _FAMILIES
        }
        self._masks = {4: _mask(ipv4_prefix, 32), 16: _mask(ipv6_prefix, 128)}
        self._network_of = lru_cache(maxsize=8192)(self._find_network)
        # Proxies are few, and asked about for each click.
        self._proxy = lru_cache(maxsize=1024)(self._find_proxy)

    def address(self, peer: str, forwarded_for: str) -> Address | None:
        """Return the address that a request came from, or None when that cannot be told.

        It is for limits, as long as they last, and is never stored or logged.

        Args:
            peer: the address that the connection came from.
            forwarded_for: the header X-Forwarded-For, all of them joined by commas; each proxy adds to the end.
        """
        packed = self.packed(peer, forwarded_for)
        return None if packed is None else ipaddress.ip_address(packed)

    def packed(self, peer: str, forwarded_for: str) -> bytes | None:
        """Return the same as 4 or 16 bytes; it is for telling visitors apart, and never stored or logged either."""
        packed, trusted = self._proxy(peer)
        if not trusted:
            return packed
        for hop in reversed(forwarded_for.split(",")):
            next_packed = _parse(hop.strip())
            if next_packed is None:
                break
            packed = next_packed
            if not self._is_trusted(packed):
                break
        return packed

    def of(self, peer: str, forwarded_for: str) -> str:
        """Return the network that a request came from, or an empty text when that cannot be told."""
        # What is remembered must not be as long as a visitor likes.
        return self._network_of(peer, last_hops(forwarded_for))

    def network(self, packed: bytes) -> str:
        """Return the network of an address: that much of it is kept."""
        size = len(packed)
        masked = int.from_bytes(packed, "big") & self._masks[size]
        return inet_ntop(_FAMILIES[size], masked.to_bytes(size, "big"))

    def trusts(self, peer: str) -> bool:
        """Tell whether what a peer says of its visitors is believed."""
        return self._proxy(peer)[1]

    def _find_proxy(self, peer: str) -> tuple[bytes | None, bool]:
        packed = _parse(peer)
        return packed, packed is not None and self._is_trusted(packed)

    def _is_trusted(self, packed: bytes) -> bool:
        number = int.from_bytes(packed, "big")
        for mask, network in self._trusted[len(packed)]:  # noqa: SIM110 - any() takes three times as long
            if number & mask == network:
                return True
        return False

    def _find_network(self, peer: str, forwarded_for: str) -> str:
        packed = self.packed(peer, forwarded_for)
        return "" if packed is None else self.network(packed)


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


def _parse(text: str) -> bytes | None:
    """Return an address as bytes, an IPv4 address that was mapped to IPv6 as the former."""
    try:
        if ":" not in text:
            return inet_pton(AF_INET, text)
        # What follows names an interface of the machine.
        packed = inet_pton(AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed


def _mask(prefix: int, bits: int) -> int:
    return (1 << bits) - (1 << (bits - prefix))
