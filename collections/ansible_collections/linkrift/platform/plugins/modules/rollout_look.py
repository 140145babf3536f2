#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at hosts and balancers side by side: the documentation of the action of that name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_look
short_description: Look at hosts and balancers side by side
description:
  - Runs M(linkrift.platform.release_info) where slots are, M(linkrift.platform.rotation_info) where visitors come in,
    and M(linkrift.platform.pg_info) on the host that may ask PostgreSQL, all in one task. As tasks of their own, each
    kind of host would wait for the other.
  - A host of which nothing is asked is asked whether it is there.
version_added: 0.3.0
author:
  - Linkrift Platform Team (@linkrift)
options:
  services:
    description:
      - Services whose slots are looked at, with the host's releases. Without any, they are not.
    type: list
    elements: str
    default: []
  balancer:
    description:
      - Look at what the balancer on this host does, and at the fleet record there.
    type: bool
    default: false
  schema:
    description:
      - Where to ask PostgreSQL for its schema, and as whom. Options of M(linkrift.platform.pg_info); C(python) runs it,
        and must have its driver. Without any, nobody is asked.
    type: dict
    default: {}
  settle:
    description:
      - Seconds to wait for work that is under way on the host. The task fails where there is some left.
    type: float
    default: 0
attributes:
  check_mode:
    description: Looks in check mode, too.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
seealso:
  - module: linkrift.platform.release_info
  - module: linkrift.platform.rotation_info
  - module: linkrift.platform.pg_info
"""

EXAMPLES = r"""
- name: Look at all of them
  linkrift.platform.rollout_look:
    services: "{{ ['api', 'redirect'] if inventory_hostname in groups['app_hosts'] else [] }}"
    balancer: "{{ inventory_hostname in groups['balancers'] }}"
  register: seen
"""

RETURN = r"""
looked:
  description: True. A look that failed has none.
  returned: success
  type: bool
slots:
  description: What M(linkrift.platform.release_info) returned, where O(services) were given.
  returned: success
  type: dict
rotation:
  description: What M(linkrift.platform.rotation_info) returned, with O(balancer).
  returned: success
  type: dict
schema:
  description:
    - What M(linkrift.platform.pg_info) returned, with O(schema). Where nobody answers, the task succeeds, and this has
      C(msg) and no C(schema_level).
  returned: success
  type: dict
"""
