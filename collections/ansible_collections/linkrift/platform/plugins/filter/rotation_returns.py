# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what brings a host back into a balancer's rotation."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rotation_returns
short_description: List the changes that bring a host back into a balancer's rotation
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns the changes for M(linkrift.platform.rotation) that let the live slots of a host in, and put its other slots
    into C(maint) that were drained with them. Live slots that are in already are named again, so that the module
    waits for their checks.
positional: _input, host, slots
options:
  _input:
    description: C(states) as M(linkrift.platform.rotation_info) returns it, by service and server.
    type: dict
    required: true
  host:
    description: The host.
    type: str
    required: true
  slots:
    description: The host's live slot by service. Services that the balancer does not know are left out.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Bring a host back
  linkrift.platform.rotation:
    services: "{{ haproxy_services }}"
    changes: "{{ found.states | linkrift.platform.rotation_returns('app2', {'api': 'blue', 'redirect': 'green'}) }}"
"""

RETURN = r"""
_value:
  description: Changes, sorted by service.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import other_slot


def rotation_returns(
    states: Mapping[str, Mapping[str, str]], host: str, slots: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return the changes that bring a host back.

    Args:
        states: state by service and server (`<host>-<slot>`) in a balancer's backends file.
        host: the host.
        slots: the host's live slot by service.
    """
    changes: list[dict[str, str]] = []
    for service, live in sorted(slots.items()):
        servers = states.get(service, {})
        if f"{host}-{live}" not in servers:
            continue
        changes.append({"service": service, "host": host, "slot": live, "state": "ready"})
        if servers.get(f"{host}-{other_slot(live)}") == "drain":
            changes.append({"service": service, "host": host, "slot": other_slot(live), "state": "maint"})
    return changes


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rotation_returns": rotation_returns}
