# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what brings a host back to what it served before a rollout."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_return
short_description: Tell what brings a host back to what it served before a rollout
version_added: 0.3.0
author: Linkrift Platform Team (@linkrift)
description:
  - Compares where an undo leads to with what the slots do now, and returns what is to be done for each service that a
    rollout has touched. Services that serve what they served, with nothing of the rollout beside it, are left out.
positional: _input, services
options:
  _input:
    description: The host's part of C(hosts) in what P(linkrift.platform.rollout_plan#filter) returned.
    type: dict
    required: true
  services:
    description: The C(services) of M(linkrift.platform.release_info), as they are now.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: See what would bring the host back
  ansible.builtin.debug:
    msg: "{{ plan.hosts[inventory_hostname] | linkrift.platform.rollout_return(found.services) }}"
"""

RETURN = r"""
_value:
  description:
    - By service, C(slot) and C(release) that are to serve, C(start) (the slot does not run that, so it has to be
      started), C(leaves) (the slot that is to stop), C(undone) (the release that is given up there; empty when it is
      another one), C(drained), and C(settled) (a visitors' service that is live in C(slot) as it was, so that only
      what it leaves has to stop).
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import other_slot


def rollout_return(part: Mapping[str, Mapping[str, Any]], services: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what brings each touched service of a host back.

    Args:
        part: what the plan has for the host, by service.
        services: what its slots do now.
    """
    found: dict[str, dict[str, Any]] = {}
    for service, entry in part.items():
        back = entry["back"]
        # Where nothing was live, what the rollout began has nothing to make way for. What was there already goes back
        # with the others only if an earlier run, which never came to its end, brought it there.
        if back is None or (entry["state"] == "done" and back["slot"] == entry["live_slot"]):
            continue
        state = services[service]
        slot, leaves = back["slot"], other_slot(back["slot"])
        serves, other = state["slots"][slot], state["slots"][leaves]
        well = serves["active"] and (serves["admitted"] or entry["drained"]) and serves["release"] == back["release"]
        # What is warm there since an earlier run is none of this one's business.
        ours = other["state"] != "idle" and other["release"] == entry["release"]
        if state["live"] == slot and well and not ours:
            continue
        # A worker is asked whether it works; of the others the balancers know.
        committed = serves["enabled"] and not other["enabled"] and state["current"] == back["release"]
        found[service] = {
            "slot": slot,
            "release": back["release"],
            "start": state["live"] != slot and not (serves["active"] and serves["release"] == back["release"]),
            "leaves": leaves,
            "undone": entry["release"] if other["release"] == entry["release"] else "",
            "drained": entry["drained"],
            "settled": service != "worker" and state["live"] == slot and well and committed,
        }
    return found


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rollout_return": rollout_return}
