#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say who changes the fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_lock_info
short_description: Say who changes the fleet
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Reads the lease that a run holds while it changes the fleet. Changes nothing. Run it on a balancer.
options:
  path:
    description: The lease.
    type: path
    default: /var/lib/linkrift/lock.json
attributes:
  check_mode:
    description: Does the same.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
seealso:
  - module: linkrift.platform.fleet_lock
"""

EXAMPLES = r"""
- name: See who holds the fleet
  linkrift.platform.fleet_lock_info:
  register: lock

- name: Say so
  ansible.builtin.debug:
    msg: "{{ lock.lease.purpose }} by {{ lock.lease.by }}, for {{ lock.seconds_left }} s yet"
  when: lock.held
"""

RETURN = r"""
lease:
  description: The lease as it lies there, also one that has ended; null for none.
  returned: success
  type: dict
  sample:
    id: 20260131T120000Z-3f9c2a
    purpose: deploy
    by: alice@control
    control: {host: 5f1d7a84c0b2e963, process: 4711, started: "1180034"}
    since: "2026-01-31T12:00:00Z"
    until: "2026-01-31T12:15:00Z"
held:
  description: There is one that has not ended.
  returned: success
  type: bool
  sample: true
seconds_left:
  description: Seconds until it ends, if it is not renewed; 0 without one.
  returned: success
  type: int
  sample: 612
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _lease as leases


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "default": str(leases.PATH)}}, supports_check_mode=True
    )
    try:
        found = leases.read(Path(module.params["path"]))
    except leases.LeaseError as error:
        module.fail_json(msg=str(error))
    left = max(0, int((found.until - leases.utc_now()).total_seconds())) if found else 0
    module.exit_json(changed=False, lease=found.as_dict() if found else None, held=left > 0, seconds_left=left)


if __name__ == "__main__":
    main()
