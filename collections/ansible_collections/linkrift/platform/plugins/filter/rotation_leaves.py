# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what takes a host out of a balancer's rotation."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rotation_leaves
short_description: List the changes that take a host out of a balancer's rotation
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns the changes for M(linkrift.platform.rotation) that drain every slot of a host. Those drained already
    are named again, so that a run that was killed before they were empty is made good.
positional: _input, host
options:
  _input:
    description: C(states) as M(linkrift.platform.rotation_info) returns it, by service and server.
    type: dict
    required: true
  host:
    description: The host.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Take a host out
  linkrift.platform.rotation:
    services: "{{ haproxy_services }}"
    changes: "{{ found.states | linkrift.platform.rotation_leaves('app2') }}"
"""

RETURN = r"""
_value:
  description: Changes, sorted by service.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import SLOTS


def rotation_leaves(states: Mapping[str, Mapping[str, str]], host: str) -> list[dict[str, str]]:
    """Return the changes that take a host out.

    Args:
        states: state by service and server (`<host>-<slot>`) in a balancer's backends file.
        host: the host.
    """
    return [
        {"service": service, "host": host, "slot": slot, "state": "drain"}
        for service, servers in sorted(states.items())
        for slot in SLOTS
        if servers.get(f"{host}-{slot}") in ("ready", "drain")
    ]


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rotation_leaves": rotation_leaves}
