#!/usr/bin/python
"""Boot, stop and remove the hosts of a lab."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_host
short_description: Hosts of a lab on this machine
description:
  - Boots Debian hosts in systemd-nspawn, each with a file system and a network interface of its own, waits until they
    let the user C(ops) log in, and writes C(ssh_config), C(known_hosts) and an inventory into the lab's directory.
  - Hosts that run are left alone; hosts that died boot again with their files; what a killed run left is cleared first.
    A host that reboots itself comes back by itself.
  - Needs root, and the lab's network (M(lab_network)).
options:
  directory: {description: "The lab's directory, as given to M(lab_network).", type: path, required: true}
  hosts:
    description:
      - All hosts of the lab, each a name or a dictionary of C(name), C(suite), C(address), C(groups), C(variables).
      - What is not said about a host that O(template) knows comes from there. None at all means all that it knows.
      - With C(killed), names of those that shall die.
    type: list
    elements: raw
    default: []
  template:
    description: >-
      Inventory file (YAML) of the hosts that a name alone stands for. The lab shares its directory's C(group_vars).
    type: path
    required: true
  state:
    description: >-
      Whether hosts run (C(started)), rest with their files (C(stopped)) or go (C(absent)). C(killed) has some of them
      die at once, as in a power cut; C(started) brings them back. C(harvested) only keeps the packages that they
      downloaded, for later hosts.
    type: str
    choices: [started, stopped, killed, absent, harvested]
    default: started
  boot_seconds: {description: "How long a host may take until it lets one log in.", type: float, default: 90}
author: [Linkrift platform team]
"""

EXAMPLES = r"""
- name: Boot one host
  lab_host:
    directory: "{{ playbook_dir }}/.lab/demo"
    template: inventories/lab/hosts.yml
    hosts:
      - {name: data1, suite: bookworm, groups: [postgresql_hosts]}
"""

RETURN = r"""
hosts: {description: "Hosts that were started, stopped, killed, removed.", type: list, elements: str, returned: always}
inventory: {description: Directory of the lab's inventory., type: str, returned: when started}
ssh_config: {description: Settings for `ssh -F`., type: str, returned: when started}
packages: {description: How many downloaded packages were new, by suite., type: dict, returned: when harvested}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.linkrift_lab import access, lifecycle, plan, registry
from ansible.module_utils.linkrift_lab.errors import LabError


def started(lab: plan.Lab, params: dict[str, Any]) -> dict[str, Any]:
    """Start the hosts and return the module's result."""
    template = Path(params["template"]).absolute()
    known, children = access.template(template)
    specs = plan.host_specs(params["hosts"], known)
    names = lifecycle.create(lab, specs, children=children, shared=template.parent, seconds=params["boot_seconds"])
    return {
        "changed": bool(names),
        "hosts": names,
        "inventory": str(lab.directory / "inventory"),
        "ssh_config": str(lab.directory / "ssh_config"),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "hosts": {"type": "list", "elements": "raw", "default": []},
            "template": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "choices": ["started", "stopped", "killed", "absent", "harvested"],
                "default": "started",
            },
            "boot_seconds": {"type": "float", "default": 90},
        }
    )
    state = module.params["state"]
    try:
        with registry.opened() as labs:
            lab = labs.find(Path(module.params["directory"]).absolute())
        if lab is None and state == "started":
            raise LabError(f"{module.params['directory']} has no network yet: run lab_network first")
        if lab is None:
            module.exit_json(changed=False, hosts=[])
        if state == "started":
            module.exit_json(**started(lab, module.params))
        if state == "harvested":
            packages = lifecycle.harvest(lab)
            module.exit_json(changed=any(packages.values()), hosts=[], packages=packages)
        if state == "killed":
            names = lifecycle.kill(lab, module.params["hosts"])
        else:
            names = lifecycle.stop(lab) if state == "stopped" else lifecycle.destroy(lab)
        module.exit_json(changed=bool(names), hosts=names)
    except LabError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
