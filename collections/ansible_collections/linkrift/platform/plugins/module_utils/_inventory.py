"""What an inventory implies: who is in which groups, at which addresses, and who may reach whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class InventoryError(ValueError):
    """The inventory lacks something, or says something impossible; the message names the host or group."""


def hosts_in(names: Iterable[str], groups: Mapping[str, Sequence[str]], leaving: Iterable[str] = ()) -> list[str]:
    """Return the hosts of some groups, each once, in the groups' order. A group that does not exist has none.

    Args:
        names: names of groups.
        groups: hosts by group.
        leaving: hosts that are being removed; the others shall not know them any more.
    """
    gone = set(leaving)
    return list(dict.fromkeys(host for name in names for host in groups.get(name, ()) if host not in gone))


def staying(pattern: str, leaving: Iterable[str] = (), without: str = "") -> str:
    """Return a pattern of hosts, less some hosts.

    Args:
        pattern: of a play, such as `app_hosts:balancers`.
        leaving: hosts that are being removed.
        without: names of hosts that this run leaves out, with commas between them.
    """
    named = (name.strip() for name in str(without).split(","))
    return ":!".join([pattern, *leaving, *(name for name in named if name)])


def addresses_of(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the addresses of hosts, each host's IPv4 address before its IPv6 address.

    They are `linkrift_address` and `linkrift_address6`; where neither is given, `ansible_host`, if it is an address.

    Raises:
        InventoryError: a host has no address, or something that is none.
    """
    return list(dict.fromkeys(address for host in hosts for address in _addresses(host, hostvars[host])))


def _addresses(host: str, variables: Mapping[str, Any]) -> list[str]:
    """Return one host's addresses."""
    given = [variables.get(name) for name in ("linkrift_address", "linkrift_address6")]
    found = [str(address) for address in given if address] or [str(variables.get("ansible_host") or host)]
    try:
        return [str(ipaddress.ip_address(address)) for address in found]
    except ValueError as error:
        raise InventoryError(
            f"host {host}: {error}; set linkrift_address (and linkrift_address6) to what the other hosts reach it at"
        ) from error


def firewall_rules(
    flows: Iterable[Mapping[str, Any]],
    member_of: Iterable[str],
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    leaving: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """Return a host's firewall rules.

    Args:
        flows: who may reach whom: dictionaries of `name`, `to` (groups), `ports`, and `from` (groups) or `networks`
            (addresses, networks or `any`), or both; with a `protocol`, if it is another one than TCP.
        member_of: the groups of the host in question.
        groups: hosts by group.
        hostvars: variables by host.
        leaving: hosts that are being removed; nothing is opened to them.

    Returns:
        For each flow that leads to one of the host's groups: `name`, `ports`, `sources`, and `protocol` if it has one.

    Raises:
        InventoryError: a flow is incomplete, or a host has no address.
    """
    mine = {"all", *member_of}
    leaving = list(leaving)
    rules: list[dict[str, Any]] = []
    for flow in flows:
        unknown = set(flow) - {"name", "to", "ports", "from", "networks", "protocol"}
        missing = {"name", "to", "ports"} - set(flow)
        if unknown or missing:
            raise InventoryError(f"flow {dict(flow)}: missing {sorted(missing)}, unknown {sorted(unknown)}")
        if not mine.intersection(flow["to"]):
            continue
        sources = [*flow.get("networks", ()), *addresses_of(hosts_in(flow.get("from", ()), groups, leaving), hostvars)]
        rule = {"name": flow["name"], "ports": [int(port) for port in flow["ports"]], "sources": sources}
        rules.append({**rule, "protocol": flow["protocol"]} if flow.get("protocol") else rule)
    return rules
