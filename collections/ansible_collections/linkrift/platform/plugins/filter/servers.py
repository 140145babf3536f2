# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: hosts as the servers of a balancer's backend."""

from __future__ import annotations

DOCUMENTATION = r"""
name: servers
short_description: List hosts as servers for module rotation
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns a C(host), C(address) and C(ports) for each host, as O(linkrift.platform.rotation#module:services) takes
    them. The address is the host's first one (see P(linkrift.platform.addresses#filter)).
positional: _input, hostvars, ports
options:
  _input:
    description: Names of hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: Ansible's variable C(hostvars).
    type: dict
    required: true
  ports:
    description: Port of each slot, C(blue) and C(green).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the redirect service's servers
  ansible.builtin.debug:
    msg: "{{ groups['redirect_hosts'] | linkrift.platform.servers(hostvars, {'blue': 8081, 'green': 8181}) }}"
"""

RETURN = r"""
_value:
  description: Servers.
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.module_utils._inventory import InventoryError, addresses_of


def servers(
    hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], ports: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return hosts as servers.

    Args:
        hosts: names of hosts.
        hostvars: variables by host.
        ports: port of each slot.

    Raises:
        AnsibleFilterError: a host has no address.
    """
    try:
        return [{"host": host, "address": addresses_of([host], hostvars)[0], "ports": dict(ports)} for host in hosts]
    except InventoryError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Brings the filter to Ansible."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"servers": servers}
