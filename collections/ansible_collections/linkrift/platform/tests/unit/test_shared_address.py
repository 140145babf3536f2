"""Addresses that balancers share: where they belong, and what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.filter.shared_address_findings import shared_address_findings
from ansible_collections.linkrift.platform.plugins.filter.shared_interfaces import shared_interfaces


def host(*addresses: str, interface: str = "eth0") -> list[dict[str, Any]]:
    """What `ip -json address show` says of a host with loopback and these addresses."""
    entries = [
        {"family": "inet6" if ":" in one else "inet", "local": one.split("/")[0], "prefixlen": int(one.split("/")[1])}
        for one in addresses
    ]
    loopback = {"ifname": "lo", "flags": ["LOOPBACK"], "addr_info": [{"local": "192.0.2.77", "prefixlen": 24}]}
    return [loopback, {"ifname": interface, "flags": ["UP"], "addr_info": entries}]


TWO = [*host("10.0.0.11/24", "fe80::1/64"), *host("192.0.2.11/25", "2001:db8::11/64", interface="eth1")]


def test_each_belongs_where_its_network_is() -> None:
    assert shared_interfaces(["192.0.2.10", "10.0.0.10", "2001:db8:0::10"], TWO) == [
        {"address": "192.0.2.10", "interface": "eth1"},
        {"address": "10.0.0.10", "interface": "eth0"},
        {"address": "2001:db8::10", "interface": "eth1"},
    ]


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("192.0.2.200", r"is in no network of this host, which has 10\.0\.0\.0/24, 192\.0\.2\.0/25, 2001:db8::/64"),
        # Loopback's network is nobody else's, and a link-local one every interface's.
        ("192.0.2.177", "no network"),
        ("fe80::10", "no network"),
        ("192.0.2.10/24", "is none: it is given without"),
        ("balancer", "is none"),
    ],
)
def test_an_address_that_a_host_cannot_have(address: str, complaint: str) -> None:
    with pytest.raises(AnsibleFilterError, match=complaint):
        shared_interfaces([address], TWO)


def test_one_that_is_here_now_does_not_make_its_own_network() -> None:
    with pytest.raises(AnsibleFilterError, match="no network"):
        shared_interfaces(["198.51.100.10"], host("192.0.2.11/24", "198.51.100.10/32"))


def site(*networks: list[dict[str, Any]] | None) -> dict[str, dict[str, Any]]:
    """Hostvars of as many balancers, and of one more host."""
    found: dict[str, dict[str, Any]] = {"app1": {"linkrift_address": "192.0.2.21"}, "by-name": {}}
    for number, network in enumerate(networks, 1):
        found[f"lb{number}"] = {"linkrift_address": f"192.0.2.{10 + number}"}
        if network is not None:
            found[f"lb{number}"]["preflight_networks"] = {"rc": 0, "stdout": json.dumps(network)}
    return found


FINE = site(host("192.0.2.11/24", "192.0.2.10/32"), host("192.0.2.12/24"))


@pytest.mark.parametrize(
    ("shared", "hostvars", "lines"),
    [
        ([], site(host("192.0.2.11/24")), []),
        (["192.0.2.10"], FINE, []),
        # One that could not be asked is somebody else's finding.
        (["192.0.2.10"], site(host("192.0.2.11/24"), None), []),
        (
            ["192.0.2.10"],
            site(host("192.0.2.11/24")),
            ["inventory: error: linkrift_shared_addresses: one balancer shares"],
        ),
        (["192.0.2.21"], FINE, ["inventory: error: linkrift_shared_addresses: 192.0.2.21 is app1's own; it must be"]),
        (["x"], FINE, ["inventory: error: linkrift_shared_addresses: shared address 'x' is none"]),
        (
            ["192.0.2.10"],
            site(host("192.0.2.11/24"), host("10.0.0.12/24")),
            ["lb2: error: shared address 192.0.2.10 is in no network of this host"],
        ),
        (
            ["192.0.2.10"],
            site(host("192.0.2.11/24", "192.0.2.10/24"), host("192.0.2.12/24")),
            ["lb1: error: shared address 192.0.2.10 is set up on lb1 itself; it must be nobody's own"],
        ),
    ],
)
def test_findings(shared: list[str], hostvars: dict[str, dict[str, Any]], lines: list[str]) -> None:
    balancers = [name for name in hostvars if name.startswith("lb")]
    found = [finding["line"] for finding in shared_address_findings(shared, balancers, hostvars)]
    assert len(found) == len(lines)
    for line, beginning in zip(found, lines, strict=True):
        assert line.startswith(beginning)
