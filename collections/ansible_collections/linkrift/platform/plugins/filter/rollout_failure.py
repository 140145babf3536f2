# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what went wrong in a rollout, and where."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_failure
short_description: Tell what went wrong in a rollout, and where
version_added: 0.3.0
author: Linkrift Platform Team (@linkrift)
description:
  - Takes the result of a task that failed, alone or in a loop, and leaves what people need of it.
  - A task that runs once for the fleet failed where it was delegated to, which the labels of its loop name.
positional: _input, task, host, once
options:
  _input:
    description: C(ansible_failed_result).
    type: dict
    required: true
  task:
    description: Name of the task.
    type: str
    required: true
  host:
    description: The host whose task it was.
    type: str
    required: true
  once:
    description: Whether the task runs once for all hosts.
    type: bool
    required: true
"""

EXAMPLES = r"""
- name: Remember what went wrong
  ansible.builtin.set_fact:
    failure: "{{ ansible_failed_result | linkrift.platform.rollout_failure(task, inventory_hostname, false) }}"
  vars:
    task: "{{ ansible_failed_task.name }}"
"""

RETURN = r"""
_value:
  description: C(task), C(where) (a list of hosts), C(message) and C(evidence) (a list).
  type: dict
  sample: {task: Start and gate the candidates, where: [app2], message: "/ping answers 500, not 302", evidence: []}
"""

from collections.abc import Callable, Mapping
from typing import Any


def rollout_failure(result: Mapping[str, Any], task: str, host: str, once: bool) -> dict[str, Any]:
    """Return what people need of a failed result.

    Args:
        result: of the task.
        task: its name.
        host: whose task it was.
        once: it runs once for all hosts.
    """
    items = [item for item in result.get("results") or [result] if item.get("failed") or item.get("unreachable")]
    labels = [str(item["_ansible_item_label"]) for item in items if item.get("_ansible_item_label")]
    messages = [str(item.get("msg") or "").strip().rstrip(".") for item in items or [result]]
    return {
        "task": task,
        "where": list(dict.fromkeys(labels)) if once and labels else [host],
        "message": "; ".join(dict.fromkeys(message for message in messages if message)),
        "evidence": [item["evidence"] for item in items if item.get("evidence")],
    }


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rollout_failure": rollout_failure}
