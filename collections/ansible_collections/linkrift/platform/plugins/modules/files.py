#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write a set of configuration files in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Write a set of configuration files, checked before and made known afterwards
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Writes all files that differ, after every one of them was accepted by the command that it names. One that is refused
    leaves all as they were.
  - Then runs the commands that changed files name, each once. If one fails, its files become again what they were, so
    that the next run tries again.
  - Each file is replaced in one step. A symbolic link is followed.
attributes:
  check_mode:
    description: Says what would change; texts are checked where the command is installed already.
    support: full
  diff_mode:
    description: Shows each file before and after.
    support: full
  idempotent:
    description: A second run changes nothing, and runs no command.
    support: full
options:
  files:
    description:
      - The files, in the order in which they are written.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description:
          - Where the file is. Its directory must be there.
        type: path
        required: true
      content:
        description:
          - Its text; with O(files[].block), the text of the block. A missing line end at the end is added.
        type: str
        required: true
      block:
        description:
          - Name of a block between two comment lines; what is around it stays. An empty text takes the block away.
        type: str
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
        default: "0644"
      validate:
        description:
          - Command and arguments that must accept the text, with V(%s) for a file with it.
        type: list
        elements: str
        default: []
      after:
        description:
          - Command and arguments to run when the file has changed.
        type: list
        elements: str
        default: []
      only_if:
        description:
          - Leave this file out on a host that does not have this path.
        type: path
"""

EXAMPLES = r"""
- name: Configure the journal and who may use sudo
  linkrift.platform.files:
    files:
      - path: /etc/systemd/journald.conf.d/site.conf
        content: |
          [Journal]
          SystemMaxUse=1G
        after: [systemctl, restart, systemd-journald.service]
      - path: /etc/sudoers.d/operators
        content: "%operators ALL=(ALL:ALL) ALL"
        mode: "0440"
        validate: [visudo, -cf, "%s"]
"""

RETURN = r"""
written:
  description: Paths of the files that changed, or would.
  returned: success
  type: list
  elements: str
ran:
  description: Commands that were run because of it.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._host_files import (
    FileChange,
    FileSpec,
    HostFileError,
    apply_files,
    check_file,
    compare_file,
    parse_owner,
)
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import run_command


def parse(entry: dict[str, Any]) -> FileSpec:
    """Turn one entry of the parameter into a file."""
    content = entry["content"]
    return FileSpec(
        path=Path(entry["path"]),
        content=content if not content or content.endswith("\n") else f"{content}\n",
        owner=parse_owner(entry),
        block=entry["block"],
        validate=tuple(entry["validate"]),
        after=tuple(entry["after"]),
    )


def check(module: AnsibleModule, changes: list[FileChange]) -> None:
    """Have all changed texts checked."""
    for change in changes:
        # On a bare host a dry run comes before the packages.
        if module.check_mode and change.spec.validate and not module.get_bin_path(change.spec.validate[0]):
            continue
        check_file(change, run_command)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "block": {"type": "str"},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str", "default": "0644"},
                    "validate": {"type": "list", "elements": "str", "default": []},
                    "after": {"type": "list", "elements": "str", "default": []},
                    "only_if": {"type": "path"},
                },
            }
        },
        supports_check_mode=True,
    )
    wanted = [entry for entry in module.params["files"] if not entry["only_if"] or Path(entry["only_if"]).exists()]
    written: list[str] = []
    ran: list[str] = []
    try:
        changes = [change for change in map(compare_file, map(parse, wanted)) if change]
        check(module, changes)
        if module.check_mode:
            written = [str(change.spec.path) for change in changes]
        else:
            outcome = apply_files(changes, run_command)
            written, ran = outcome.written, outcome.ran
    except (HostFileError, OSError, TimeoutError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(changes), written=written, ran=ran, diff=[change.diff for change in changes])


if __name__ == "__main__":
    main()
