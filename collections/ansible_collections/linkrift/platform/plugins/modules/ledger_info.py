#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what happened to the slots of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_info
short_description: Say what happened to the slots of a host
version_added: 0.3.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Reads the ledgers of services on a host, all of them or the lines of one rollout. Changes nothing.
options:
  services:
    description: Services to look at.
    type: list
    elements: str
    choices: [api, redirect, worker]
    default: [api, redirect, worker]
  run:
    description: Id of a rollout. Only lines that name it in C(by) are returned.
    type: str
  limit:
    description: As many lines of each service at most, the newest.
    type: int
    default: 100
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
  - module: linkrift.platform.release_info
"""

EXAMPLES = r"""
- name: Read what a rollout did here
  linkrift.platform.ledger_info:
    run: 20260131T120000Z-0a1b2c
  register: ledger
"""

RETURN = r"""
entries:
  description: The lines, oldest first, by service.
  returned: success
  type: dict
  sample:
    redirect:
      - {time: "2026-01-31T12:00:00.000Z", service: redirect, slot: blue, release: 1.4.0+3f9c2a71b0de, action: live,
         config_digest: 1f0c8a55e1b2c3d4, passed: [admitted], by: deploy 20260131T120000Z-0a1b2c (alice)}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES, Layout, read_ledger


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "str", "choices": list(SERVICES), "default": list(SERVICES)},
            "run": {"type": "str"},
            "limit": {"type": "int", "default": 100},
        },
        supports_check_mode=True,
    )
    if module.params["limit"] < 1:
        module.fail_json(msg="limit: it is 1 at least")
    layout = Layout()
    try:
        entries = {
            service: _of(read_ledger(layout.ledger(service)), module.params) for service in module.params["services"]
        }
    except OSError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, entries=entries)


def _of(entries: list[dict[str, Any]], params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the wished lines of a ledger."""
    run = params["run"]
    wished = [entry for entry in entries if not run or run in str(entry.get("by", "")).split()]
    return wished[-params["limit"] :]


if __name__ == "__main__":
    main()
