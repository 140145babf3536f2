# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: a pattern of hosts without some of them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: staying
short_description: Leave hosts out of a play
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns a play's pattern of hosts, less those that are left out.
  - A play whose C(hosts) asks this, or any filter of this collection, runs faster, too. Ansible starts a process for
    each task on each host, and each of them would load all filters of the collection for itself, unless the process
    that starts them has done so before.
positional: _input, leaving, without
options:
  _input:
    description: Pattern of hosts, such as C(app_hosts:balancers).
    type: str
    required: true
  leaving:
    description: Hosts that are being removed.
    type: list
    elements: str
    default: []
  without:
    description: Names of hosts that this run leaves out, with commas between them.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Work on all application hosts but those that the operator leaves out
  hosts: "{{ 'app_hosts' | linkrift.platform.staying([], without | default('')) }}"
"""

RETURN = r"""
_value:
  description: The pattern.
  type: str
"""

from ansible_collections.linkrift.platform.plugins.module_utils._inventory import staying


class FilterModule:
    """Brings the filter to Ansible."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"staying": staying}
