# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: why a rollout failed, in one sentence for all hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_reason
short_description: Tell why a rollout failed, in one sentence for all hosts
version_added: 0.3.0
author: Linkrift Platform Team (@linkrift)
description:
  - Hosts that failed for the same reason are named together, hosts that were lost last.
positional: _input, lost
options:
  _input:
    description: By host, what P(linkrift.platform.rollout_failure#filter) returned.
    type: dict
    required: true
  lost:
    description: Hosts that do not answer any more.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Say why
  ansible.builtin.debug:
    msg: "{{ failures | linkrift.platform.rollout_reason(['app3']) }}"
"""

RETURN = r"""
_value:
  description: The sentence, without a full stop.
  type: str
  sample: "app1, app2: /ping answers 500, not 302; app3 was lost"
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def rollout_reason(failures: Mapping[str, Mapping[str, Any]], lost: Sequence[str] = ()) -> str:
    """Return why a rollout failed.

    Args:
        failures: `task` and `message` of each failure, by host.
        lost: hosts that do not answer any more.
    """
    places: dict[str, list[str]] = {}
    for host, failure in failures.items():
        message = failure["message"] or f"the task {failure['task']} failed"
        places.setdefault(message, []).append(host)
    reasons = [f"{', '.join(sorted(where))}: {message}" for message, where in places.items()]
    reasons += [f"{', '.join(lost)} was lost"] if lost else []
    return "; ".join(reasons) or "a step failed"


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rollout_reason": rollout_reason}
