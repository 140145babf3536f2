#!/usr/bin/python
"""Make or remove the network of a lab."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_network
short_description: Network of a lab of hosts on this machine
description:
  - Gives a lab a number, from which its subnets follow (C(198.18.<number>.0/24) and C(fd6c:696e:6b72:<number>::/64)),
    and makes a bridge and a table of nftables through which its hosts reach what the machine reaches.
  - Labs whose directory is gone are removed first, since nobody could remove them any more.
  - Needs root.
options:
  name: {description: "What people call the lab.", type: str, required: true}
  directory:
    description: Where the lab's user keeps its keys and inventory; it is what tells labs apart.
    type: path
    required: true
  number: {description: "The only number that will do; any free one when not given.", type: int}
  state: {description: "Whether it is to exist.", type: str, choices: [present, absent], default: present}
author: [Linkrift platform team]
"""

EXAMPLES = r"""
- name: Make the lab's network
  lab_network:
    name: demo
    directory: "{{ playbook_dir }}/.lab/demo"
"""

RETURN = r"""
number: {description: The lab's number., type: int, returned: when there is a lab}
network: {description: Its IPv4 subnet., type: str, returned: when there is a lab}
network6: {description: Its IPv6 subnet., type: str, returned: when there is a lab}
bridge: {description: The interface that joins its hosts., type: str, returned: when there is a lab}
removed_orphans: {description: Labs removed since their directory is gone., type: list, elements: str, returned: always}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.linkrift_lab import access, lifecycle, network, registry
from ansible.module_utils.linkrift_lab.errors import LabError


def present(name: str, directory: Path, number: int | None) -> dict[str, Any]:
    """Make the network and return the module's result."""
    with registry.opened() as labs:
        lost = lifecycle.orphans(labs)
        for lab in lost:
            lifecycle.destroy(lab)
            network.destroy(lab, labs)
            labs.release(lab)
        lab = labs.take(name, directory, number)
        access.make_directory(lab)
        changed = network.create(lab, labs)
    return {
        "changed": changed or bool(lost),
        "number": lab.number,
        "network": str(lab.network),
        "network6": str(lab.network6),
        "bridge": lab.bridge,
        "removed_orphans": [str(orphan.directory) for orphan in lost],
    }


def absent(directory: Path) -> dict[str, Any]:
    """Remove the network and return the module's result."""
    with registry.opened() as labs:
        lab = labs.find(directory)
        if lab is None:
            return {"changed": False, "removed_orphans": []}
        network.destroy(lab, labs)
        labs.release(lab)
    return {"changed": True, "removed_orphans": [], "number": lab.number, "network": str(lab.network)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "number": {"type": "int"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        }
    )
    directory = Path(module.params["directory"]).absolute()
    try:
        if module.params["state"] == "present":
            result = present(module.params["name"], directory, module.params["number"])
        else:
            result = absent(directory)
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
