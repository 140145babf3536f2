# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what keeps variables from becoming an environment file."""

from __future__ import annotations

DOCUMENTATION = r"""
name: env_findings
short_description: Tell what keeps variables from becoming an environment file
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns one sentence for each variable that M(linkrift.platform.slot) could not give to a service. None holds a
    value, so they may be shown where the variables may not.
positional: _input
options:
  _input:
    description: Value of each variable.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Check the environment before anything changes
  ansible.builtin.assert:
    that: service_environment | linkrift.platform.env_findings == []
    fail_msg: "{{ service_environment | linkrift.platform.env_findings | join('; ') }}"
"""

RETURN = r"""
_value:
  description: The sentences. Empty when all is well.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils import _env


def env_findings(variables: Mapping[str, Any]) -> list[str]:
    """Return what keeps variables from becoming an environment file."""
    if not isinstance(variables, Mapping):
        return [f"expected a dictionary of variables, not {type(variables).__name__}"]
    return _env.findings(variables)


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"env_findings": env_findings}
