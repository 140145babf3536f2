#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Ansible's facts do not say about a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Tell where operators come from and who keeps the time
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Looks at the SSH connection that it runs through, at the operators' addresses that fail2ban already knows, and at
    the clock. It changes nothing.
attributes:
  check_mode:
    description: Changes nothing anyway.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
options:
  operators_file:
    description:
      - File of fail2ban with a line C(linkrift_operators =), from an earlier run.
    type: path
    required: true
  known:
    description:
      - Addresses and networks that need not be remembered as an operator's.
    type: list
    elements: str
    default: []
  limit:
    description:
      - How many operators' addresses to remember, the latest ones.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Look at the host
  linkrift.platform.host_info:
    operators_file: /etc/fail2ban/jail.d/linkrift.conf
  register: host
"""

RETURN = r"""
operators:
  description: Addresses that operators came from so far, this connection's included.
  returned: success
  type: list
  elements: str
time:
  description: Who keeps the time.
  returned: success
  type: dict
  contains:
    daemon:
      description: The program that is installed for it and not masked; empty without one.
      type: str
    kept_by:
      description: V(host), or V(machine) for a container, which has its machine's clock.
      type: str
    synchronized:
      description: Whether the kernel says that the clock is synchronised. In a container it is the machine's answer.
      type: bool
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._clock import in_container, is_synchronised
from ansible_collections.linkrift.platform.plugins.module_utils._connection import (
    find_connection,
    operators,
    recorded_operators,
)
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import run_command
from ansible_collections.linkrift.platform.plugins.module_utils._unit_states import UnitsError, look

# What synchronises the clock on Debian and Ubuntu; the first one that is there. A masked one is there for systemd even
# when its package is not, and never runs.
DAEMONS = ("chrony", "ntpsec", "ntp", "openntpd", "systemd-timesyncd")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "operators_file": {"type": "path", "required": True},
            "known": {"type": "list", "elements": "str", "default": []},
            "limit": {"type": "int", "default": 8},
        },
        supports_check_mode=True,
    )
    file = Path(module.params["operators_file"])
    connection = find_connection()
    try:
        found = operators(
            recorded_operators(file.read_text(encoding="utf-8") if file.is_file() else ""),
            connection.client if connection else None,
            module.params["known"],
            module.params["limit"],
        )
        units = look([f"{name}.service" for name in DAEMONS], run_command)
        container, synchronized = in_container(run_command), is_synchronised(run_command)
    except (ValueError, UnitsError, OSError, TimeoutError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        operators=found,
        time={
            "daemon": next(
                (name for name in DAEMONS if (unit := units[f"{name}.service"]).there and not unit.masked), ""
            ),
            "kept_by": "machine" if container else "host",
            "synchronized": synchronized is True,
        },
    )


if __name__ == "__main__":
    main()
