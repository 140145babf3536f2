#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell whether an application host is ready for the next release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_preflight
short_description: Tell whether an application host is ready for the next release
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Looks whether the bundle can be had and fits this host, whether disk and memory have room for it and for a second
    slot of every service, whether the ports of the idle slots are free, and whether the live slots have all that they
    need. Returns all that an operator should know, at once, and never fails because of it.
  - Returns what only all hosts together say something of, too, such as the connections to the database.
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
  releases:
    description: Ids of what is to be rolled out. Without any, there has to be room for another one like what is live.
    type: list
    elements: str
    default: []
  manifests:
    description:
      - What bundles say about themselves that are in no bundle store yet, by release id, as filter
        P(linkrift.platform.bundle_manifest#filter) returns it.
    type: dict
    default: {}
  services:
    description: Services of this host.
    type: list
    elements: str
    choices: [api, redirect, worker]
    default: [api, redirect, worker]
  source:
    description: Where releases come from, as O(linkrift.platform.release#module:source) has it.
    type: str
    required: true
  ca_path:
    description: Certificates to trust for it.
    type: path
  python:
    description: The interpreter that releases are installed for.
    type: path
    default: /usr/bin/python3
  ready:
    description: What a live slot is that is not ready. Only a new release may be what mends it.
    type: str
    choices: [error, warning]
    default: error
  ports:
    description: Look whether the ports of idle slots are free.
    type: bool
    default: true
seealso:
  - module: linkrift.platform.host_preflight
  - module: linkrift.platform.release
"""

EXAMPLES = r"""
- name: See whether the release can come
  linkrift.platform.release_preflight:
    releases: [1.4.0+3f9c2a71b0de]
    source: https://bundles.linkrift.internal:8443
    ca_path: /etc/linkrift/tls/ca.pem
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
      message: "/opt/linkrift/releases has 80 MiB free, and release 1.4.0+3f9c2a71b0de needs 194: remove old releases …"
releases:
  description: What the releases say about themselves, by id. C(tests) is how many passed, V(null) where none were run.
  returned: always
  type: dict
  sample:
    1.4.0+3f9c2a71b0de:
      {schema_level: 5, schema_floor: 0, tests: 283, commit: 3f9c2a71b0de…, dirty: false}
connections:
  description: How many connections to PostgreSQL both slots of a service may open, and as whom.
  returned: always
  type: list
  elements: dict
  sample:
    - {service: api, user: linkrift_api, connections: 40}
figures:
  description: MiB that are needed, and there.
  returned: always
  type: dict
  sample: {disk_needed_mb: 194, disk_free_mb: 8112, memory_needed_mb: 312, memory_available_mb: 2710}
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _release_preflight as preflight
from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError, Manifest
from ansible_collections.linkrift.platform.plugins.module_utils._bundle_source import Source, open_source
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES, Layout
from ansible_collections.linkrift.platform.plugins.module_utils._release import find_interpreter
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Host
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import SystemdError

LAYOUT = Layout()
_FETCH_SECONDS = 10.0


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "releases": {"type": "list", "elements": "str", "default": []},
            "manifests": {"type": "dict", "default": {}},
            "services": {"type": "list", "elements": "str", "choices": list(SERVICES), "default": list(SERVICES)},
            "source": {"type": "str", "required": True},
            "ca_path": {"type": "path"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "ready": {"type": "str", "choices": ["error", "warning"], "default": "error"},
            "ports": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params

    def source(release: str) -> Source:
        return open_source(params["source"], release, params["ca_path"], _FETCH_SECONDS)

    try:
        hosts = [host_of(service) for service in params["services"]]
        looked = preflight.inspect(wishes(params), hosts, source, preflight.free_bytes)
    except (BundleError, SystemdError, OSError, ValueError) as error:
        module.fail_json(msg=f"the host cannot be looked at: {error}")
    module.exit_json(
        changed=False,
        findings=[finding.as_dict() for finding in looked.findings],
        releases=looked.releases,
        connections=looked.connections,
        figures=looked.figures,
    )


def wishes(params: dict[str, Any]) -> preflight.Wishes:
    """Read what is asked.

    Raises:
        BundleError: the interpreter does not work, or a manifest is none.
    """
    return preflight.Wishes(
        releases=params["releases"],
        manifest={name: Manifest.parse(json.dumps(said).encode()) for name, said in params["manifests"].items()},
        target=find_interpreter(Path(params["python"])).target,
        ready=params["ready"],
        ports=params["ports"],
    )


def host_of(service: str) -> Host:
    """Return a service of this host."""
    return Host(service, LAYOUT)


if __name__ == "__main__":
    main()
