# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what is wrong with the addresses that balancers are to share."""

from __future__ import annotations

DOCUMENTATION = r"""
name: shared_address_findings
short_description: Say what is wrong with the addresses that balancers are to share
version_added: 0.3.0
author: Linkrift Platform Team (@linkrift)
description:
  - Each must be an address, in a network of every balancer, and no host's own; and there must be two balancers.
positional: _input, balancers, hostvars
options:
  _input:
    description: The shared addresses; with none, nothing is wrong.
    type: list
    elements: str
    required: true
  balancers:
    description: Names of the balancers.
    type: list
    elements: str
    required: true
  hostvars:
    description:
      - Ansible's variable C(hostvars). C(preflight_networks) of a balancer is the result of C(ip -json address show);
        one without it was not asked, and has no findings.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say what is wrong
  ansible.builtin.debug:
    msg: "{{ linkrift_shared_addresses | linkrift.platform.shared_address_findings(groups['balancers'], hostvars) }}"
"""

RETURN = r"""
_value:
  description: Findings as P(linkrift.platform.preflight_findings#filter) returns them.
  type: list
  elements: dict
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils import _inventory, _shared_address
from ansible_collections.linkrift.platform.plugins.module_utils._preflight import ERROR


def shared_address_findings(
    shared: Sequence[str], balancers: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Return what is wrong (see _shared_address.findings)."""
    if not shared:
        return []
    named: dict[str, list[str]] = {}
    for host in hostvars:
        # One that is given by a name only, or by nothing, cannot be compared.
        with contextlib.suppress(_inventory.InventoryError):
            named[host] = _inventory.addresses_of([host], hostvars)
    found = {
        host: json.loads(hostvars[host]["preflight_networks"]["stdout"])
        for host in balancers
        if hostvars[host].get("preflight_networks", {}).get("rc") == 0
    }
    return [
        {
            "host": host,
            "check": "shared_address",
            "severity": ERROR,
            "message": text,
            "line": f"{host}: {ERROR}: {text}",
        }
        for host, text in _shared_address.findings(shared, balancers, named, found)
    ]


class FilterModule:
    """Brings the filter to Ansible."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"shared_address_findings": shared_address_findings}
