"""For which host a request is meant: short links are answered for the configured names only."""

from __future__ import annotations

import asyncio
import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import web

from linkrift.visitors import Address, VisitorNetworks

# Different ways to write a name that is ours, such as with a port; more than these are looked at each time. The names
# themselves come on top, so that nobody who tries out ways to write them takes their place.
MAXIMUM_KNOWN = 64


class Hosts:
    """Tells requests for us from requests that only reached us.

    The addresses of the machine itself count as ours, where a request came in on them: gates, balancers' checks and
    people on the machine ask by address. A visitor's request has passed a balancer that routes by name.

    Attributes:
        known: values of the Host header that were ours before. Requests with others are not answered at once.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        """Prepare; without names every host is ours."""
        self._names = frozenset(names)
        self.known: set[str | None] = set(names)

    def ours(self, request: web.BaseRequest) -> bool:
        """Tell whether a request is meant for us. HTTP/1.1 without Host, or with two, was refused before."""
        host = request.headers.get("Host")
        if host in self.known:
            return True
        if self._names and (host is None or not self._is_ours(host, request)):
            return False
        if len(self.known) < MAXIMUM_KNOWN + len(self._names):
            self.known.add(host)
        return True

    def leads_elsewhere(self, request: web.BaseRequest) -> bool:
        """Tell whether the request line itself names a host that is not ours; it counts more than the Host header."""
        if request.raw_path.startswith("/") or not self._names:
            return False
        try:
            host = urlsplit(request.raw_path).netloc
        except ValueError:
            return True
        return bool(host) and not self._is_ours(host, request)

    def _is_ours(self, host: str, request: web.BaseRequest) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name = (parts.hostname or "").rstrip(".")
            parts.port  # noqa: B018 - raises where it is none
        except ValueError:
            return False
        if "@" in host or parts.path or parts.query or parts.fragment:
            return False
        return name in self._names or name == "localhost" or is_own_address(name, local_address(request.transport))


class Guests:
    """Tells whose requests are somebody else's than the machine's own."""

    def __init__(self, networks: VisitorNetworks) -> None:
        """Prepare; `networks` finds the address that a request came from."""
        self._networks = networks

    def address(self, peer: str, forwarded_for: str, transport: asyncio.BaseTransport | None) -> Address | None:
        """Return a visitor's address; None: it cannot be told, or is the machine's own.

        A rollout's gates ask from the machine itself, and for codes that nobody has.

        Args:
            peer: the address that the connection came from.
            forwarded_for: the header X-Forwarded-For.
            transport: of the connection.
        """
        address = self._networks.address(peer, forwarded_for)
        return None if address is None or _is_own(address, local_address(transport)) else address


def local_address(transport: asyncio.BaseTransport | None) -> str:
    """Return the address that a connection was made to; nothing where that cannot be told."""
    local = transport.get_extra_info("sockname") if transport else None
    return str(local[0]) if isinstance(local, (list, tuple)) else ""


def is_own_address(name: str, local: str) -> bool:
    """Tell whether a text is the address that the connection was made to, `local`, or any loopback address."""
    try:
        return _is_own(ipaddress.ip_address(name), local)
    except ValueError:
        return False


def _is_own(address: Address, local: str) -> bool:
    if address.is_loopback:
        return True
    own = _parse(local)
    return own is not None and address in (own, getattr(own, "ipv4_mapped", None))


@lru_cache(maxsize=64)
def _parse(local: str) -> Address | None:
    try:
        return ipaddress.ip_address(local.partition("%")[0])
    except ValueError:
        return None
