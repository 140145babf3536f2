#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a set of units run, or not, now and at boot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Have a set of units of systemd run, or not, now and after a boot
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Enables and starts, or disables and stops, each unit that is not as wished. One question to systemd serves for all.
  - A unit that runs and has not read one of its files since it was changed is restarted or reloaded, whichever run
    changed that file. systemd reads unit files again where they were changed.
  - A unit whose conditions this host does not meet, such as time synchronisation in a container, counts as it is.
attributes:
  check_mode:
    description: Says what would change. A unit that is not there yet would be changed.
    support: full
  diff_mode:
    description: Shows the states before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  units:
    description:
      - The units.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - The unit, with its suffix.
        type: str
        required: true
      state:
        description:
          - V(on) is enabled and started, V(off) is disabled and stopped. A static unit is only started or stopped.
        type: str
        choices: ["on", "off"]
        default: "on"
      restart_for:
        description:
          - Files that the unit's program reads only when it starts. One that is not there is left out.
        type: list
        elements: path
        default: []
      reload_for:
        description:
          - Files that it also reads with a reload.
        type: list
        elements: path
        default: []
"""

EXAMPLES = r"""
- name: Have attackers banned, and security fixes installed
  linkrift.platform.units:
    units:
      - {name: fail2ban.service}
      - {name: apt-daily-upgrade.timer}

- name: Have a daemon run with the settings that it has now
  linkrift.platform.units:
    units:
      - {name: clickhouse-server.service, restart_for: [/etc/clickhouse-server/config.d/linkrift.xml]}
"""

RETURN = r"""
changes:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
  sample: ["fail2ban.service: started"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._systemd import run_command
from ansible_collections.linkrift.platform.plugins.module_utils._unit_states import (
    Reads,
    UnitsError,
    apply,
    compare,
    look,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "state": {"type": "str", "choices": ["on", "off"], "default": "on"},
                    "restart_for": {"type": "list", "elements": "path", "default": []},
                    "reload_for": {"type": "list", "elements": "path", "default": []},
                },
            }
        },
        supports_check_mode=True,
    )
    wanted = {entry["name"]: entry["state"] == "on" for entry in module.params["units"]}
    reads = {
        entry["name"]: Reads(tuple(entry["restart_for"]), tuple(entry["reload_for"]))
        for entry in module.params["units"]
    }
    try:
        found = look(list(wanted), run_command)
        steps = compare(wanted, found, missing_is_fine=module.check_mode, reads=reads)
        if not module.check_mode:
            apply(steps, run_command)
    except (UnitsError, TimeoutError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(steps),
        changes=[step.describe() for step in steps],
        diff={"before": "", "after": "".join(f"{step.describe()}\n" for step in steps)},
    )


if __name__ == "__main__":
    main()
