# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: a host's firewall rules out of the table of who may reach whom."""

from __future__ import annotations

DOCUMENTATION = r"""
name: firewall_rules
short_description: Derive a host's firewall rules from who may reach whom
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Picks the flows that lead to a host, and puts the addresses of the hosts in place of the groups that they come from.
positional: _input, member_of, groups, hostvars, leaving
options:
  _input:
    description:
      - Flows, each a dictionary of C(name), C(to) (groups), C(ports), and C(from) (groups), C(networks) (addresses,
        networks or V(any)) or both; and C(protocol), where it is V(vrrp).
    type: list
    elements: dict
    required: true
  member_of:
    description: The host's groups, Ansible's variable C(group_names).
    type: list
    elements: str
    required: true
  groups:
    description: Ansible's variable C(groups).
    type: dict
    required: true
  hostvars:
    description: Ansible's variable C(hostvars).
    type: dict
    required: true
  leaving:
    description: Hosts that are being removed. Nothing is opened to them.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Open what the inventory implies
  linkrift.platform.firewall:
    rules: "{{ flows | linkrift.platform.firewall_rules(group_names, groups, hostvars) }}"
  vars:
    flows:
      - {name: ssh, networks: [any], to: [all], ports: [22]}
      - {name: postgresql, from: [api_hosts], to: [postgresql_hosts], ports: [5432]}
"""

RETURN = r"""
_value:
  description: Rules for M(linkrift.platform.firewall).
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.module_utils import _inventory


def firewall_rules(
    flows: Iterable[Mapping[str, Any]],
    member_of: Iterable[str],
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    leaving: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """Return the rules of a host (see _inventory.firewall_rules)."""
    try:
        return _inventory.firewall_rules(flows, member_of, groups, hostvars, leaving)
    except _inventory.InventoryError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Brings the filter to Ansible."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"firewall_rules": firewall_rules}
