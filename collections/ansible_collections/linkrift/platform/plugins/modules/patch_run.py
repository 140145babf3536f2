#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what a host has to be patched with, and note how far a run came."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patch_run
short_description: Say what a host has to be patched with, and note how far a run came
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Without O(run) it only looks at the packages to upgrade, at whether the host asks for a reboot, at what the last run
    noted. The package lists must be fresh.
  - With O(run) it also decides what is to be done in that run. One that was interrupted goes on where it was, so a host
    that was rebooted in it is not rebooted again.
  - It neither upgrades nor reboots anything.
options:
  run:
    description: Id of the run, a time. All hosts of a run have the same.
    type: str
  state:
    description:
      - V(look) notes nothing.
      - V(begun) notes that the run has begun on this host, unless it had before.
      - V(finished) notes that it is done here.
    type: str
    choices: [look, begun, finished]
    default: look
  upgrade:
    description: V(dist) may install and remove packages where an upgrade needs that, V(safe) does neither.
    type: str
    choices: [dist, safe]
    default: dist
  reboot:
    description: V(auto) when the host asks for it, V(always) once in each run, or V(never).
    type: str
    choices: [auto, always, never]
    default: auto
attributes:
  check_mode:
    description: Decides the same, notes nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: A second run changes nothing.
    support: full
seealso:
  - module: linkrift.platform.slot
"""

EXAMPLES = r"""
- name: Look
  linkrift.platform.patch_run:
  register: found

- name: Note that the host is being worked on
  linkrift.platform.patch_run:
    run: "2026-01-31T12:00:00Z"
    state: begun
"""

RETURN = r"""
need:
  description:
    - What the host needs. C(packages) (C(name), C(old), C(new)), C(held), C(reboot_required), C(reboot_packages),
      C(boot_id), C(drained) (services), C(restart) (units that use files which were replaced, by C(needrestart)).
  returned: success
  type: dict
  sample: {packages: [], held: [], reboot_required: false, reboot_packages: [], boot_id: "0", drained: [], restart: []}
todo:
  description: What is to be done, C(work) being whether anything is. Empty without O(run).
  returned: success
  type: dict
  sample: {upgrade: true, reboot: false, resume: false, work: true, keep_drained: false}
record:
  description: What is noted. C(run), C(state), C(boot_id) before the run. Empty without a note.
  returned: success
  type: dict
  sample: {run: "2026-01-31T12:00:00Z", state: finished, boot_id: "0", format: 1}
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _patch as patch

ROOT = Path("/")


def main() -> None:
    """Run the module."""
    os.umask(0o022)
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "str"},
            "state": {"type": "str", "choices": ["look", "begun", "finished"], "default": "look"},
            "upgrade": {"type": "str", "choices": list(patch.UPGRADES), "default": "dist"},
            "reboot": {"type": "str", "choices": list(patch.REBOOT), "default": "auto"},
        },
        required_if=[("state", "begun", ["run"]), ("state", "finished", ["run"])],
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    params = module.params
    try:
        need = patch.look(ROOT, module.run_command, params["upgrade"]).as_dict()
        before = patch.read_record(ROOT)
        after = noted(before, params, need["boot_id"])
        if after != before and not module.check_mode:
            patch.write_record(ROOT, after)
    except (patch.PatchError, OSError) as error:
        module.fail_json(msg=str(error))
    todo = patch.decide(need, before, params["run"], params["reboot"]) if params["run"] else {}
    module.exit_json(changed=after != before, need=need, todo=todo, record=after)


def noted(before: dict[str, Any], params: dict[str, Any], boot_id: str) -> dict[str, Any]:
    """Return the note as it shall be."""
    if params["state"] == "look":
        return before
    same = before.get("run") == params["run"]
    if params["state"] == "begun" and same and before.get("state") == "begun":
        # An earlier try: what it noted from before it began is what counts.
        return before
    return {
        "run": params["run"],
        "state": params["state"],
        "boot_id": before.get("boot_id", boot_id) if same else boot_id,
        "format": patch.FORMAT,
    }


if __name__ == "__main__":
    main()
