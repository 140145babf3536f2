#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the report of a rollout on a balancer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_archive
short_description: Keep the report of a rollout on a balancer
version_added: 0.3.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Writes C(<id>.json) and C(<id>.html), readable by root, and removes the oldest ones. What else lies there stays.
options:
  id:
    description: Id of the rollout.
    type: str
    required: true
  report:
    description: The report, as P(linkrift.platform.rollout_report#filter) makes it.
    type: dict
    required: true
  page:
    description: The same for people. Without it, only the data is kept.
    type: str
    default: ""
  keep:
    description: Rollouts to keep.
    type: int
    default: 50
  path:
    description: Directory of the reports.
    type: path
    default: /var/lib/linkrift/rollouts
attributes:
  check_mode:
    description: Tells what would be written and removed.
    support: full
  diff_mode:
    description: Names what is written and removed.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
seealso:
  - plugin: linkrift.platform.rollout_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Keep the report
  linkrift.platform.rollout_archive:
    id: "{{ rollout_report.id }}"
    report: "{{ rollout_report }}"
    page: "{{ lookup('ansible.builtin.template', 'report.html.j2') }}"
"""

RETURN = r"""
path:
  description: The page, or the data where there is no page.
  returned: success
  type: str
  sample: /var/lib/linkrift/rollouts/20260131T120000Z-0a1b2c.html
removed:
  description: Files that were removed, or would be.
  returned: success
  type: list
  elements: str
  sample: []
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _rollout_archive as archive


def main() -> None:
    """Run the module."""
    # The directory may be looked into, whatever umask sudo left; the reports have a mode of their own.
    os.umask(0o022)
    module = AnsibleModule(
        argument_spec={
            "id": {"type": "str", "required": True},
            "report": {"type": "dict", "required": True},
            "page": {"type": "str", "default": ""},
            "keep": {"type": "int", "default": 50},
            "path": {"type": "path", "default": str(archive.PATH)},
        },
        supports_check_mode=True,
    )
    params, directory = module.params, Path(module.params["path"])
    try:
        wished = archive.plan(directory, params["id"], params["report"], params["page"], params["keep"])
        if not module.check_mode:
            archive.apply(directory, wished)
    except (ValueError, OSError) as error:
        module.fail_json(msg=f"the report cannot be kept: {error}")
    removed = [str(path) for path in wished.remove]
    module.exit_json(
        changed=bool(wished.write or removed),
        path=str(directory / f"{params['id']}{'.html' if params['page'] else '.json'}"),
        removed=removed,
        diff={
            "before_header": str(directory),
            "after_header": str(directory),
            "before": "".join(f"{path}\n" for path in removed),
            "after": "".join(f"{path}\n" for path in wished.write),
        },
    )


if __name__ == "__main__":
    main()
