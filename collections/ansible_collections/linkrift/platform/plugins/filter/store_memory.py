# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: how the stores on a host share its memory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: store_memory
short_description: Divide a host's memory between the stores on it
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns how much memory (MiB) each of C(postgresql), C(redis) and C(clickhouse) gets on a host, what is left for the
    rest (C(rest), system and services), and the sum of all (C(needed)).
positional: _input, group_names, given
options:
  _input:
    description: The host's memory in MiB.
    type: int
    required: true
  group_names:
    description: Ansible's variable C(group_names) of the host.
    type: list
    elements: str
    required: true
  given:
    description: What some stores were given by hand, in MiB.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what Redis gets
  ansible.builtin.debug:
    msg: "{{ (ansible_facts['memtotal_mb'] | linkrift.platform.store_memory(group_names)).redis }} MiB"
"""

RETURN = r"""
_value:
  description: Memory in MiB by store, and C(rest) and C(needed).
  type: dict
"""

from ansible_collections.linkrift.platform.plugins.module_utils._memory import store_memory


class FilterModule:
    """Brings the filter to Ansible."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"store_memory": store_memory}
