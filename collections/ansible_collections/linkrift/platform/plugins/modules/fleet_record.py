#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read and write which release of each service the fleet runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_record
short_description: Read and write which release of each service the fleet runs
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - The fleet record is a small file on each balancer. A new or rebuilt host installs the releases that it names,
    whatever the inventory says. Without O(services) and O(serving) it is only read.
  - Where there are several balancers, call this for each of them in sorted order, so that two runs at once agree.
options:
  services:
    description:
      - Release id by service, as a rollout decided it. Replaces what the record says; other services stay as they are.
    type: dict
    default: {}
  serving:
    description:
      - What hosts serve, by host and service, a dictionary with the live C(release), as role
        C(linkrift.platform.service) sets C(service_slots). A service that the record does not know is added if all
        hosts agree. Where a host disagrees with the record, that is a warning, and the record stays.
    type: dict
    default: {}
  by:
    description: Who does this. By default the user who became root.
    type: str
  path:
    description: The record.
    type: path
    default: /var/lib/linkrift/fleet.json
attributes:
  check_mode:
    description: Tells what would be written.
    support: full
  diff_mode:
    description: Shows the record before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
seealso:
  - module: linkrift.platform.slot
"""

EXAMPLES = r"""
- name: Read it
  linkrift.platform.fleet_record:
  register: fleet

- name: Note what a rollout took live
  linkrift.platform.fleet_record:
    services:
      redirect: 1.4.0+3f9c2a71b0de
"""

RETURN = r"""
record:
  description: The entries, by service.
  returned: success
  type: dict
  sample: {redirect: {release: 1.4.0+3f9c2a71b0de, since: "2026-01-31T12:00:00Z", by: alice}}
path:
  description: Where it lies.
  returned: success
  type: str
  sample: /var/lib/linkrift/fleet.json
"""

import datetime
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _fleet_record as fleet
from ansible_collections.linkrift.platform.plugins.module_utils._ledger import who_runs_this


def main() -> None:
    """Run the module."""
    # Everybody on the host may read it, whatever umask sudo left.
    os.umask(0o022)
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "dict", "default": {}},
            "serving": {"type": "dict", "default": {}},
            "by": {"type": "str"},
            "path": {"type": "path", "default": str(fleet.PATH)},
        },
        supports_check_mode=True,
    )
    params, path = module.params, Path(module.params["path"])
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    try:
        known = fleet.read(path)
        merged = fleet.merge(known, params["services"], params["serving"], now, params["by"] or who_runs_this())
        if merged.services != known and not module.check_mode:
            fleet.write(path, merged.services)
    except (fleet.FleetRecordError, ValueError) as error:
        module.fail_json(msg=str(error))
    for warning in merged.warnings:
        module.warn(warning)
    module.exit_json(
        changed=merged.services != known,
        record=merged.services,
        path=str(path),
        diff={
            "before_header": str(path),
            "after_header": str(path),
            "before": fleet.render(known) if known else "",
            "after": fleet.render(merged.services) if merged.services else "",
        },
    )


if __name__ == "__main__":
    main()
