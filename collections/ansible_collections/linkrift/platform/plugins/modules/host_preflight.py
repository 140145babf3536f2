#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell whether a host is fit to join the platform."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_preflight
short_description: Tell whether a host is fit for the Linkrift platform
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Looks at the system, disks, memory, clock, names, ports and package sources of a host, and returns all that an
    operator should know, at once. It never fails because of what it finds, so that a play can show the findings of all
    hosts together.
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
  distributions:
    description: Supported versions, by the distribution's C(ID) in os-release(5).
    type: dict
    default:
      debian: ["12", "13"]
      ubuntu: ["22.04", "24.04"]
  architectures:
    description: Supported architectures, as C(uname -m) says them.
    type: list
    elements: str
    default: [x86_64, aarch64]
  disks:
    description: MiB that must be free, by path. Of a path that does not exist yet, the nearest parent counts.
    type: dict
    default:
      /: 2048
  memory:
    description: MiB that each part needs which runs on the host; their sum must not exceed its memory.
    type: dict
    default: {}
  reference_time:
    description:
      - The control node's time in seconds since the epoch, which the host's clock is compared with. V(0) leaves it out.
    type: float
    default: 0
  clock_tolerance:
    description: Seconds by which the two may differ. It takes a moment until the module runs.
    type: float
    default: 10
  names:
    description: Host names that must resolve, besides the host's own.
    type: list
    elements: str
    default: []
  ports:
    description: TCP ports that the platform is going to use.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      purpose:
        description: What for, for messages.
        type: str
        required: true
      units:
        description: Patterns of the systemd units that may listen there already.
        type: list
        elements: str
        default: []
  backups:
    description: Hours that the newest file below a directory with backups may be old, by the directory.
    type: dict
    default: {}
  packages:
    description: Whether to ask apt's sources, and whether all packages are in order.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Look at the host
  linkrift.platform.host_preflight:
    disks: {/opt: 2048, /var/lib: 4096}
    memory: {system: 300, redirect: 400}
    reference_time: "{{ now().timestamp() }}"
    ports:
      - {port: 8081, purpose: redirect, units: ["linkrift-redirect@*.service"]}
  register: looked

- name: Show what it found
  ansible.builtin.debug:
    msg: "{{ looked.findings | map(attribute='message') }}"
"""

RETURN = r"""
findings:
  description: What an operator should know; empty when all is well.
  returned: always
  type: list
  elements: dict
  sample:
    - check: disk
      severity: error
      message: "/opt has 512 MiB free and needs 2048: make room, or a larger disk"
figures:
  description: The host's figures.
  returned: always
  type: dict
  sample:
    {distribution: debian 12, architecture: x86_64, python: 3.11.2, processors: 2, memory_mb: 3910, swap_mb: 0,
     needed_mb: 780}
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._preflight import PortUse, Wishes, inspect


def main() -> None:
    """Run the module."""
    now = time.time()
    port = {
        "port": {"type": "int", "required": True},
        "purpose": {"type": "str", "required": True},
        "units": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(
        argument_spec={
            "distributions": {
                "type": "dict",
                "default": {"debian": ["12", "13"], "ubuntu": ["22.04", "24.04"]},
            },
            "architectures": {"type": "list", "elements": "str", "default": ["x86_64", "aarch64"]},
            "disks": {"type": "dict", "default": {"/": 2048}},
            "memory": {"type": "dict", "default": {}},
            "reference_time": {"type": "float", "default": 0},
            "clock_tolerance": {"type": "float", "default": 10},
            "names": {"type": "list", "elements": "str", "default": []},
            "ports": {"type": "list", "elements": "dict", "default": [], "options": port},
            "backups": {"type": "dict", "default": {}},
            "packages": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    asked = module.params
    try:
        looked_for = Wishes(
            distributions=asked["distributions"],
            architectures=asked["architectures"],
            disks={path: int(size) for path, size in asked["disks"].items()},
            memory={name: int(size) for name, size in asked["memory"].items()},
            reference_time=asked["reference_time"],
            clock_tolerance=asked["clock_tolerance"],
            names=asked["names"],
            ports=[PortUse(use["port"], use["purpose"], tuple(use["units"])) for use in asked["ports"]],
            packages=asked["packages"],
            backups={path: float(hours) for path, hours in asked["backups"].items()},
        )
        found, figures = inspect(looked_for, now)
    except (OSError, ValueError, TypeError) as error:
        module.fail_json(msg=f"the host cannot be looked at: {error}")
    module.exit_json(changed=False, findings=[finding.as_dict() for finding in found], figures=figures)


if __name__ == "__main__":
    main()
