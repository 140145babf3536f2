#!/usr/bin/python
"""Make the file systems that lab hosts start from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_image
short_description: File systems that lab hosts start from
description:
  - Builds a plain Debian with an SSH server for each suite, or uses the one it built before when it was made by the
    same recipe and is not too old. A build that was killed leaves nothing that is used.
  - Needs root.
options:
  suites: {description: "Debian suites.", type: list, elements: str, required: true}
  max_age_days: {description: "Older images are built again.", type: float, default: 7}
author: [Linkrift platform team]
"""

EXAMPLES = r"""
- name: Have the images of Debian 12 and 13
  lab_image:
    suites: [bookworm, trixie]
"""

RETURN = r"""
images: {description: Root file system of each suite., type: dict, returned: always}
built: {description: Suites whose image was built now., type: list, elements: str, returned: always}
"""

from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.linkrift_lab import image
from ansible.module_utils.linkrift_lab.errors import LabError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "suites": {"type": "list", "elements": "str", "required": True},
            "max_age_days": {"type": "float", "default": image.MAX_AGE_DAYS},
        }
    )
    suites = sorted(set(module.params["suites"]))
    try:
        with ThreadPoolExecutor() as pool:
            age = module.params["max_age_days"]
            done = list(pool.map(lambda suite: image.ensure(suite, max_age_days=age), suites))
    except LabError as error:
        module.fail_json(msg=str(error))
    built = [made.suite for made, new in done if new]
    module.exit_json(changed=bool(built), built=built, images={made.suite: str(made.path) for made, _ in done})


if __name__ == "__main__":
    main()
