# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: whether the fleet is ready for the next release."""

from __future__ import annotations

DOCUMENTATION = r"""
name: release_findings
short_description: Tell what is in the way of the next release
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Puts together what role P(linkrift.platform.release_preflight#role) found on hosts and balancers, and adds what only
    all of them together say, such as the connections to the database.
positional: _input, hostvars
options:
  _input:
    description: Hosts by group; Ansible's variable C(groups).
    type: dict
    required: true
  hostvars:
    description:
      - Variables by host, with what role P(linkrift.platform.release_preflight#role) registered. Hosts without that
        were not looked at.
    type: dict
    required: true
  bundles:
    description: Bundles on the control node, as filter P(linkrift.platform.bundle_manifest#filter) returns them.
    type: list
    elements: dict
    default: []
  require_tests:
    description: A bundle that was built without its tests is an error, and not a warning.
    type: bool
    default: false
  days:
    description: Days before its end from which on a certificate is worth a warning.
    type: int
    default: 21
  fleet:
    description: Judge what is live as well, where role P(linkrift.platform.status#role) looked at it.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Show what is in the way
  ansible.builtin.debug:
    msg: "{{ groups | linkrift.platform.release_findings(hostvars) | map(attribute='line') }}"
"""

RETURN = r"""
_value:
  description: Findings with C(host), C(check), C(severity), C(message) and, of all that, one C(line). Errors first.
  type: list
  elements: dict
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.linkrift.platform.plugins.filter.abandoned_leases import abandoned_leases
from ansible_collections.linkrift.platform.plugins.module_utils._preflight import ERROR
from ansible_collections.linkrift.platform.plugins.plugin_utils._release_findings import Wish, findings
from ansible_collections.linkrift.platform.plugins.plugin_utils._status import status


def release_findings(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    *,
    bundles: Iterable[Mapping[str, Any]] = (),
    require_tests: bool = False,
    days: int = 21,
    fleet: bool = True,
) -> list[dict[str, str]]:
    """Return all findings, errors first."""
    seen = status(groups, hostvars, time.time()) if fleet else {}
    wish = Wish(
        bundle_errors={str(bundle["id"]): str(bundle["error"]) for bundle in bundles if bundle["error"]},
        require_tests=require_tests,
        abandoned=abandoned_leases(seen.get("leases", ())),
        days=days,
    )
    mentioned = {name: hostvars[name] for name in groups.get("all") or ()}
    return sorted(findings(mentioned, seen, wish), key=lambda finding: finding["severity"] != ERROR)


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"release_findings": release_findings}
