# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: which slots a balancer has to take into its rotation."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rotation_joins
short_description: List the slots that a balancer has to take into its rotation
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Compares the slots that hosts serve with what a balancer's backends file says, and returns the changes for
    M(linkrift.platform.rotation) that let the missing ones in.
  - A slot joins when the file has it in C(maint), as every server begins there, on a new balancer, too. One that an
    operator drained stays drained, and so does the other slot of a host whose drained slot died with it.
  - Where the file still has the host's other slot as C(ready), that one goes, as when a host was built anew.
positional: _input
options:
  _input:
    description: C(states) as M(linkrift.platform.rotation_info) returns it, by service and server.
    type: dict
    required: true
  slots:
    description: Slot that serves, by host and service, as role C(linkrift.platform.service) sets C(service_slots).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Let those in that are not
  linkrift.platform.rotation:
    services: "{{ haproxy_services }}"
    changes: "{{ found.states | linkrift.platform.rotation_joins({'app1': {'redirect': {'slot': 'blue'}}}) }}"
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


def rotation_joins(
    states: Mapping[str, Mapping[str, str]], slots: Mapping[str, Mapping[str, Mapping[str, Any]] | None]
) -> list[dict[str, str]]:
    """Return the changes that let serving slots in.

    Args:
        states: state by service and server (`<host>-<slot>`) in a balancer's backends file.
        slots: what role service remembers of each host, by host and service; None for a host it did not look at.
    """
    changes: list[dict[str, str]] = []
    for service, servers in sorted(states.items()):
        for host, services in sorted(slots.items()):
            serving = (services or {}).get(service)
            if not serving or servers.get(f"{host}-{serving['slot']}") != "maint":
                continue
            other = other_slot(serving["slot"])
            before = servers.get(f"{host}-{other}")
            # Visitors are on the other slot of a host that had a live one: a rollout has moved it, or is about to.
            if before == "ready" and not serving.get("new"):
                continue
            wish = "drain" if before == "drain" or serving.get("drained") else "ready"
            changes.append({"service": service, "host": host, "slot": serving["slot"], "state": wish})
            if before in ("ready", "drain"):
                changes.append({"service": service, "host": host, "slot": other, "state": "maint"})
    return changes


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rotation_joins": rotation_joins}
