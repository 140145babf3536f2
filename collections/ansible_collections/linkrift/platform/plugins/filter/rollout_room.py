# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: whose visitors must be on the live slot before the other one makes room."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_room
short_description: Tell which live slots must have the visitors before the other one makes room
version_added: 0.3.0
author: Linkrift Platform Team (@linkrift)
description:
  - A slot that runs something else than what is to come is stopped first. Usually it is warm, and no visitor is on it.
    A run that was killed after the switch and before the commit leaves it with all of them.
positional: _input, hosts, services
options:
  _input:
    description: C(hosts) of what P(linkrift.platform.rollout_plan#filter) returned.
    type: dict
    required: true
  hosts:
    description: The hosts to look at.
    type: list
    elements: str
    required: true
  services:
    description: The services to look at.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Send visitors to the live slots
  linkrift.platform.rotation:
    services: "{{ haproxy_services }}"
    changes: "{{ states | linkrift.platform.rotation_moves(room) }}"
  vars:
    room: "{{ plan.hosts | linkrift.platform.rollout_room(['app1'], ['redirect']) }}"
"""

RETURN = r"""
_value:
  description: The live slot by host and service; hosts without one are left out.
  type: dict
  sample: {app1: {redirect: blue}}
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def rollout_room(
    plan: Mapping[str, Mapping[str, Mapping[str, Any]]], hosts: Sequence[str], services: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Return the live slots that must have the visitors.

    Args:
        plan: the plan's entries by host and service.
        hosts: those of the batch.
        services: those of the stage.
    """
    found: dict[str, dict[str, str]] = {}
    for host in hosts:
        for service, entry in plan.get(host, {}).items():
            if service in services and entry["make_room"] and entry["live_slot"]:
                found.setdefault(host, {})[service] = entry["live_slot"]
    return found


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rollout_room": rollout_room}
