# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: which patch run this is."""

from __future__ import annotations

DOCUMENTATION = r"""
name: patch_id
short_description: Tell which patch run to go on with
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns the newest run that left a host unfinished, so that running the playbook again goes on with it; without one,
    the fresh id.
positional: _input, fresh
options:
  _input:
    description: The C(record) that M(linkrift.platform.patch_run) returned on each host.
    type: list
    elements: dict
    required: true
  fresh:
    description: Id of a new run, a time.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Go on with what was interrupted, or begin
  ansible.builtin.set_fact:
    run: "{{ records | linkrift.platform.patch_id('2026-01-31T12:00:00Z') }}"
"""

RETURN = r"""
_value:
  description: Id of the run.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._patch import choose_run


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"patch_id": choose_run}
