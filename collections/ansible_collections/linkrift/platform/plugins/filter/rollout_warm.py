# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: where a rollout can send visitors at once, since what it leads to is still warm."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_warm
short_description: Tell which slots are warm with what a rollout leads to
version_added: 0.3.0
author: Linkrift Platform Team (@linkrift)
description:
  - A slot that was kept warm after it served has passed its gates, and has what visitors ask for in its cache. A
    balancer that finds it well can send visitors to it before anything else is done.
  - One whose timer is about to stop it is left out, and so is one with other settings than those of today.
positional: _input, facts, now, drain
options:
  _input:
    description: C(hosts) of what P(linkrift.platform.rollout_plan#filter) returned.
    type: dict
    required: true
  facts:
    description: The result of M(linkrift.platform.release_info) by host.
    type: dict
    required: true
  now:
    description: Seconds since the epoch.
    type: float
    required: true
  drain:
    description: Seconds that requests may take to end where visitors leave.
    type: float
    default: 60
"""

EXAMPLES = r"""
- name: Send visitors back
  linkrift.platform.rotation:
    services: "{{ haproxy_services }}"
    changes: "{{ states | linkrift.platform.rotation_moves(warm) }}"
  vars:
    warm: "{{ plan.hosts | linkrift.platform.rollout_warm(facts, now().timestamp()) }}"
"""

RETURN = r"""
_value:
  description: The slot by host and service; hosts without one are left out.
  type: dict
  sample: {app1: {api: blue, redirect: blue}}
"""

from collections.abc import Callable, Mapping
from typing import Any

MARGIN = 60.0
"""Seconds that a slot must have left before its timer stops it, besides a drain: a switch and its checks take less."""


def rollout_warm(
    hosts: Mapping[str, Mapping[str, Mapping[str, Any]]],
    facts: Mapping[str, Mapping[str, Any]],
    now: float,
    drain: float = 60,
) -> dict[str, dict[str, str]]:
    """Return the warm slots that visitors can be sent to at once.

    Args:
        hosts: the plan's entries by host and service.
        facts: what `release_info` returned, by host.
        now: seconds since the epoch.
        drain: seconds that requests may take to end where visitors leave.
    """
    found: dict[str, dict[str, str]] = {}
    for host, services in hosts.items():
        for service, entry in services.items():
            slot = facts[host]["services"][service]["slots"][entry["target_slot"]]
            stays = slot["warm_until"] is None or slot["warm_until"] > now + MARGIN + float(drain)
            fits = slot["state"] == "warm" and slot["release"] == entry["release"] and slot["active"]
            # Only what takes visitors is ever warm; a worker that is admitted beside another one was left by a kill.
            if entry["state"] == "move" and service != "worker" and fits and stays and not entry["make_room"]:
                found.setdefault(host, {})[service] = entry["target_slot"]
    return found


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rollout_warm": rollout_warm}
