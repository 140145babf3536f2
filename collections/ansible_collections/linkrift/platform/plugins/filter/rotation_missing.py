# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: which servers of other hosts should take traffic and do not."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rotation_missing
short_description: List servers that should take traffic and do not
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns, in words, each server of another host that is C(ready) in the backends file while HAProxy does not send to
    it.
positional: _input, host
options:
  _input:
    description: C(rotation) as M(linkrift.platform.rotation_info) returns it.
    type: dict
    required: true
  host:
    description: The host that does not count.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: See that all others serve
  ansible.builtin.assert:
    that: found.rotation | linkrift.platform.rotation_missing('app2') == []
"""

RETURN = r"""
_value:
  description: Sentences.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any


def rotation_missing(rotation: Mapping[str, Any], host: str = "") -> list[str]:
    """Return what should take traffic and does not.

    Args:
        rotation: what a balancer really does.
        host: the host that does not count.
    """
    return [
        f"{service}/{name} is {server['status']} ({server['check_status']} {server['check_detail']})".replace(" )", ")")
        for service, entry in sorted(rotation.items())
        for name, server in sorted(entry["servers"].items())
        if server["state"] == "ready" and server["host"] != host and not server["takes_traffic"]
    ]


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rotation_missing": rotation_missing}
