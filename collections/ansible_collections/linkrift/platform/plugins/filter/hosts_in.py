# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: the hosts of some groups."""

from __future__ import annotations

DOCUMENTATION = r"""
name: hosts_in
short_description: List the hosts of some groups
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns the hosts of the given groups, each once. A group that does not exist has no hosts.
positional: _input, groups, leaving
options:
  _input:
    description: Names of groups.
    type: list
    elements: str
    required: true
  groups:
    description: Ansible's variable C(groups).
    type: dict
    required: true
  leaving:
    description: Hosts that are being removed, which are left out.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show the hosts that use the database
  ansible.builtin.debug:
    msg: "{{ ['api_hosts', 'worker_hosts'] | linkrift.platform.hosts_in(groups) }}"
"""

RETURN = r"""
_value:
  description: Names of hosts.
  type: list
  elements: str
"""

from ansible_collections.linkrift.platform.plugins.module_utils._inventory import hosts_in


class FilterModule:
    """Brings the filter to Ansible."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"hosts_in": hosts_in}
