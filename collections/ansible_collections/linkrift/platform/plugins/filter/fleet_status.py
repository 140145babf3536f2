# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: the state of the whole fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_status
short_description: Tell the state of the whole fleet, and what is wrong with it
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Puts side by side what hosts, balancers, ledgers and the fleet record say, and tells where they differ.
  - The playbook C(status) shows the result.
positional: _input, hostvars, now
options:
  _input:
    description: Hosts by group. Those of C(api_hosts), C(redirect_hosts), C(worker_hosts) and C(balancers) count.
    type: dict
    required: true
  hostvars:
    description:
      - Variables by host. C(status_looked) is the result of M(linkrift.platform.release_info) with C(health).
        Balancers have C(status_rotation), C(status_record) and C(status_lease), the results of
        M(linkrift.platform.rotation_info), M(linkrift.platform.fleet_record) and
        M(linkrift.platform.fleet_lock_info). Hosts without them were not looked at, and are left out.
    type: dict
    required: true
  now:
    description: Seconds since the epoch, from which ages are counted. By default the time at which this is asked.
    type: float
"""

EXAMPLES = r"""
- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ (groups | linkrift.platform.fleet_status(hostvars)).findings }}"
"""

RETURN = r"""
_value:
  description:
    - C(rows) has each service of each host with C(host), C(service), C(slot) (the live one), C(release), C(since),
      C(age) (seconds), C(health), C(rotation) (the slots that get visitors by balancer, null where nobody knows),
      C(last) (the newest entry of the ledger), C(findings) (what is wrong), C(notes) (what is meant to be so).
    - C(balancers), C(fleet) (release by service, as recorded) and C(leases) (who changes the fleet).
    - C(findings) and C(notes) have all of them, C(lines) tells everything for people.
  type: dict
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.linkrift.platform.plugins.plugin_utils._status import status


def fleet_status(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]], now: float | None = None
) -> dict[str, Any]:
    """Return the state of the fleet.

    Args:
        groups: hosts by group.
        hostvars: variables by host.
        now: seconds since the epoch; None: it is now.
    """
    return status(groups, hostvars, time.time() if now is None else now)


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"fleet_status": fleet_status}
