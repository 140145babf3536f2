"""Which URLs a link may lead to, and how they are kept."""

from __future__ import annotations

from collections.abc import Collection

import ada_url

MAXIMUM_LENGTH = 2048

SCHEMES = ("http://", "https://")


class TargetError(ValueError):
    """A URL that no link may lead to; the message says why."""


def normalise(url: str, own_hosts: Collection[str]) -> str:
    """Check a target and return it as a browser would understand it (the WHATWG's URL standard), in ASCII.

    Host in small letters and punycode, IPv4 and IPv6 addresses in their one form, no default port, `..` resolved, and
    percent-encoding where something must be encoded. What is stored is what a browser would make of it, so nobody can
    read the host of a target otherwise than it does.

    Args:
        url: an absolute http(s) URL.
        own_hosts: hosts of this service, in small letters; a link there could lead to itself.

    Raises:
        TargetError: it cannot be a target.
    """
    url = url.strip(" ")
    if not url or len(url) > MAXIMUM_LENGTH:
        raise TargetError(f"must have 1 to {MAXIMUM_LENGTH} characters")
    if any(ord(character) < 0x20 or 0x7F <= ord(character) <= 0x9F for character in url):
        # Browsers leave tabs and line ends out; whoever reads the URL does not.
        raise TargetError("must not contain control characters")
    if "\\" in url:
        # Browsers take it for a slash, others do not: the host would be a matter of opinion.
        raise TargetError("must not contain a backslash")
    scheme, _, rest = url.partition("://")
    if f"{scheme.lower()}://" not in SCHEMES:
        raise TargetError("must begin with http:// or https://")
    if not rest or rest[0] in "/?#":
        raise TargetError("must have a host")
    if "@" in _authority(rest):
        raise TargetError("must not contain a user name or password")
    try:
        parsed = ada_url.URL(url)
        target, host, port = parsed.href, parsed.hostname, parsed.port
    except ValueError as error:  # half of a surrogate pair is one, too
        raise TargetError("is not a URL") from error
    if port == "0":
        raise TargetError("must not have port 0")
    _check_name(host)
    if host.rstrip(".") in own_hosts:
        raise TargetError("must not lead to this service")
    if len(target) > MAXIMUM_LENGTH:
        raise TargetError(f"must have at most {MAXIMUM_LENGTH} characters once it is percent-encoded")
    return target


def _authority(rest: str) -> str:
    """Return what stands between the scheme and the path."""
    return min((rest.partition(end)[0] for end in "/?#"), key=len)


def _check_name(host: str) -> None:
    """Refuse a host that no name server would know."""
    if host.startswith("["):
        return
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(0 < len(label) <= 63 and any(map(str.isalnum, label)) for label in labels):
        raise TargetError("has a host that is no name")
