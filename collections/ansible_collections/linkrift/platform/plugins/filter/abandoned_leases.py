# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: leases whose runs are dead, as far as this control node knows."""

from __future__ import annotations

DOCUMENTATION = r"""
name: abandoned_leases
short_description: Find the leases whose runs are dead
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns the ids of leases that were taken on this control node, since it booted, by a process that is gone. Leases
    of other control nodes, containers or boots are never among them, since nobody here can tell.
positional: _input
options:
  _input:
    description: Each balancer's C(lease), from M(linkrift.platform.fleet_lock_info). Null counts as none.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Take over what a run left that was killed here
  linkrift.platform.fleet_lock:
    owner: "{{ run }}"
    purpose: deploy
    abandoned: "{{ [lock.lease] | linkrift.platform.abandoned_leases }}"
"""

RETURN = r"""
_value:
  description: Ids, sorted.
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.module_utils._lease import control_of
from ansible_collections.linkrift.platform.plugins.plugin_utils._control_process import is_gone


def abandoned_leases(leases: Iterable[Mapping[str, Any] | None]) -> list[str]:
    """Return the ids of leases whose runs are dead.

    Args:
        leases: as `fleet_lock_info` returns them, or None.

    Raises:
        AnsibleFilterError: something is no lease.
    """
    try:
        return sorted({str(lease["id"]) for lease in leases if lease and is_gone(control_of(lease.get("control")))})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"abandoned_leases: something is no lease ({error})") from error


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"abandoned_leases": abandoned_leases}
