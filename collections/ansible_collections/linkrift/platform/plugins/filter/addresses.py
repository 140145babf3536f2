# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: the addresses of hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: addresses
short_description: List the addresses of hosts
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns at which addresses other hosts reach the given ones, IPv4 before IPv6 for each.
  - They are the host variables C(linkrift_address) and C(linkrift_address6). A host without both of them is reached at
    C(ansible_host), which must be an address then.
positional: _input, hostvars
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
"""

EXAMPLES = r"""
- name: Show where the database is
  ansible.builtin.debug:
    msg: "{{ groups['postgresql_hosts'] | linkrift.platform.addresses(hostvars) }}"
"""

RETURN = r"""
_value:
  description: Addresses.
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.module_utils._inventory import InventoryError, addresses_of


def addresses(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the addresses of hosts (see addresses_of)."""
    try:
        return addresses_of(hosts, hostvars)
    except InventoryError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Brings the filter to Ansible."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"addresses": addresses}
