"""The servers a balancer has come from the inventory."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.filter.slot_servers import slot_servers

HOSTVARS = {
    "a": {"linkrift_address": "198.18.0.1", "linkrift_address6": "fd00::1"},
    "b": {"ansible_host": "198.18.0.2"},
}


def test_each_host_of_the_group_is_a_server() -> None:
    assert slot_servers("redirect", {"redirect_hosts": ["b", "a"]}, HOSTVARS) == [
        {"host": "b", "address": "198.18.0.2", "ports": {"blue": 8081, "green": 8181}},
        {"host": "a", "address": "198.18.0.1", "ports": {"blue": 8081, "green": 8181}},
    ]


def test_ports_can_be_others() -> None:
    ports = {"blue": 1, "green": 2}
    assert slot_servers("api", {"api_hosts": ["a"]}, HOSTVARS, ports)[0]["ports"] == ports


def test_a_group_without_hosts_has_no_servers() -> None:
    assert slot_servers("api", {}, HOSTVARS) == []


@pytest.mark.parametrize("service", ["web", "redirect"])
def test_what_is_missing_is_named(service: str) -> None:
    with pytest.raises(AnsibleFilterError, match="web|host c"):
        slot_servers(service, {"redirect_hosts": ["c"]}, {"c": {}})
