#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: watch what visitors get from some slots, by the balancer's counters."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation_watch
short_description: Watch what visitors get from slots, by a balancer's own counters
version_added: 0.2.0
author: Linkrift Platform Team (@linkrift)
description:
  - Compares the counters of servers with what they were, for some time, and fails as soon as one of them grew by more
    than it may. By default nothing may fail, and nothing may be tried twice either - a retry that hid a failure is one.
  - A server that HAProxy has in C(ready) and whose checks fail is a failure, too.
  - Changes nothing. A reload or restart of HAProxy brings a process that counts from 0, and is taken into account. What
    the old process counts after the last look at it is not seen here, but by M(linkrift.platform.access_log_info).
options:
  servers:
    description: Which servers to watch. By default, all of ours that are C(ready) when it begins.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: The service.
        type: str
        required: true
      host:
        description: The host.
        type: str
        required: true
      slot:
        description: The slot.
        type: str
        required: true
        choices: [blue, green]
  baseline:
    description:
      - What HAProxy had counted, the result of M(linkrift.platform.rotation) or M(linkrift.platform.rotation_info) (of
        it, C(pid) and C(rotation)). By default counting begins with the first look, so O(seconds) are needed.
      - A server that was down then, and still is, is no failure, such as one of a host that is left out.
    type: dict
  bounds:
    description: By how much each counter of a server may grow.
    type: dict
    suboptions:
      hrsp_5xx:
        description: Answers with a status of 500 or more.
        type: int
        default: 0
      econ:
        description: Connections that could not be made.
        type: int
        default: 0
      eresp:
        description: Answers that broke off or could not be understood.
        type: int
        default: 0
      wretr:
        description: Attempts that were repeated.
        type: int
        default: 0
      wredis:
        description: Requests that were given to another server after an attempt failed.
        type: int
        default: 0
  seconds:
    description: How long to watch. V(0) looks once.
    type: float
    default: 0
  interval:
    description: Seconds between two looks.
    type: float
    default: 1
  admin_socket:
    description: Socket for commands to the worker.
    type: path
    default: /run/haproxy/admin.sock
attributes:
  check_mode:
    description: Looks once, however long it would watch.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
seealso:
  - module: linkrift.platform.rotation
  - module: linkrift.platform.rotation_info
  - module: linkrift.platform.slot_watch
"""

EXAMPLES = r"""
- name: Note what was counted before the switch
  linkrift.platform.rotation_info:
  register: before

- name: See, for a minute, that nobody notices anything of the new slot
  linkrift.platform.rotation_watch:
    baseline: "{{ before }}"
    servers:
      - {service: redirect, host: app1, slot: green}
    seconds: 60
"""

RETURN = r"""
servers:
  description:
    - By C(<service>/<host>-<slot>), C(admin) and C(status) at the end, C(requests), and by how much the other counters
      grew since the baseline.
  returned: always
  type: dict
  sample:
    redirect/app1-green:
      {admin: ready, status: UP, requests: 12034, hrsp_2xx: 0, hrsp_3xx: 12030, hrsp_4xx: 4, hrsp_5xx: 0, econ: 0,
       eresp: 0, wretr: 0, wredis: 0}
looks:
  description: How often HAProxy was asked.
  returned: always
  type: int
  sample: 61
reloads:
  description: How often another process of HAProxy answered than before.
  returned: always
  type: int
  sample: 0
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import Haproxy, Key, Socket
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SLOTS
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import Change
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_watch import (
    BOUNDED,
    Baseline,
    RotationWatchError,
    Watch,
    run,
)

ARGUMENTS: dict[str, Any] = {
    "servers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "service": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "slot": {"type": "str", "required": True, "choices": list(SLOTS)},
        },
    },
    "baseline": {"type": "dict"},
    "bounds": {"type": "dict", "options": {name: {"type": "int", "default": 0} for name in BOUNDED}},
    "seconds": {"type": "float", "default": 0},
    "interval": {"type": "float", "default": 1},
    "admin_socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    params = module.params
    if params["baseline"] is None and params["seconds"] <= 0:
        module.fail_json(msg="there is nothing to compare with: give a baseline, or seconds to watch for")
    watch = Watch(keys_of(params["servers"]), params["bounds"] or {}, None)
    try:
        if params["baseline"] is not None:
            watch.baseline = Baseline.of_result(params["baseline"])
        reason = run(
            watch,
            Haproxy(Socket(params["admin_socket"]), None),
            seconds=0 if module.check_mode else params["seconds"],
            interval=max(params["interval"], 0.1),
            clock=time.monotonic,
            sleep=time.sleep,
        )
    except RotationWatchError as error:
        module.fail_json(msg=str(error), **result_of(watch))
    if reason:
        module.fail_json(msg=f"visitors notice: {reason}. The counters are in `servers`", **result_of(watch))
    requests = sum(server["requests"] for server in watch.figures().values())
    module.exit_json(changed=False, msg=f"all is well: {requests} requests", **result_of(watch))


def keys_of(servers: list[dict[str, str]]) -> list[Key]:
    """Return the servers that are named, as HAProxy names them."""
    return [Change(**server, state="ready").key for server in servers]


def result_of(watch: Watch) -> dict[str, Any]:
    """Return what was seen."""
    return {"servers": watch.figures(), "looks": watch.looks, "reloads": watch.reloads}


if __name__ == "__main__":
    main()
