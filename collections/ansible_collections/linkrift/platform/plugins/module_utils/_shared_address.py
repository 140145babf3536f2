# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Addresses that balancers share: on which interface of a host each belongs, and what is wrong with them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class SharedAddressError(ValueError):
    """An address that a host cannot have; the message names it."""


@dataclass(frozen=True)
class Own:
    """An address that an interface of a host has.

    Attributes:
        interface: the interface's name.
        address: the address with its network.
    """

    interface: str
    address: ipaddress.IPv4Interface | ipaddress.IPv6Interface

    @property
    def alone(self) -> bool:
        """Whether it comes without a network, as keepalived adds shared addresses."""
        return self.address.network.prefixlen == self.address.max_prefixlen


def own_addresses(found: Iterable[Mapping[str, Any]]) -> list[Own]:
    """Return a host's addresses, without loopback's.

    Args:
        found: what `ip -json address show` says.
    """
    return [
        Own(str(link["ifname"]), ipaddress.ip_interface(f"{entry['local']}/{entry['prefixlen']}"))
        for link in found
        if "LOOPBACK" not in link.get("flags", [])
        for entry in link.get("addr_info", [])
        if entry.get("family") in ("inet", "inet6") and "local" in entry
    ]


def _interface_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address, own: Sequence[Own]) -> str | None:
    """The interface whose network an address is in; a link-local network is every interface's, and says nothing."""
    for one in own:
        if not one.alone and not one.address.is_link_local and address in one.address.network:
            return one.interface
    return None


def interfaces(shared: Iterable[str], found: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return each shared address with the interface of this host that it belongs on.

    Args:
        shared: IPv4 and IPv6 addresses.
        found: what `ip -json address show` says on the host.

    Returns:
        Dictionaries of `address` and `interface`, in the order given.

    Raises:
        SharedAddressError: something is no address, or in no network of the host.
    """
    own = own_addresses(found)
    placed: list[dict[str, str]] = []
    for text in shared:
        address = _parse(text)
        interface = _interface_of(address, own)
        if interface is None:
            networks = ", ".join(sorted({str(one.address.network) for one in own if not one.alone})) or "none"
            raise SharedAddressError(f"shared address {address} is in no network of this host, which has {networks}")
        placed.append({"address": str(address), "interface": interface})
    return placed


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise SharedAddressError(f"shared address {text!r} is none: it is given without a network's length") from error


def findings(
    shared: Sequence[str],
    balancers: Sequence[str],
    named: Mapping[str, Iterable[str]],
    found: Mapping[str, Iterable[Mapping[str, Any]]],
) -> list[tuple[str, str]]:
    """Return what is wrong with an installation's shared addresses.

    Args:
        shared: the addresses; none at all is never wrong.
        balancers: names of the balancers.
        named: addresses that the inventory gives each host.
        found: for each balancer that could be asked, what `ip -json address show` says there.

    Returns:
        Pairs of the host (`inventory` for what concerns none) and a sentence.
    """
    return list(_findings(shared, balancers, named, found)) if shared else []


def _findings(
    shared: Sequence[str],
    balancers: Sequence[str],
    named: Mapping[str, Iterable[str]],
    found: Mapping[str, Iterable[Mapping[str, Any]]],
) -> Iterator[tuple[str, str]]:
    if len(balancers) < 2:
        yield (
            "inventory",
            "linkrift_shared_addresses: one balancer shares with nobody; two are needed, or an empty list",
        )
    taken = {address: host for host, addresses in named.items() for address in addresses}
    for text in shared:
        try:
            address = _parse(text)
        except SharedAddressError as error:
            yield "inventory", f"linkrift_shared_addresses: {error}"
            continue
        if str(address) in taken:
            yield (
                "inventory",
                f"linkrift_shared_addresses: {address} is {taken[str(address)]}'s own; it must be nobody's",
            )
        for host in balancers:
            if host not in found:
                continue
            own = own_addresses(found[host])
            if _interface_of(address, own) is None:
                yield host, f"shared address {address} is in no network of this host"
            if any(one.address.ip == address and not one.alone for one in own):
                yield host, f"shared address {address} is set up on {host} itself; it must be nobody's own"
