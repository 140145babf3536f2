# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: the slots of a host that run beside what is live."""

from __future__ import annotations

DOCUMENTATION = r"""
name: slots_beside
short_description: List the slots of a host that run beside what is live
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - What is warm after a rollout, and whatever else is not stopped. A service of which nothing is live is left out.
positional: _input, services
options:
  _input:
    description: What the slots of each service do, as M(linkrift.platform.release_info) returns it in C(services).
    type: dict
    required: true
  services:
    description: The services to look at.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Say what is warm
  ansible.builtin.debug:
    msg: "{{ found.services | linkrift.platform.slots_beside(['api', 'redirect']) }}"
"""

RETURN = r"""
_value:
  description: Each with C(service), C(slot), C(state), C(release).
  type: list
  elements: dict
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def slots_beside(facts: Mapping[str, Mapping[str, Any]], services: Iterable[str]) -> list[dict[str, Any]]:
    """Return the slots that neither are live nor stopped."""
    return [
        {"service": service, "slot": slot, "state": seen["state"], "release": seen["release"]}
        for service in services
        if service in facts and facts[service]["live"]
        for slot, seen in facts[service]["slots"].items()
        if slot != facts[service]["live"] and seen["state"] != "idle"
    ]


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"slots_beside": slots_beside}
