#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Set kernel settings, now and at boot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_settings
short_description: Set kernel settings, now and for the next boot
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Writes one file for C(/etc/sysctl.d), and sets each value that differs now.
  - What this host cannot change, because it is a container or its kernel lacks the setting, is returned and no failure.
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows the file and the values before and after.
    support: full
  idempotent:
    description: A second run changes nothing. What cannot be set does not count as a change.
    support: full
options:
  settings:
    description:
      - Values by name, such as V(net.core.somaxconn).
    type: dict
    required: true
  path:
    description:
      - The file.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Take long queues of connections
  linkrift.platform.kernel_settings:
    path: /etc/sysctl.d/90-site.conf
    settings:
      net.core.somaxconn: "8192"
"""

RETURN = r"""
set:
  description: Names of the settings that were set, or would be.
  returned: success
  type: list
  elements: str
refused:
  description: Settings that this host cannot have.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The setting.
      type: str
    wanted:
      description: The value that it should have.
      type: str
    found:
      description: The value that it has.
      type: str
    reason:
      description: Why it cannot be set.
      type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._host_files import (
    FileSpec,
    HostFileError,
    Owner,
    compare_file,
    write,
)
from ansible_collections.linkrift.platform.plugins.module_utils._kernel import KernelError, compare, put, render


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"settings": {"type": "dict", "required": True}, "path": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    settings = {str(name): str(value) for name, value in module.params["settings"].items()}
    done: list[str] = []
    try:
        change = compare_file(FileSpec(Path(module.params["path"]), render(settings), Owner("root", "root", 0o644)))
        different = compare(settings)
        refused = [vars(setting) for setting in different if setting.reason]
        open_ones = [setting for setting in different if not setting.reason]
        if change and not module.check_mode:
            write(change)
        for setting in open_ones:
            reason = None if module.check_mode else put(setting)
            if reason:
                refused.append({**vars(setting), "reason": reason})
            else:
                done.append(setting.name)
    except (KernelError, HostFileError) as error:
        module.fail_json(msg=str(error))
    taken = [setting for setting in open_ones if setting.name in done]
    module.exit_json(
        changed=bool(change or done),
        set=done,
        refused=refused,
        diff=[
            *([change.diff] if change else []),
            {
                "before_header": "now",
                "after_header": "now",
                "before": "".join(f"{setting.name} = {setting.found}\n" for setting in taken),
                "after": "".join(f"{setting.name} = {setting.wanted}\n" for setting in taken),
            },
        ],
    )


if __name__ == "__main__":
    main()
