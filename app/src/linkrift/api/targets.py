"""Which URLs a link may lead to, and how they are kept."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote, urlsplit

import idna

MAXIMUM_LENGTH = 2048

# Everything that a URL may consist of; all else is percent-encoded, and nothing that is encoded is touched.
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class TargetError(ValueError):
    """A URL that no link may lead to; the message says why."""


def normalise(url: str, own_host: str) -> str:
    """Check a target and return it in ASCII, otherwise as it was given.

    Args:
        url: an absolute http(s) URL.
        own_host: the host of short URLs; a link there could lead to itself.

    Raises:
        TargetError: it cannot be a target.
    """
    url = url.strip(" ")
    if not url or len(url) > MAXIMUM_LENGTH:
        raise TargetError(f"must have 1 to {MAXIMUM_LENGTH} characters")
    if any(ord(character) < 0x20 or 0x7F <= ord(character) <= 0x9F for character in url):
        raise TargetError("must not contain control characters")
    if "\\" in url:
        # Browsers take it for a slash, others do not: the host would be a matter of opinion.
        raise TargetError("must not contain a backslash")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise TargetError("is not a URL") from error
    if parts.scheme not in ("http", "https") or not url[len(parts.scheme) :].startswith("://"):
        raise TargetError("must begin with http:// or https://")
    if not host:
        raise TargetError("must have a host")
    if "@" in parts.netloc:
        raise TargetError("must not contain a user name or password")
    if port == 0:
        raise TargetError("must not have port 0")
    ascii_host = _ipv6_host(host) if "[" in parts.netloc else _named_host(host)
    if ascii_host.rstrip(".") == own_host.lower().rstrip("."):
        raise TargetError("must not lead to this service")
    netloc = f"[{ascii_host}]" if ":" in ascii_host else ascii_host
    if port is not None:
        netloc += f":{port}"
    rest = url[len(parts.scheme) + 3 + len(parts.netloc) :]
    target = f"{parts.scheme}://{netloc}{quote(rest, safe=_PRINTABLE)}"
    if len(target) > MAXIMUM_LENGTH:
        raise TargetError(f"must have at most {MAXIMUM_LENGTH} characters once it is percent-encoded")
    return target


def _ipv6_host(host: str) -> str:
    """Return the address in brackets in its short form."""
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError as error:
        raise TargetError("has a host that is no IPv6 address") from error
    if address.scope_id is not None:
        raise TargetError("has a host that means something on one machine only")
    return str(address)


def _named_host(host: str) -> str:
    """Return a host's name or IPv4 address in ASCII."""
    if host.isascii():
        name = host
    else:
        try:
            name = idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise TargetError("has a host that is no name") from error
    labels = name.rstrip(".").split(".")
    if len(name) > 253 or not all(
        0 < len(label) <= 63 and label.replace("-", "").replace("_", "").isalnum() for label in labels
    ):
        raise TargetError("has a host that is no name")
    return name.lower()
