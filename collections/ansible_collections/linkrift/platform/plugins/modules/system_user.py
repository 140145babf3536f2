#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A user that runs services and can do nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
module: system_user
short_description: Have a user that runs services, and neither logs in nor becomes root
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - The user has a group of its own name and no other, no shell, a locked password, and nothing from sudo.
  - What somebody gave it is taken away again, which is groups, a shell, a password, and rules in C(/etc/sudoers.d) that
    name it, its number or its group. A rule for several users goes on for the others.
  - What gives it rights from elsewhere, such as C(/etc/sudoers), an alias or a directory service, is not touched. The
    module fails and says what C(sudo -l -U) says.
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows what would be mended, and files of sudo before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  name:
    description:
      - The user, and its group.
    type: str
    required: true
  home:
    description:
      - Its home directory, which is not made.
    type: path
    required: true
  comment:
    description:
      - What it is for.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Have the services' user
  linkrift.platform.system_user:
    name: linkrift
    home: /var/lib/linkrift
    comment: Linkrift services
"""

RETURN = r"""
mended:
  description: What was done, or would be, in words.
  returned: success
  type: list
  elements: str
  sample: ["taken out of groups sudo"]
"""

import stat
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._host_files import put
from ansible_collections.linkrift.platform.plugins.module_utils._system_user import (
    Plan,
    may_use_sudo,
    plan,
    read_account,
    sudoers_changes,
)

SUDOERS = Path("/etc/sudoers.d")
GROUPS = Path("/etc/group")


def sudo_says(module: AnsibleModule, name: str) -> str:
    """Return what sudo lists for the user; nothing on a host without sudo."""
    path = module.get_bin_path("sudo")
    if not path:
        return ""
    _code, output, _error = module.run_command([path, "-n", "-l", "-U", name], environ_update={"LC_ALL": "C"})
    return str(output)


def take_rules(module: AnsibleModule, changes: dict[Path, str]) -> None:
    """Change files of sudoers.d, each one checked by visudo before."""
    for path, text in changes.items():
        if not text:
            path.unlink()
            continue
        found = path.stat()
        candidate = Path(module.tmpdir) / path.name
        candidate.write_text(text, encoding="utf-8", errors="surrogateescape")
        module.run_command([module.get_bin_path("visudo", required=True), "-cf", str(candidate)], check_rc=True)
        put(path, text, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "comment": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    name = module.params["name"]
    account = read_account(name)
    has_group = any(line.startswith(f"{name}:") for line in GROUPS.read_text(encoding="utf-8").splitlines())
    todo: Plan = plan(name, module.params["home"], module.params["comment"], account, has_group=has_group)
    rules: dict[Path, str] = {}
    listing = sudo_says(module, name) if account and not todo.commands else ""
    if account and (todo.commands or may_use_sudo(listing)):
        rules = sudoers_changes(SUDOERS, [name, f"%{name}", f"#{account.uid}"])
    before = {path: path.read_text(encoding="utf-8", errors="surrogateescape") for path in rules}
    if not module.check_mode:
        for command in todo.commands:
            module.run_command(command, check_rc=True)
        take_rules(module, rules)
        if account and (todo.commands or rules):
            listing = sudo_says(module, name)
        if may_use_sudo(listing):
            module.fail_json(
                msg=f"user {name} may still use sudo, by something else than {SUDOERS}: take it away. sudo says: "
                + " ".join(listing.split())
            )
    mended = [*todo.mends, *(f"rules taken out of {path}" for path in rules)]
    module.exit_json(
        changed=bool(mended),
        mended=mended,
        diff=[
            {"before": "", "after": "".join(f"{line}\n" for line in todo.mends)},
            *(
                {"before_header": str(path), "after_header": str(path), "before": before[path], "after": text}
                for path, text in rules.items()
            ),
        ],
    )


if __name__ == "__main__":
    main()
