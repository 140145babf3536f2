#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell which releases are on a host, and what its slots do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_info
short_description: Tell which Linkrift releases are on a host, and what its slots do
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Reads links, units, admission files and ledgers each time, so that it tells what is, not what was meant.
  - Works on a bare host, where it finds nothing.
attributes:
  check_mode:
    description: Changes nothing anyway.
    support: full
  diff_mode:
    description: Changes nothing.
    support: N/A
  idempotent:
    description: Changes nothing.
    support: full
options:
  services:
    description: Services to tell about.
    type: list
    elements: str
    choices: [api, redirect, worker]
    default: [api, redirect, worker]
  health:
    description: Ask each live slot for its health, too, on the host itself.
    type: bool
    default: false
  settle:
    description:
      - Seconds to wait first until what module slot is doing to these services in C(linkrift-op-<service>) has ended,
        and to fail if it has not. An operation goes on when the run that began it is gone, and what is found before its
        end would not last.
      - With 0, nothing is waited for, and RV(operations) tells what is under way.
    type: float
    default: 0
seealso:
  - module: linkrift.platform.release
  - module: linkrift.platform.slot
"""

EXAMPLES = r"""
- name: See what runs
  linkrift.platform.release_info:
  register: found

- name: Show the release that visitors get from this host
  ansible.builtin.debug:
    msg: "{{ found.services.redirect.current }}"
"""

RETURN = r"""
operations:
  description: What is under way, which may change what is told here.
  returned: success
  type: list
  elements: str
  sample: ["redirect candidate 1.4.0+3f9c2a71b0de by alice, since 2026-01-31T12:00:00Z"]
releases:
  description: Releases on the host, sorted by id.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Release id.
      type: str
    path:
      description: Its directory.
      type: str
    complete:
      description: Whether its installation was finished.
      type: bool
    good:
      description: Whether it was live on this host, by the ledgers.
      type: bool
    used_by:
      description: Slots and C(current) links that lead to it, as C(service/slot) and C(service/current).
      type: list
      elements: str
    processes:
      description: Processes that run it.
      type: list
      elements: int
    record:
      description: What it says about itself (C(release.json)); V(null) when incomplete.
      type: dict
services:
  description:
    - What the slots of each service do, by its name. C(warm_until) is when a timer stops the slot (seconds since the
      epoch), or V(null).
    - Of the ledger, C(history) has what was live and good, oldest first (at most the newest 100); C(undone) has the
      releases that were undone and not good since, with the time; C(last) is the newest entry of any kind, or V(null).
    - C(health) is what the live slot answered (C(code) is that of HTTP), or V(null) where nobody asked, or nothing is
      live.
  returned: always
  type: dict
  sample:
    api:
      live: blue
      drained: false
      rendered: 1f0c8a55e1b2c3d4
      current: 1.4.0+3f9c2a71b0de
      slots:
        blue:
          {state: live, release: 1.4.0+3f9c2a71b0de, active: true, enabled: true, admitted: true,
           config_digest: 1f0c8a55e1b2c3d4, port: 8080, warm_until: null}
        green:
          {state: idle, release: null, active: false, enabled: false, admitted: false, config_digest: null, port: 8180,
           warm_until: null}
      health: {code: 200, status: ok, version: 1.4.0+3f9c2a71b0de, error: ""}
      history:
        - {time: "2026-01-31T12:00:00.000Z", release: 1.4.0+3f9c2a71b0de, slot: blue}
      undone: {}
      last:
        {time: "2026-01-31T12:00:00.000Z", service: api, slot: blue, release: 1.4.0+3f9c2a71b0de, action: live,
         config_digest: 1f0c8a55e1b2c3d4, passed: [admitted], by: alice}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._operation_file import HOME, unsettled
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES, Layout
from ansible_collections.linkrift.platform.plugins.module_utils._release_facts import release_facts, service_facts


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "str", "choices": list(SERVICES), "default": list(SERVICES)},
            "health": {"type": "bool", "default": False},
            "settle": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    operations = unsettled(HOME, module.params["services"], module.params["settle"])
    if operations and module.params["settle"] > 0:
        module.fail_json(msg=f"this host is still at work: {'; '.join(operations)}. Wait for it, and repeat this")
    layout = Layout()
    try:
        releases = release_facts(layout)
        services, warnings = service_facts(layout, module.params["services"], health=module.params["health"])
    except OSError as error:
        module.fail_json(msg=f"the host cannot be looked at: {error}")
    for warning in warnings:
        module.warn(warning)
    module.exit_json(changed=False, releases=releases, services=services, operations=operations)


if __name__ == "__main__":
    main()
