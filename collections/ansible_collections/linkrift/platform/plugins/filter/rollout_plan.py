# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what a rollout has to do."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_plan
short_description: Tell what a rollout has to do, and where an undo leads to
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Compares what the hosts run with what they are to run, and returns stages of batches of hosts, and for each service
    of a host which slot it moves to. What a run that was killed left is part of it, so the same wish again leads on.
  - A batch never holds all hosts that serve something, if they are several, but with C(blue_green), where all hosts are
    one batch.
positional: _input, wish
options:
  _input:
    description:
      - The result of M(linkrift.platform.release_info) by host. Where the settings that are rendered are others than
        those of the live slot, it moves though its release stays.
    type: dict
    required: true
  wish:
    description:
      - C(release) is an id, or one by service. C(services) are all by default. C(groups) has the hosts by service, in
        the order in which they move. C(strategy) is C(rolling) or C(blue_green), C(batch) a number of hosts or a share
        such as C(25%). C(fleet) is the release by service as the fleet record has it, which an undo leads to.
        C(drained) names hosts that are drained, though they cannot say so. C(stages) is a list of C(name) and
        C(services). C(rotation) has the C(states) of M(linkrift.platform.rotation_info) by balancer; one that does not
        send to a live slot, such as after it was down, is a reason to settle that.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Plan
  ansible.builtin.set_fact:
    plan: "{{ found | linkrift.platform.rollout_plan(wish) }}"
  vars:
    found: {app1: "{{ hostvars.app1.looked }}", app2: "{{ hostvars.app2.looked }}"}
    wish:
      release: 1.4.0+3f9c2a71b0de
      groups: {api: [app1], redirect: [app1, app2], worker: [app2]}
      batch: 50%
"""

RETURN = r"""
_value:
  description:
    - C(stages) with C(name), C(services) and C(batches); stages with nothing to do are left out.
    - C(hosts) by host and service, with C(live_slot), C(live_release), C(target_slot), C(release), C(drained), C(why).
      C(state) is C(move), C(done), or C(settle) (the release is right, and something that was begun is to be finished).
      C(make_room) says that the target slot runs something else, which must be stopped first. C(back) is the C(slot)
      and C(release) that an undo leads to, and whether it is C(warm); null where nothing was live.
    - C(drained) names hosts that have something to do and are drained.
    - C(record) has the releases that the fleet record does not have yet.
    - C(changes) says whether there is anything to do, C(why) tells it in lines.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.module_utils._rollout_plan import PlanError, plan, wish_of


def rollout_plan(facts: Mapping[str, Mapping[str, Any] | None], wish: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a rollout has to do.

    Args:
        facts: what `release_info` returned, by host.
        wish: what it is to come to.

    Raises:
        AnsibleFilterError: the wish makes no sense, or a host was not looked at.
    """
    try:
        return plan(facts, wish_of(wish))
    except PlanError as error:
        msg = f"no rollout can be planned: {error}"
        raise AnsibleFilterError(msg) from error


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rollout_plan": rollout_plan}
