#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: watch the slots of a host while visitors are on them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: slot_watch
short_description: Watch the slots of a host while visitors are on them
version_added: 0.2.0
author: Linkrift Platform Team (@linkrift)
description:
  - Looks at slots again and again for some time, and fails as soon as one of them is not well, with evidence.
  - Each look asks for C(/health) (200, or 404 on a drained host, from the right release), sends the real requests of
    M(linkrift.platform.slot)'s gate C(smoke), and adds up the memory of the slot's processes. The journal is read every
    five seconds and at the end. A process that ended, or was started again, is not well either.
  - Changes nothing. What the balancers saw meanwhile is told by M(linkrift.platform.rotation_watch).
options:
  services:
    description: Which services. By default, all that have a live slot here.
    type: list
    elements: str
    choices: [api, redirect, worker]
  slots:
    description: Which slot of a service to watch, where it is not the live one.
    type: dict
    suboptions:
      api:
        description: Slot of the API.
        type: str
        choices: [blue, green]
      redirect:
        description: Slot of redirect.
        type: str
        choices: [blue, green]
      worker:
        description: Slot of the worker.
        type: str
        choices: [blue, green]
  ports:
    description: Ports of the slots, by service and slot, where they are not the usual ones.
    type: dict
    default: {}
  address:
    description: Where to ask. By default the address that a service listens on, by its environment.
    type: str
  seconds:
    description: How long to watch. V(0) looks once.
    type: float
    default: 0
  interval:
    description: Seconds between two looks.
    type: float
    default: 1
  failures:
    description:
      - Wrong answers in a row that are too many. At the last look one is. An answer of another release always is.
    type: int
    default: 2
  request_timeout:
    description: Seconds that one answer may take.
    type: float
    default: 5
  memory_bound:
    description: MiB that all processes of a slot may have in use together. By default nine tenths of its C(MemoryMax).
    type: float
  error_rate:
    description:
      - Lines of level error or worse that a slot, or systemd about it, may write in a minute. In less than a minute it
        may write as many.
    type: float
    default: 0
  overdue:
    description:
      - Seconds that a worker may be late to store the clicks that it took.
    type: float
    default: 15
  since:
    description:
      - From when on those lines count, in seconds since 1970. By default from the beginning of the watch, or, where it
        looks once, from a minute before. What was written before the slot was started never counts.
    type: float
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
  - module: linkrift.platform.slot
  - module: linkrift.platform.rotation_watch
"""

EXAMPLES = r"""
- name: Watch what was taken live for a minute
  linkrift.platform.slot_watch:
    services: [api, worker]
    seconds: 60

- name: See once whether all is well
  linkrift.platform.slot_watch:
"""

RETURN = r"""
services:
  description:
    - What was seen of each service. C(slot), C(release), C(looks), C(wrong) (looks with a wrong answer), C(memory)
      (C(first_mib), C(mib) (the most), C(bound_mib), C(processes)), C(errors) (C(lines), C(allowed), C(minutes)),
      C(smoke) (C(asked), or why not), and C(reason), which is empty while it is well.
  type: dict
  returned: always
  sample:
    redirect:
      slot: green
      release: 1.4.0+3f9c2a71b0de
      looks: 61
      wrong: 0
      memory: {first_mib: 101.3, mib: 104.9, processes: 3, bound_mib: 921.6}
      errors: {lines: 0, allowed: 0.0, minutes: 1.0}
      smoke: asked
      reason: ""
evidence:
  description: For each service that is not well, the unit's state, the last answer, error lines and the journal's end.
  type: dict
  returned: failure
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _slot_watch as slot_watch
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES, SLOTS
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Gates, Host, SlotError
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import SystemdError

ARGUMENTS: dict[str, Any] = {
    "services": {"type": "list", "elements": "str", "choices": list(SERVICES)},
    "slots": {
        "type": "dict",
        "options": {service: {"type": "str", "choices": list(SLOTS)} for service in SERVICES},
    },
    "ports": {"type": "dict", "default": {}},
    "address": {"type": "str"},
    "seconds": {"type": "float", "default": 0},
    "interval": {"type": "float", "default": 1},
    "failures": {"type": "int", "default": 2},
    "request_timeout": {"type": "float", "default": 5},
    "memory_bound": {"type": "float"},
    "error_rate": {"type": "float", "default": 0},
    "overdue": {"type": "float", "default": 15},
    "since": {"type": "float"},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    patience = slot_watch.Patience(
        seconds=0 if module.check_mode else module.params["seconds"],
        interval=max(module.params["interval"], 0.1),
        failures=max(module.params["failures"], 1),
        since=module.params["since"],
    )
    try:
        result = watched(module.params, patience)
    except SlotError as error:
        module.fail_json(msg=str(error), **error.evidence)
    except (SystemdError, OSError) as error:
        module.fail_json(msg=str(error), services={})
    module.exit_json(changed=False, **result)


def watched(params: dict[str, Any], patience: slot_watch.Patience) -> dict[str, Any]:
    """Watch what the parameters name, and return the module's result.

    Raises:
        SlotError: a slot is not well, or a service that was named is not live here.
    """
    named = params["services"]
    slots = params["slots"] or {}
    found = {
        service: slot_watch.begin(host_of(service, params), slots.get(service), patience)
        for service in (named or SERVICES)
    }
    missing = [service for service, slot in found.items() if slot is None]
    if named and missing:
        msg = f"nothing of {', '.join(missing)} is live on this host: name other services, or leave `services` out"
        raise SlotError(msg, services={})
    here = [slot for slot in found.values() if slot]
    slot_watch.watch(here, patience)
    slot_watch.refuse(here)
    return {
        "services": {slot.host.service: slot.as_dict() for slot in here},
        "msg": f"all is well: {', '.join(slot.host.service for slot in here) or 'nothing is live here'}",
    }


def host_of(service: str, params: dict[str, Any]) -> Host:
    """Return a service's host for the module's parameters."""
    ports = (params["ports"] or {}).get(service) or {}
    return Host(
        service=service,
        ports={slot: int(port) for slot, port in ports.items() if port},
        address=params["address"] or "",
        gates=Gates(
            timeout=params["request_timeout"],
            memory_bound=params["memory_bound"],
            error_rate=params["error_rate"],
            overdue=params["overdue"],
        ),
    )


if __name__ == "__main__":
    main()
