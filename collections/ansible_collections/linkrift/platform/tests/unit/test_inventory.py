"""What an inventory implies."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.filter import addresses, firewall_rules, hosts_in, servers, staying
from ansible_collections.linkrift.platform.plugins.module_utils._inventory import (
    InventoryError,
    addresses_of,
)
from ansible_collections.linkrift.platform.plugins.module_utils._inventory import hosts_in as find_hosts

GROUPS = {"api_hosts": ["app1", "app2"], "worker_hosts": ["app2", "app3"], "postgresql_hosts": ["data1"]}
HOSTVARS: dict[str, dict[str, Any]] = {
    "app1": {"linkrift_address": "192.0.2.1", "linkrift_address6": "2001:0db8::1"},
    "app2": {"ansible_host": "192.0.2.2"},
    "app3": {"linkrift_address6": "2001:db8::3", "ansible_host": "gateway"},
    "data1": {"ansible_host": "data1.example.org"},
    "192.0.2.9": {},
}


def test_hosts_of_groups_once_each() -> None:
    assert find_hosts(["worker_hosts", "api_hosts", "nobody"], GROUPS) == ["app2", "app3", "app1"]


def test_hosts_that_leave_are_left_out() -> None:
    assert find_hosts(["worker_hosts", "api_hosts"], GROUPS, ["app2", "app9"]) == ["app3", "app1"]
    rules = firewall_rules.firewall_rules(FLOWS, ["postgresql_hosts"], GROUPS, HOSTVARS, iter(["app1"]))
    assert rules[1]["sources"] == ["192.0.2.128/25", "192.0.2.2"]


def test_addresses_of_both_families() -> None:
    hosts = ["app1", "app2", "app3", "192.0.2.9"]
    assert addresses_of(hosts, HOSTVARS) == ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::3", "192.0.2.9"]


def test_a_host_without_an_address_is_named() -> None:
    with pytest.raises(InventoryError, match=r"host data1: 'data1.example.org' .* set linkrift_address"):
        addresses_of(["data1"], HOSTVARS)
    with pytest.raises(AnsibleFilterError, match="host data1"):
        addresses.addresses(["data1"], HOSTVARS)


def test_hosts_become_servers_at_their_first_address() -> None:
    assert servers.servers(["app1"], HOSTVARS, {"blue": 1, "green": 2}) == [
        {"host": "app1", "address": "192.0.2.1", "ports": {"blue": 1, "green": 2}}
    ]
    with pytest.raises(AnsibleFilterError, match="host data1"):
        servers.servers(["data1"], HOSTVARS, {})


FLOWS: list[dict[str, Any]] = [
    {"name": "ssh", "networks": ["any"], "to": ["all"], "ports": ["22"]},
    {
        "name": "database",
        "from": ["api_hosts"],
        "networks": ["192.0.2.128/25"],
        "to": ["postgresql_hosts"],
        "ports": [5432],
    },
    {"name": "elsewhere", "from": ["api_hosts"], "to": ["balancers"], "ports": [80]},
]
VRRP: dict[str, Any] = {"name": "x", "protocol": "vrrp", "from": ["worker_hosts"], "to": ["worker_hosts"], "ports": []}


def test_only_flows_to_the_host_become_rules() -> None:
    assert firewall_rules.firewall_rules(FLOWS, ["data_hosts", "postgresql_hosts"], GROUPS, HOSTVARS) == [
        {"name": "ssh", "ports": [22], "sources": ["any"]},
        {"name": "database", "ports": [5432], "sources": ["192.0.2.128/25", "192.0.2.1", "2001:db8::1", "192.0.2.2"]},
    ]


def test_a_flow_may_have_another_protocol() -> None:
    assert firewall_rules.firewall_rules([VRRP], ["worker_hosts"], GROUPS, HOSTVARS) == [
        {"name": "x", "protocol": "vrrp", "ports": [], "sources": ["192.0.2.2", "2001:db8::3"]}
    ]


@pytest.mark.parametrize(
    ("flow", "complaint"),
    [
        ({"name": "x", "ports": [1]}, r"missing \['to'\]"),
        ({"name": "x", "to": ["all"], "ports": [1], "form": []}, r"unknown \['form'\]"),
        ({"name": "x", "to": ["all"], "ports": [1], "from": ["postgresql_hosts"]}, "host data1"),
    ],
)
def test_a_flow_that_is_refused(flow: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AnsibleFilterError, match=complaint):
        firewall_rules.firewall_rules([flow], [], GROUPS, HOSTVARS)


@pytest.mark.parametrize("plugin", [hosts_in, addresses, firewall_rules, servers, staying])
def test_the_filters_are_offered_by_name(plugin: Any) -> None:
    name = plugin.__name__.rpartition(".")[2]
    assert list(plugin.FilterModule().filters()) == [name]


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ((), "app_hosts:lb"),
        ((["app1"],), "app_hosts:lb:!app1"),
        (([], "app2, app3,"), "app_hosts:lb:!app2:!app3"),
        ((["app1"], "app2"), "app_hosts:lb:!app1:!app2"),
    ],
)
def test_a_pattern_without_who_is_left_out(arguments: tuple[Any, ...], pattern: str) -> None:
    assert staying.staying("app_hosts:lb", *arguments) == pattern


def test_filters_load_without_what_reads_bundles() -> None:
    """Each process that Ansible starts would pay for it."""
    code = (
        "import importlib, pkgutil, sys; from ansible_collections.linkrift.platform.plugins import filter as filters; "
        "names = [f'{filters.__name__}.{found.name}' for found in pkgutil.iter_modules(filters.__path__)]; "
        "[importlib.import_module(name) for name in names]; "
        "print([name for name in ('http.client', 'ssl', 'tarfile') if name in sys.modules])"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
