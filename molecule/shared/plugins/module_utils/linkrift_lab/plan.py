"""Names and addresses of a lab and of its hosts, all of them derived from the lab's number.

Addresses are from 198.18.0.0/15 (RFC 2544, benchmarking) and from a unique local IPv6 prefix, so that nothing of a
lab can be mistaken for, or reach, a network of somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from .errors import LabError

BASE = Path("/var/lib/linkrift-lab")
SUITES = ("bookworm", "trixie")
NUMBERS = range(1, 250)
# Labs that did not ask for a number get one from here; the smaller ones are for labs with addresses in a file.
FREE_NUMBERS = range(16, 240)
OCTETS = range(10, 250)
USER = "ops"
# Directories of the main lab, in which the other labs have theirs.
RESERVED = ("cp", "inventory", "tls")

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_GROUP = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True)
class HostSpec:
    """What one lab host is to be.

    Attributes:
        name: Host name, unique in its lab.
        suite: Debian suite of its image.
        octet: Last byte of its IPv4 address, and its IPv6 address's last group.
        groups: Ansible groups that it is in.
        variables: Further Ansible variables of the host.
    """

    name: str
    suite: str
    octet: int
    groups: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lab:
    """One lab: a number on this machine, and everything named after it.

    Attributes:
        number: What distinguishes this lab from the others on the machine.
        name: What people call it.
        directory: Where its user keeps keys, inventory and SSH settings.
        base: Where the machine keeps images and the hosts' file systems.
    """

    number: int
    name: str
    directory: Path
    base: Path = BASE

    @property
    def bridge(self) -> str:
        """Network interface that joins the hosts."""
        return f"lr{self.number}"

    @property
    def table(self) -> str:
        """Table of nftables that holds the lab's rules."""
        return f"linkrift_lab_{self.number}"

    @property
    def network(self) -> IPv4Network:
        """IPv4 subnet."""
        return IPv4Network(f"198.18.{self.number}.0/24")

    @property
    def network6(self) -> IPv6Network:
        """IPv6 subnet."""
        return IPv6Network(f"fd6c:696e:6b72:{self.number:x}::/64")

    @property
    def gateway(self) -> IPv4Address:
        """The machine's own IPv4 address in the lab."""
        return self.network[1]

    @property
    def gateway6(self) -> IPv6Address:
        """The machine's own IPv6 address in the lab."""
        return self.network6[1]

    @property
    def state(self) -> Path:
        """Where the hosts' file systems and process ids are."""
        return self.base / "labs" / str(self.number)

    def address(self, host: HostSpec) -> IPv4Address:
        """IPv4 address of a host."""
        return self.network[host.octet]

    def address6(self, host: HostSpec) -> IPv6Address:
        """IPv6 address of a host; it reads like the IPv4 one: ::15 beside .15."""
        return IPv6Address(f"{self.network6.network_address}{host.octet}")

    def machine(self, host: str) -> str:
        """Name by which systemd-nspawn knows a host; unique on this machine."""
        return f"{self.bridge}-{host}"


def check_name(name: str, *, what: str, longest: int = 32) -> str:
    """Return the name when it can be a host, directory and unit name.

    Raises:
        LabError: It cannot.
    """
    if not _NAME.fullmatch(name) or len(name) > longest:
        raise LabError(f"{what} {name!r}: lower case letters, digits and single hyphens, at most {longest}, please")
    return name


def _octet(value: Any, name: str) -> int:
    """Last byte of an address from a number or a whole IPv4 address."""
    try:
        number = int(str(value).rsplit(".", 1)[-1])
    except ValueError:
        number = -1
    if number not in OCTETS:
        raise LabError(f"host {name}: address {value!r}: its last byte must be {OCTETS[0]} to {OCTETS[-1]}")
    return number


def host_spec(entry: Mapping[str, Any], *, octet: int) -> HostSpec:
    """Make a host's specification from what a playbook or the template says about it.

    Args:
        entry: Keys `name` and, all optional, `suite`, `address`, `groups`, `variables`.
        octet: Last byte of the address when the entry has no `address`.

    Raises:
        LabError: A key is unknown or a value cannot be used.
    """
    unknown = sorted(set(entry) - {"name", "suite", "address", "groups", "variables"})
    name = check_name(str(entry.get("name", "")), what="host")
    if unknown:
        raise LabError(f"host {name}: unknown key {unknown[0]!r}")
    suite = str(entry.get("suite") or SUITES[0])
    if suite not in SUITES:
        raise LabError(f"host {name}: suite {suite!r} is none of {', '.join(SUITES)}")
    groups = tuple(str(group) for group in entry.get("groups") or ())
    for group in groups:
        if not _GROUP.fullmatch(group):
            raise LabError(f"host {name}: {group!r} cannot be a group's name")
    return HostSpec(
        name=name,
        suite=suite,
        octet=_octet(entry.get("address") or octet, name),
        groups=groups,
        variables=dict(entry.get("variables") or {}),
    )


def host_specs(wanted: Iterable[Mapping[str, Any] | str], known: Mapping[str, Mapping[str, Any]]) -> list[HostSpec]:
    """Make the hosts of a lab.

    Args:
        wanted: Hosts by name or with settings; none at all means every known one.
        known: Settings of hosts that a name alone stands for; a host's own settings win.

    Raises:
        LabError: A setting cannot be used, or two hosts share a name or an address.
    """
    entries = [{"name": item} if isinstance(item, str) else dict(item) for item in wanted]
    entries = entries or [{"name": name} for name in known]
    merged = [{**known.get(str(entry.get("name")), {}), **entry} for entry in entries]
    taken = {_octet(entry["address"], str(entry.get("name"))) for entry in merged if entry.get("address")}
    free = iter([octet for octet in range(100, OCTETS[-1] + 1) if octet not in taken])
    specs = [host_spec(entry, octet=0 if entry.get("address") else next(free)) for entry in merged]
    if not specs:
        raise LabError("a lab without hosts: name at least one")
    for what, values in (("name", [spec.name for spec in specs]), ("address", [str(spec.octet) for spec in specs])):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise LabError(f"two hosts have the same {what}: {', '.join(twice)}")
    return specs
