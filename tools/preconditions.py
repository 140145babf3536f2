"""What has to be so before anything starts; runs on the system's own Python, before any tool is installed.

Prints one line for each thing that stands in the way, and exits 1 when there is any.
"""

from __future__ import annotations

import argparse
import configparser
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

GIB = 1024**3
MINIMUM = {"debian": 12, "ubuntu": 24}
# Of `make up`: inventories/lab/hosts.yml.
SUBNET = ipaddress.ip_network("198.18.1.0/24")
BRIDGE = "lr1"
LAB = Path("/var/lib/linkrift-lab")
TOOLS_GIB = 2
LAB_GIB = 8
# The eight hosts with everything on them take about 2.5 GiB.
MEMORY_GIB = 4


def system(os_release: str, version: tuple[int, int]) -> str | None:
    """Whether this is a system that it was made for, and a Python that the tools run on.

    Args:
        os_release: Content of /etc/os-release.
        version: Version of this Python.
    """
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', os_release, re.MULTILINE))
    name = fields.get("ID", "")
    number = re.match(r"\d+", fields.get("VERSION_ID", "9999"))
    if name not in MINIMUM or (number and int(number[0]) < MINIMUM[name]):
        return (
            f"this is {fields.get('PRETTY_NAME', 'an unknown system')}: Debian 12 or Ubuntu 24.04, or newer, is needed"
        )
    if version < (3, 11):
        return f"this Python is {version[0]}.{version[1]}: 3.11 or newer is needed (say which with PYTHON=)"
    return None


def root() -> str | None:
    """Whether we are root, or become it without being asked for a password."""
    if os.geteuid() == 0:
        return None
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return None
    return "not root, and no sudo that works without a password: packages, network and mounts need it"


def disk(path: Path, needed_gib: float, what: str) -> str | None:
    """Whether there is room where a path is, or will be."""
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free / GIB
    if free < needed_gib:
        return f"disk too small: {path} has {free:.1f} GiB free, {what} needs {needed_gib:g} GiB"
    return None


def memory(meminfo: str, needed_gib: float) -> str | None:
    """Whether the hosts' memory is there.

    Args:
        meminfo: Content of /proc/meminfo.
        needed_gib: What they need.
    """
    match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    free = int(match[1]) / 1024**2 if match else needed_gib
    if free < needed_gib:
        return f"memory too small: {free:.1f} GiB available, eight hosts need {needed_gib:g} GiB"
    return None


def subnet(routes: str) -> str | None:
    """Whether another network of this machine has the lab's addresses.

    Args:
        routes: Content of /proc/net/route.
    """
    for line in routes.splitlines()[1:]:
        interface, destination, _, _, _, _, _, mask = line.split()[:8]
        if interface == BRIDGE or int(mask, 16) == 0:
            continue
        address = ipaddress.ip_address(int(destination, 16).to_bytes(4, "little"))
        bits = bin(int(mask, 16)).count("1")
        if ipaddress.ip_network(f"{address}/{bits}", strict=False).overlaps(SUBNET):
            return f"subnet taken: {SUBNET} of the lab is on interface {interface} already"
    return None


def index_endpoint(environment: Mapping[str, str], settings: list[Path]) -> tuple[str, int] | None:
    """Where pip connects to first: the proxy or the package index. None when that is a directory.

    Args:
        environment: Environment variables.
        settings: pip's settings files, the strongest last.
    """
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(settings)
    index = parser.get("global", "index-url", fallback="https://pypi.org/simple/")
    index = environment.get("PIP_INDEX_URL", index)
    proxy = environment.get("https_proxy") or environment.get("HTTPS_PROXY")
    target = urllib.parse.urlsplit(proxy or index)
    if target.scheme == "file" or target.hostname is None:
        return None
    return target.hostname, target.port or (80 if target.scheme == "http" else 443)


def index() -> str | None:
    """Whether the index of Python packages is in reach."""
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), Path("~/.config/pip/pip.conf").expanduser()]
    endpoint = index_endpoint(os.environ, files)
    if endpoint:
        try:
            socket.create_connection(endpoint, timeout=10).close()
        except OSError as error:
            return (
                f"no network: {endpoint[0]}:{endpoint[1]}, where Python packages come from, does not answer ({error})"
            )
    return None


def kernel() -> str | None:
    """Whether the kernel lets us mount overlays and make networks, as root of a container may not."""
    capabilities = re.search(r"^CapEff:\s+([0-9a-f]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    if os.geteuid() == 0 and capabilities:
        held = int(capabilities[1], 16)
        for bit, name in ((12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")):
            if not held >> bit & 1:
                return f"this is a container without {name}: hosts cannot be booted in it"
    if not Path("/sys/fs/cgroup").is_dir() or not any(Path("/sys/fs/cgroup").iterdir()):
        return "no control groups are mounted on /sys/fs/cgroup: hosts cannot be booted"
    return None


def findings(*, lab: bool, fetch: bool, install: bool) -> list[str]:
    """Everything that stands in the way, a line each.

    Args:
        lab: Hosts are going to be booted.
        fetch: Python packages are going to be fetched.
        install: Debian packages are going to be installed.
    """
    here = Path.cwd()
    found = [system(Path("/etc/os-release").read_text(encoding="utf-8"), sys.version_info[:2])]
    if lab or install:
        found.append(root())
    if fetch:
        found += [index(), disk(here, TOOLS_GIB, "the tools' environment")]
    if lab:
        built = (LAB / "images").is_dir()
        found += [
            disk(LAB, LAB_GIB / 2 if built else LAB_GIB, "the lab"),
            subnet(Path("/proc/net/route").read_text(encoding="utf-8")),
            kernel(),
        ]
        if not Path(f"/sys/class/net/{BRIDGE}").exists():
            found.append(memory(Path("/proc/meminfo").read_text(encoding="utf-8"), MEMORY_GIB))
    return [finding for finding in found if finding]


def main(arguments: list[str] | None = None) -> int:
    """Print what stands in the way; 1 when there is anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("lab", "fetch", "install"):
        parser.add_argument(f"--{name}", action="store_true")
    found = findings(**vars(parser.parse_args(arguments)))
    for finding in found:
        sys.stderr.write(f"cannot start: {finding}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
