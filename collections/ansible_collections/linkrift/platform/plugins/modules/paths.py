#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make directories, and give what is there the right owner and mode, in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: paths
short_description: Make a set of directories, and set owners and modes of what is there
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Makes the directories that are missing, and sets owner, group and mode of each path. One module call for all of a
    role's directories takes one look at the host.
  - Symbolic links are not followed, and nothing inside a directory is touched.
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows owner, group and mode of each path before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  paths:
    description:
      - The paths, parents before children.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description:
          - The path.
        type: path
        required: true
      state:
        description:
          - With V(directory), a directory is made where there is none. With V(present), only what is there is changed.
        type: str
        choices: [directory, present]
        default: directory
      owner:
        description:
          - Its user.
        type: str
        default: root
      group:
        description:
          - Its group.
        type: str
        default: root
      mode:
        description:
          - Its mode, octal.
        type: str
        default: "0755"
"""

EXAMPLES = r"""
- name: Make the site's directories, and hide root's jobs
  linkrift.platform.paths:
    paths:
      - {path: /etc/site}
      - {path: /var/log/site, owner: site, group: adm, mode: "2750"}
      - {path: /etc/crontab, state: present, mode: "0600"}
"""

RETURN = r"""
paths:
  description: Paths that changed, or would.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._host_files import (
    HostFileError,
    PathChange,
    apply_path,
    compare_path,
    parse_owner,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "state": {"type": "str", "choices": ["directory", "present"], "default": "directory"},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str", "default": "0755"},
                },
            }
        },
        supports_check_mode=True,
    )
    changes: list[PathChange] = []
    try:
        for entry in module.params["paths"]:
            change = compare_path(Path(entry["path"]), parse_owner(entry), make=entry["state"] == "directory")
            if change:
                changes.append(change)
                if not module.check_mode:
                    apply_path(change)
    except HostFileError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(changes),
        paths=[str(change.path) for change in changes],
        diff={
            "before": "".join(f"{change.path} {change.before}\n" for change in changes),
            "after": "".join(f"{change.path} {change.after}\n" for change in changes),
        },
    )


if __name__ == "__main__":
    main()
