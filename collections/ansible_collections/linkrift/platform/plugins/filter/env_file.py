# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: variables as an environment file."""

from __future__ import annotations

DOCUMENTATION = r"""
name: env_file
short_description: Write variables as an environment file
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns the content of an environment file (C(EnvironmentFile=) of a unit) with one line for each variable, sorted.
  - Values are quoted so that systemd and a POSIX shell read exactly what was given, whatever quotes, backslashes,
    dollar signs, number signs or spaces it holds.
positional: _input
options:
  _input:
    description: Value of each variable. Text, numbers and booleans.
    type: dict
    required: true
  header:
    description: Lines of a comment to put first.
    type: str
    default: ""
seealso:
  - plugin: linkrift.platform.env_findings
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Render the environment
  ansible.builtin.copy:
    content: "{{ {'LINKRIFT_ENV': 'production', 'LINKRIFT_JWT_SECRET': secret} | linkrift.platform.env_file }}"
    dest: /etc/linkrift/api.env
    mode: "0600"
  no_log: true
"""

RETURN = r"""
_value:
  description: Content of the file.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.module_utils import _env


def env_file(variables: Mapping[str, Any], header: str = "") -> str:
    """Return variables as an environment file.

    Raises:
        AnsibleFilterError: a variable cannot be written; the message names it, never its value.
    """
    if not isinstance(variables, Mapping):
        msg = f"linkrift.platform.env_file needs a dictionary, not {type(variables).__name__}"
        raise AnsibleFilterError(msg)
    try:
        return _env.render(variables, header)
    except _env.EnvError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"env_file": env_file}
