"""A platform that is this machine several times over, for tests of roles and playbooks as Ansible runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from tools.lab import ROOT

COLLECTION = Path("ansible_collections/linkrift/platform")
DOWN: Mapping[str, Any] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
"""A host that is down: nobody listens there."""
_BACKENDS = """backend linkrift_api
  server app1-blue 198.51.100.1:8080 weight 1
"""
_SECONDS = 120


def role(name: str, entry: str = "main", **variables: Any) -> dict[str, Any]:
    """Return a task that includes a role as a rollout does."""
    return {
        "ansible.builtin.include_role": {
            "name": f"linkrift.platform.{name}",
            "tasks_from": entry,
            "rolespec_validate": False,
        },
        "vars": variables,
    }


def say(text: str) -> dict[str, Any]:
    """Return a task that only says something."""
    return {"ansible.builtin.debug": {"msg": f"SAID {text}"}}


class Site:
    """Balancers lb1 and lb2, and application hosts app1 and app2, all of them this machine unless they are down.

    Attributes:
        hosts: Application hosts, with their variables; the same for `balancers`.
        balancers: See there.
        variables: Of all hosts.
        groups: Further groups, with their hosts.
        defaults: Of modules; of `rotation_info` there is no HAProxy.
        options: For ansible-playbook.
    """

    def __init__(self, root: Path) -> None:
        """Have all of them up, and no HAProxy.

        Args:
            root: Where everything lies; empty.
        """
        self.root = root
        self.hosts: dict[str, Mapping[str, Any]] = {"app1": {}, "app2": {}}
        self.balancers: dict[str, Mapping[str, Any]] = {"lb1": {}, "lb2": {}}
        self.variables: dict[str, Any] = {}
        self.groups: dict[str, list[str]] = {}
        self.options: list[str] = []
        self.collections = ROOT / "collections"
        self.backends = root / "backends.cfg"
        self.backends.write_text(_BACKENDS)
        haproxy = {"admin_socket": str(root / "none"), "master_socket": "", "path": str(self.backends)}
        self.defaults: dict[str, dict[str, Any]] = {"linkrift.platform.rotation_info": haproxy}

    def replace(self, roles: Mapping[str, list[dict[str, Any]]], modules: Mapping[str, str] | None = None) -> None:
        """Have parts of the collection do something else.

        Args:
            roles: Tasks of roles, by name; each entry point has them.
            modules: Programs in place of modules, by name: they get the file with their arguments (JSON).
        """
        real, made = ROOT / "collections" / COLLECTION, self.root / "collections" / COLLECTION
        self.collections = self.root / "collections"
        _mirror(real, made, {"roles", "plugins", "tests"})
        _mirror(real / "plugins", made / "plugins", {"modules"})
        _mirror(real / "plugins/modules", made / "plugins/modules", {f"{name}.py" for name in modules or {}})
        _mirror(real / "roles", made / "roles", roles.keys())
        for name, program in (modules or {}).items():
            (made / f"plugins/modules/{name}.py").write_text(f"#!/usr/bin/python\n# WANT_JSON\n{program}")
        for name, tasks in roles.items():
            place = made / "roles" / name / "tasks"
            place.mkdir(parents=True)
            for file in (real / "roles" / name / "tasks").iterdir():
                (place / file.name).write_text(yaml.safe_dump(tasks))

    def run(self, *tasks: dict[str, Any], hosts: str = "app1") -> tuple[int, str]:
        """Run tasks in a block; return the play's status and what it said, in one line.

        Args:
            tasks: What.
            hosts: The play's; for others than app1, errors are fatal for all.
        """
        play = {
            "hosts": hosts,
            "gather_facts": False,
            "any_errors_fatal": hosts != "app1",
            "module_defaults": self.defaults,
            "tasks": [
                {
                    "block": [*tasks, say("went on with {{ inventory_hostname }}")],
                    "rescue": [say("undone")],
                    "always": [say("freed")],
                }
            ],
        }
        (self.root / "play.yml").write_text(yaml.safe_dump([play]))
        return self.run_playbook(self.root / "play.yml")

    def run_playbook(self, path: Path) -> tuple[int, str]:
        """Run a playbook; return its status and what it said, in one line."""
        children: dict[str, Any] = {
            "balancers": {"hosts": dict(self.balancers)},
            "app_hosts": {"hosts": dict(self.hosts)},
            **{name: {"hosts": {member: {} for member in members}} for name, members in self.groups.items()},
        }
        everywhere = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            **self.variables,
        }
        (self.root / "inventory.yml").write_text(
            yaml.safe_dump({"all": {"children": _plain(children), "vars": everywhere}})
        )
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", "inventory.yml", str(path), *self.options],
            cwd=self.root,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
                "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
                "ANSIBLE_HOME": str(self.root / "home"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_SSH_RETRIES": "0",
                "LC_ALL": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        return done.returncode, " ".join(done.stdout.split())


def _mirror(real: Path, made: Path, without: Collection[str]) -> None:
    """Make a directory that has all of another one, less some."""
    made.mkdir(parents=True)
    for entry in real.iterdir():
        if entry.name not in without:
            (made / entry.name).symlink_to(entry)


def _plain(children: Mapping[str, Any]) -> dict[str, Any]:
    """Return an inventory's groups as YAML may have them, variables of hosts as plain dictionaries."""
    return {
        name: {"hosts": {host: dict(variables) for host, variables in group["hosts"].items()}}
        for name, group in children.items()
    }
