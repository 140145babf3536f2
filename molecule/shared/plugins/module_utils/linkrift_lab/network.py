"""The network of a lab: a bridge, and a way out through the machine's own address."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from .errors import LabError
from .plan import Lab
from .registry import Registry
from .run import run, try_run

_SYS = Path("/proc/sys")
# What hosts need of the machine's kernel, as the least value. Every systemd takes half a dozen inotify instances, and
# all of them count as root's: with the usual 128, the third lab's hosts do not boot.
_KERNEL = {"net/ipv4/ip_forward": 1, "fs/inotify/max_user_instances": 1024}


def ruleset(lab: Lab) -> str:
    """The nftables script that replaces the lab's table in one transaction."""
    return f"""\
table inet {lab.table}
delete table inet {lab.table}
table inet {lab.table} {{
  chain outward {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {lab.network} ip daddr != {lab.network} masquerade
  }}
}}
"""


def overlapping(lab: Lab, addresses: list[dict[str, Any]]) -> str | None:
    """Name of another interface that already has an address in the lab's subnet; None when there is none.

    Args:
        lab: The lab.
        addresses: What `ip -json address show` said.
    """
    for interface in addresses:
        if interface.get("ifname") == lab.bridge:
            continue
        for address in interface.get("addr_info", []):
            if address.get("family") != "inet":
                continue
            if ip_network(f"{address['local']}/{address['prefixlen']}", strict=False).overlaps(lab.network):
                return str(interface["ifname"])
    return None


def uplink_mtu() -> int:
    """Largest packet that the way out of the machine carries, at most Ethernet's 1500 bytes."""
    routes = json.loads(run(["ip", "-json", "route", "show", "default"]) or "[]")
    sizes = [int(Path(f"/sys/class/net/{route['dev']}/mtu").read_text()) for route in routes if "dev" in route]
    return min([1500, *sizes])


def exists(lab: Lab) -> bool:
    """Whether the bridge is up and the rules are in place."""
    return Path(f"/sys/class/net/{lab.bridge}").exists() and try_run(["nft", "list", "table", "inet", lab.table])


def create(lab: Lab, registry: Registry) -> bool:
    """Make the lab's bridge and rules; tell whether any of it was missing.

    Raises:
        LabError: The subnet is in use on this machine.
    """
    other = overlapping(lab, json.loads(run(["ip", "-json", "address", "show"]) or "[]"))
    if other:
        raise LabError(f"subnet {lab.network} is taken: interface {other} has an address in it")
    changed = not exists(lab)
    if not Path(f"/sys/class/net/{lab.bridge}").exists():
        run(["ip", "link", "add", lab.bridge, "type", "bridge"])
    run(["ip", "link", "set", lab.bridge, "mtu", str(uplink_mtu()), "up"])
    run(["ip", "address", "replace", f"{lab.gateway}/{lab.network.prefixlen}", "dev", lab.bridge])
    # A lab on a machine without IPv6 is one whose hosts reach each other by IPv4 only.
    if Path("/proc/sys/net/ipv6").exists():
        run(["ip", "address", "replace", f"{lab.gateway6}/{lab.network6.prefixlen}", "dev", lab.bridge, "nodad"])
    run(["nft", "-f", "-"], stdin=ruleset(lab))
    raise_kernel_settings(registry)
    return changed


def raise_kernel_settings(registry: Registry, root: Path = _SYS) -> None:
    """Give the machine's kernel the settings that hosts need, and remember what they were."""
    for name, least in _KERNEL.items():
        found = (root / name).read_text().strip()
        if int(found) < least:
            registry.kernel = {name: found} | registry.kernel
            (root / name).write_text(f"{least}\n")


def restore_kernel_settings(registry: Registry, root: Path = _SYS) -> None:
    """Give the machine's kernel back the settings that it had before the first lab."""
    for name, value in registry.kernel.items():
        (root / name).write_text(f"{value}\n")
    registry.kernel = {}


def destroy(lab: Lab, registry: Registry) -> bool:
    """Remove the lab's rules, bridge and what hangs on it; with the last lab, the kernel gets its settings back."""
    changed = exists(lab)
    for port in ports(lab):
        try_run(["ip", "link", "delete", port])
    if Path(f"/sys/class/net/{lab.bridge}").exists():
        run(["ip", "link", "delete", lab.bridge])
        changed = True
    if try_run(["nft", "list", "table", "inet", lab.table]):
        run(["nft", "delete", "table", "inet", lab.table])
        changed = True
    if all(other.number == lab.number for other in registry.labs()):
        restore_kernel_settings(registry)
    return changed


def ports(lab: Lab) -> list[str]:
    """Interfaces on the lab's bridge."""
    directory = Path(f"/sys/class/net/{lab.bridge}/brif")
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
