# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what sends a balancer's visitors from the slots that serve to those that are to serve."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rotation_moves
short_description: List the changes that send visitors to other slots
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns the changes for M(linkrift.platform.rotation) that let a slot of each host in, and its other slot out. Slots
    that are in already are named again, so that the module waits for their checks, and a run that was killed is made
    good.
  - On a host that is drained nothing is let in, but both slots change places, so that C(undrain) finds the right one.
positional: _input, slots, found
options:
  _input:
    description: C(states) as M(linkrift.platform.rotation_info) returns it, by service and server.
    type: dict
    required: true
  slots:
    description: The slot that is to serve, by host and service. Services that the balancer does not know are left out.
    type: dict
    required: true
  found:
    description:
      - What M(linkrift.platform.rotation_info) returned just now. Where the balancer does all of the changes already,
        none is listed.
    type: dict
"""

EXAMPLES = r"""
- name: Switch two hosts
  linkrift.platform.rotation:
    services: "{{ haproxy_services }}"
    changes: "{{ found.states | linkrift.platform.rotation_moves(slots) }}"
  vars:
    slots: {app1: {redirect: green}, app2: {redirect: green}}
"""

RETURN = r"""
_value:
  description: Changes, sorted by service and host.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import other_slot


def rotation_moves(
    states: Mapping[str, Mapping[str, str]],
    slots: Mapping[str, Mapping[str, str]],
    found: Mapping[str, Any] | None = None,
) -> list[dict[str, str]]:
    """Return the changes that send visitors to other slots.

    Args:
        states: state by service and server (`<host>-<slot>`) in a balancer's backends file.
        slots: the slot that is to serve, by host and service.
        found: what the balancer does now; where it does all of them, none is returned.
    """
    changes: list[dict[str, str]] = []
    for service, servers in sorted(states.items()):
        for host, wished in sorted(slots.items()):
            slot = wished.get(service)
            if slot is None or f"{host}-{slot}" not in servers:
                continue
            other = other_slot(slot)
            drained = "drain" in (servers[f"{host}-{slot}"], servers.get(f"{host}-{other}"))
            drained = drained and "ready" not in (servers[f"{host}-{slot}"], servers.get(f"{host}-{other}"))
            changes.append({"service": service, "host": host, "slot": slot, "state": "drain" if drained else "ready"})
            changes.append({"service": service, "host": host, "slot": other, "state": "maint"})
    return [] if found and all(_done(change, found) for change in changes) else changes


def _done(change: Mapping[str, str], found: Mapping[str, Any]) -> bool:
    """Tell whether a balancer does what a change asks for: by its file, by what HAProxy says, and by its checks.

    And whether nobody is left who would have to be waited for, where the slot is to take no more.
    """
    servers = found["rotation"].get(change["service"], {}).get("servers", {})
    server = servers.get(f"{change['host']}-{change['slot']}", {})
    wished = change["state"]
    return bool(
        found["current"]
        # Null: nobody knows whether there are any.
        and found.get("old_workers", []) == []
        and server.get("state") == server.get("admin") == wished
        and (server["takes_traffic"] if wished == "ready" else not server["scur"])
    )


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rotation_moves": rotation_moves}
