#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have one run at a time change the fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_lock
short_description: Have one run at a time change the fleet
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - The lock is a lease, a small file on each balancer that says who changes the fleet, why, and until when. It ends by
    itself, so that a control node that went away locks nobody out for good. Times are those of the balancer's clock.
  - Call this for each balancer in sorted order, and stop at the first one that refuses, so that of two runs at once one
    gets all of them. Role C(linkrift.platform.fleet_lock) does.
options:
  state:
    description:
      - V(held) takes the lease, or renews it. Another run's that has neither ended nor been abandoned is an error.
      - V(free) ends it. Another run's stays, with a warning.
    type: str
    choices: [held, free]
    default: held
  owner:
    description: The run, as filter P(linkrift.platform.lease_owner#filter) returns it.
    type: dict
    required: true
    suboptions:
      id:
        description: Names the run. Whoever comes with the same one renews the lease.
        type: str
        required: true
      by:
        description: Who runs it, for others. Needed for V(held).
        type: str
        default: ""
      control:
        description:
          - The run's process on its control node, as C(host), C(process) and C(started), by which that node can tell
            later whether it is gone.
        type: dict
        default: {}
      signed:
        description: How the run signs elsewhere, such as in ledgers. Not part of the lease.
        type: str
  purpose:
    description: What the run does, such as V(deploy). Others are told. Needed for V(held).
    type: str
  seconds:
    description:
      - When the lease ends, unless it is renewed before. Renewing it counts as a change, and writes, only when that
        makes it more than a tenth of this longer.
    type: int
    default: 900
  renew:
    description:
      - Fail unless the lease is this run's already. For a run that was asleep meanwhile, such as on a laptop, and must
        not go on after somebody else has had the fleet.
    type: bool
    default: false
  abandoned:
    description:
      - Ids of leases whose runs the control node knows to be dead, as filter
        P(linkrift.platform.abandoned_leases#filter) returns them. They are taken over, with a warning.
    type: list
    elements: str
    default: []
  take_over:
    description: Id of the lease to take over in any case, since the operator knows that its run is dead.
    type: str
    default: ""
  path:
    description: The lease.
    type: path
    default: /var/lib/linkrift/lock.json
attributes:
  check_mode:
    description: Tells what would be written, and refuses as it would.
    support: full
  diff_mode:
    description: Shows the lease before and after.
    support: full
  idempotent:
    description: A second call of the same run soon after changes nothing.
    support: full
seealso:
  - module: linkrift.platform.fleet_lock_info
  - module: linkrift.platform.fleet_record
"""

EXAMPLES = r"""
- name: Say who this run is, once
  ansible.builtin.set_fact:
    run: "{{ 'deploy' | linkrift.platform.lease_owner }}"

- name: Hold the fleet
  linkrift.platform.fleet_lock:
    owner: "{{ run }}"
    purpose: deploy
  register: lock

- name: Let others have it
  linkrift.platform.fleet_lock:
    state: free
    owner: "{{ run }}"
"""

RETURN = r"""
lease:
  description: The lease that there is now (in check mode, would be); null for none.
  returned: success
  type: dict
  sample:
    id: 20260131T120000Z-3f9c2a
    purpose: deploy
    by: alice@control
    control: {host: 5f1d7a84c0b2e963, process: 4711, started: "1180034"}
    since: "2026-01-31T12:00:00Z"
    until: "2026-01-31T12:15:00Z"
gone:
  description: Somebody else has the lease, or had it since. Missing where it could only not be read or written.
  returned: when it is refused
  type: bool
held_by:
  description: Whose lease it is, as RV(lease) has it.
  returned: when another run holds it
  type: dict
taken_over:
  description: Another run's lease that was ended; null for none.
  returned: success
  type: dict
  sample: null
path:
  description: Where it lies.
  returned: success
  type: str
  sample: /var/lib/linkrift/lock.json
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _lease as leases


def main() -> None:
    """Run the module."""
    # Everybody on the host may read it, whatever umask sudo left.
    os.umask(0o022)
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "free"], "default": "held"},
            "owner": {
                "type": "dict",
                "required": True,
                "options": {
                    "id": {"type": "str", "required": True},
                    "by": {"type": "str", "default": ""},
                    "control": {"type": "dict", "default": {}},
                    "signed": {"type": "str"},
                },
            },
            "purpose": {"type": "str"},
            "seconds": {"type": "int", "default": 900},
            "renew": {"type": "bool", "default": False},
            "abandoned": {"type": "list", "elements": "str", "default": []},
            "take_over": {"type": "str", "default": ""},
            "path": {"type": "path", "default": str(leases.PATH)},
        },
        required_if=[("state", "held", ["purpose"])],
        supports_check_mode=True,
    )
    params, path, write = module.params, Path(module.params["path"]), not module.check_mode
    try:
        if params["state"] == "held":
            outcome = leases.hold(path, _wish(params), write=write)
        else:
            outcome = leases.free(path, params["owner"]["id"], write=write)
    except leases.LeaseHeldError as error:
        module.fail_json(msg=str(error), gone=True, held_by=error.lease.as_dict())
    except leases.LeaseLostError as error:
        module.fail_json(msg=str(error), gone=True)
    except (leases.LeaseError, ValueError) as error:
        module.fail_json(msg=str(error))
    if outcome.warning:
        module.warn(outcome.warning)
    module.exit_json(
        changed=outcome.before != outcome.after,
        lease=outcome.after.as_dict() if outcome.after else None,
        taken_over=outcome.taken_over.as_dict() if outcome.taken_over else None,
        path=str(path),
        diff={
            "before_header": str(path),
            "after_header": str(path),
            "before": leases.render(outcome.before) if outcome.before else "",
            "after": leases.render(outcome.after) if outcome.after else "",
        },
    )


def _wish(params: dict[str, Any]) -> leases.Wish:
    """Read what is wished."""
    owner = params["owner"]
    return leases.Wish(
        id=owner["id"],
        by=owner["by"],
        control=leases.control_of(owner["control"]),
        purpose=params["purpose"],
        seconds=params["seconds"],
        abandoned=params["abandoned"],
        take_over=params["take_over"],
        renew=params["renew"],
    )


if __name__ == "__main__":
    main()
