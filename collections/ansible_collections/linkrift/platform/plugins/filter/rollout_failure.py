# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what went wrong on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_failure
short_description: Tell what went wrong on a host
version_added: 0.3.0
author: Linkrift Platform Team (@linkrift)
description:
  - Takes the result of a task that failed, alone or in a loop, and leaves what people need of it.
positional: _input, task
options:
  _input:
    description: C(ansible_failed_result).
    type: dict
    required: true
  task:
    description: Name of the task.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Remember what went wrong
  ansible.builtin.set_fact:
    failure: "{{ ansible_failed_result | linkrift.platform.rollout_failure(task) }}"
  vars:
    task: "{{ ansible_failed_task.name }}"
"""

RETURN = r"""
_value:
  description: C(task), C(message) and C(evidence) (a list).
  type: dict
  sample: {task: Start and gate the candidates, message: "/ping answers 500, not 302", evidence: []}
"""

from collections.abc import Callable, Mapping
from typing import Any


def rollout_failure(result: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return what people need of a failed result.

    Args:
        result: of the task.
        task: its name.
    """
    items = [item for item in result.get("results") or [result] if item.get("failed") or item.get("unreachable")]
    messages = [str(item.get("msg") or "").strip().rstrip(".") for item in items or [result]]
    return {
        "task": task,
        "message": "; ".join(dict.fromkeys(message for message in messages if message)),
        "evidence": [item["evidence"] for item in items if item.get("evidence")],
    }


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rollout_failure": rollout_failure}
