# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: PostgreSQL's memory settings."""

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_memory
short_description: Return PostgreSQL's memory settings for some memory
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns PostgreSQL's memory settings in MiB, by name.
positional: _input, connections
options:
  _input:
    description: Memory in MiB that the settings are made for.
    type: int
    required: true
  connections:
    description: How many connections there may be.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show the settings for 8 GiB
  ansible.builtin.debug:
    msg: "{{ 8192 | linkrift.platform.postgresql_memory(300) }}"
"""

RETURN = r"""
_value:
  description: Settings in MiB, by name.
  type: dict
"""

from ansible_collections.linkrift.platform.plugins.module_utils._memory import postgresql_memory


class FilterModule:
    """Brings the filter to Ansible."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"postgresql_memory": postgresql_memory}
