"""How the lab's user reaches its hosts: a key, known host keys, SSH settings, an Ansible inventory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import LabError
from .plan import USER, HostSpec, Lab
from .run import run, try_run, write_whole

# A Unix socket's path has at most 107 bytes; Ansible and ssh add a name of 10 and an ending of 17 to the directory.
_LONGEST_SOCKET_DIRECTORY = 75


def template(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Read an inventory file in YAML as the pattern for labs.

    Args:
        path: The file. A host's variables `lab_suite` and `linkrift_address` say what it is made from.

    Returns:
        Settings of each host as `plan.host_specs` takes them, and for each parent group its children.

    Raises:
        LabError: The file is missing or not such an inventory.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise LabError(f"{path} cannot be read: {error}") from error
    if not isinstance(tree, dict) or not isinstance(tree.get("all"), dict):
        raise LabError(f"{path}: no group `all` in it")
    hosts: dict[str, dict[str, Any]] = {}
    children: dict[str, list[str]] = {}

    def walk(group: str, body: Mapping[str, Any] | None) -> None:
        for name, variables in ((body or {}).get("hosts") or {}).items():
            host = hosts.setdefault(name, {"name": name, "groups": []})
            if group != "all" and group not in host["groups"]:
                host["groups"].append(group)
            if variables and "lab_suite" in variables:
                host["suite"] = variables["lab_suite"]
            if variables and "linkrift_address" in variables:
                host["address"] = variables["linkrift_address"]
        for child, inner in ((body or {}).get("children") or {}).items():
            if group != "all":
                children.setdefault(group, []).append(child)
            walk(child, inner)

    walk("all", tree["all"])
    return hosts, children


def host_variables(lab: Lab, spec: HostSpec) -> dict[str, Any]:
    """Ansible variables of a host."""
    variables: dict[str, Any] = {
        "ansible_host": str(lab.address(spec)),
        "ansible_user": USER,
        "ansible_ssh_common_args": f"-F {lab.directory / 'ssh_config'}",
        "lab_dir": str(lab.directory),
        "lab_suite": spec.suite,
        "linkrift_address": str(lab.address(spec)),
        "linkrift_address6": str(lab.address6(spec)),
    }
    if len(str(_sockets(lab))) <= _LONGEST_SOCKET_DIRECTORY:
        variables["ansible_control_path_dir"] = str(_sockets(lab))
    return {**variables, **spec.variables}


def inventory(lab: Lab, specs: Iterable[HostSpec], children: Mapping[str, list[str]]) -> dict[str, Any]:
    """The inventory of a lab, as YAML's data.

    Args:
        lab: The lab.
        specs: Its hosts.
        children: For each parent group its children; parents of groups that the lab has come into it too.
    """
    specs = list(specs)
    groups: dict[str, Any] = {}
    for spec in specs:
        for group in spec.groups:
            groups.setdefault(group, {}).setdefault("hosts", {})[spec.name] = {}
    grown = True
    while grown:
        grown = False
        for parent, members in children.items():
            for child in members:
                inner = groups.get(parent, {}).get("children", {})
                if child in groups and child not in inner:
                    groups.setdefault(parent, {}).setdefault("children", {})[child] = {}
                    grown = True
    hosts = {spec.name: host_variables(lab, spec) for spec in specs}
    return {"all": {"hosts": hosts, **({"children": groups} if groups else {})}}


def known_hosts(lab: Lab, specs: Iterable[HostSpec], keys: Mapping[str, str]) -> str:
    """Content of known_hosts: each host's public key by its name and addresses."""
    lines = []
    for spec in specs:
        kind, key = keys[spec.name].split()[:2]
        lines.append(f"{spec.name},{lab.address(spec)},{lab.address6(spec)} {kind} {key}\n")
    return "".join(lines)


def ssh_config(lab: Lab, specs: Iterable[HostSpec]) -> str:
    """Content of ssh_config: `ssh -F ssh_config <host>`, by name or address."""
    parts = [
        f"""\
Host {spec.name} {lab.address(spec)} {lab.address6(spec)}
  HostName {lab.address(spec)}
  HostKeyAlias {spec.name}
"""
        for spec in specs
    ]
    parts.append(
        f"""\
Host *
  User {USER}
  IdentityFile "{lab.directory / "id_ed25519"}"
  IdentitiesOnly yes
  UserKnownHostsFile "{lab.directory / "known_hosts"}"
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  PasswordAuthentication no
  ConnectTimeout 10
  LogLevel ERROR
"""
    )
    return "\n".join(parts)


def owner_of(directory: Path) -> tuple[int, int]:
    """User and group of a directory, or of the nearest one above that exists: whose lab it is."""
    while not directory.exists():
        directory = directory.parent
    status = directory.stat()
    return status.st_uid, status.st_gid


def make_directory(lab: Lab) -> tuple[int, int]:
    """Make the lab's directory, for its user only, and return whose it is."""
    owner = owner_of(lab.directory)
    for directory in (*reversed(lab.directory.parents), lab.directory):
        if not directory.exists():
            directory.mkdir(mode=0o700)
            os.chown(directory, *owner)
    return owner


def authorized_key(lab: Lab) -> str:
    """The public key of the lab's user, made when there is none yet."""
    private = lab.directory / "id_ed25519"
    public = private.with_suffix(".pub")
    owner = make_directory(lab)
    if not public.exists():
        # ssh-keygen writes the private key first: without the public one beside it a kill came between.
        private.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {lab.name}", "-f", str(private)])
        os.chown(private, *owner)
        os.chown(public, *owner)
    return public.read_text(encoding="utf-8").strip()


def write(
    lab: Lab, specs: list[HostSpec], children: Mapping[str, list[str]], keys: Mapping[str, str], shared: Path
) -> None:
    """Write all that a user needs to reach the hosts into the lab's directory.

    Args:
        lab: The lab.
        specs: Its hosts.
        children: For each parent group its children.
        keys: Public host key of each host.
        shared: Directory whose `group_vars` the lab's inventory shares.
    """
    owner = make_directory(lab)
    content = yaml.safe_dump(inventory(lab, specs, children), sort_keys=False, width=140)
    directory = lab.directory / "inventory"
    directory.mkdir(exist_ok=True)
    os.chown(directory, *owner)
    link = directory / "group_vars"
    if link.is_symlink() and link.readlink() != shared / "group_vars":
        link.unlink()
    if not link.is_symlink():
        link.symlink_to(shared / "group_vars")
    write_whole(directory / "hosts.yml", f"---\n{content}", owner=owner)
    write_whole(lab.directory / "known_hosts", known_hosts(lab, specs, keys), owner=owner)
    write_whole(lab.directory / "ssh_config", ssh_config(lab, specs), owner=owner)


def _sockets(lab: Lab) -> Path:
    return lab.directory / "cp"


def close_connections(lab: Lab) -> None:
    """End the SSH connections that Ansible keeps open to hosts, which would outlive the hosts."""
    directory = _sockets(lab)
    if directory.is_dir():
        for socket in directory.iterdir():
            try_run(["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "host"], timeout=10)
            socket.unlink(missing_ok=True)


def forget(lab: Lab) -> None:
    """Remove what only made sense while the hosts existed; the user's key stays."""
    close_connections(lab)
    for name in ("ssh_config", "known_hosts", "inventory/hosts.yml", "inventory/group_vars"):
        (lab.directory / name).unlink(missing_ok=True)
    for name in ("inventory", "cp"):
        if (lab.directory / name).is_dir():
            (lab.directory / name).rmdir()
