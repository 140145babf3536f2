"""Secrets and certificates of a lab, from its inventory: what `make up` and molecule's scenarios prepare."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import yaml

from tools.lab import ROOT, LabToolError
from tools.lab.authority import ensure_authority, ensure_certificate
from tools.lab.passwords import ensure_secrets

VARIABLES = ROOT / "inventories/lab/group_vars/all/lab.yml"


@dataclass(frozen=True)
class LabHosts:
    """Hosts of a lab: the addresses of each, and which groups it is in."""

    addresses: Mapping[str, tuple[IPv4Address | IPv6Address, ...]]
    groups: Mapping[str, tuple[str, ...]]

    def visitors(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Where visitors come: what the balancers share, where there are two of them, or the only one's own.

        Raises:
            LabToolError: There is no balancer.
        """
        balancers = self.of("balancers")
        if not balancers:
            raise LabToolError("the lab has no balancer, so there is nowhere to visit")
        own = self.addresses[balancers[0]]
        # As linkrift_shared_addresses has them, in inventories/lab/group_vars/all/settings.yml.
        return own if len(balancers) == 1 else tuple(ip_address(re.sub(r"[0-9a-f]+$", "10", str(one))) for one in own)

    def of(self, group: str) -> tuple[str, ...]:
        """Names of a group's hosts."""
        return self.groups.get(group, ())


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabToolError(f"{path} cannot be read: create the lab first ({error.strerror})") from error
    if not isinstance(loaded, dict):
        raise LabToolError(f"{path} is not what it should be: a YAML dictionary")
    return loaded


def lab_hosts(directory: Path) -> LabHosts:
    """Hosts of the lab that has its inventory in this directory.

    Raises:
        LabToolError: There is no inventory.
    """
    tree = _read(directory / "inventory" / "hosts.yml")["all"]
    addresses = {
        name: (ip_address(variables["linkrift_address"]), ip_address(variables["linkrift_address6"]))
        for name, variables in tree["hosts"].items()
    }
    groups = {name: tuple(group.get("hosts") or ()) for name, group in (tree.get("children") or {}).items()}
    return LabHosts(addresses, groups)


def domains() -> tuple[str, str]:
    """The public and the internal domain of labs."""
    variables = _read(VARIABLES)
    return str(variables["linkrift_domain"]), str(variables["linkrift_internal_domain"])


def ensure_material(directory: Path) -> list[str]:
    """Generate what a lab has not got yet; what it has stays as it is.

    Args:
        directory: The lab's directory; its hosts exist.

    Returns:
        Names of what is new.

    Raises:
        LabToolError: There is no inventory, or a file there is damaged.
    """
    hosts = lab_hosts(directory)
    domain, internal = domains()
    new = ensure_secrets(directory)
    authority, made = ensure_authority(directory)
    if made:
        new.append("ca")
    servers = {
        "public": ("balancers", [domain, *(f"{label}.{domain}" for label in ("go", "api", "www"))]),
        "postgresql": ("postgresql_hosts", [f"db.{internal}"]),
        "redis": ("redis_hosts", [f"redis.{internal}"]),
        "clickhouse": ("clickhouse_hosts", [f"clickhouse.{internal}"]),
        # One for the slots of all services on all hosts; who asks them verifies these names, and no host's own.
        "services": ("", [f"{service}.services.{internal}" for service in ("api", "redirect", "worker")]),
        "bundles": ("bundle_stores", [f"bundles.{internal}"]),
    }
    for name, (group, dns_names) in servers.items():
        members = hosts.of(group)
        # Operators reach a store by the host's own name, too.
        own = [] if name == "public" else list(members)
        addresses = [address for member in members for address in hosts.addresses[member]]
        if ensure_certificate(authority, directory, name, [*dns_names, *own], addresses):
            new.append(f"tls/{name}")
    return new
