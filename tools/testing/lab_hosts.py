"""The lab's hosts for testinfra, reached as an operator reaches them: by SSH, through the scenario's inventory."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shutil
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import testinfra
import yaml
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner

from tools.lab.material import lab_hosts

INVENTORY = os.environ["MOLECULE_INVENTORY_FILE"]

SERVICES = ("api", "redirect", "worker")
PORTS = {"api": (8080, 8180), "redirect": (8081, 8181), "worker": (8082, 8182)}
APP_HOSTS = ("app1", "app2", "app3")
BALANCERS = ("lb1", "lb2")
ALL_HOSTS = (*BALANCERS, *APP_HOSTS, "data1", "ops1", "client1")


@functools.cache
def _runner() -> AnsibleRunner:
    return AnsibleRunner(INVENTORY)


@functools.cache
def _ssh_config() -> Path:
    """Settings of SSH that keep a connection to each host: a login takes ten times as long as most commands."""
    directory = Path(tempfile.mkdtemp(prefix="testinfra-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    config = directory / "ssh_config"
    config.write_text(
        f"Include {Path(INVENTORY).parent / 'ssh_config'}\n"
        f"Host *\n  ControlMaster auto\n  ControlPath {directory}/%C\n  ControlPersist 60\n",
        encoding="utf-8",
    )
    return config


@functools.cache
def get_host(name: str) -> Host:
    """Return the named lab host, with root's rights."""
    # The settings know better than testinfra how to keep connections.
    return cast("Host", testinfra.get_host(f"ssh://{name}?ssh_config={_ssh_config()}&sudo=true&controlpersist=0"))


@functools.cache
def variables(name: str) -> dict[str, Any]:
    """Return the inventory's variables of a host."""
    return cast("dict[str, Any]", _runner().get_variables(name))


@functools.cache
def secret(name: str) -> str:
    """Return one of the lab's secrets."""
    path = Path(INVENTORY).parent / "secrets.yml"
    return str(yaml.safe_load(path.read_text(encoding="utf-8"))[name])


# Hosts have Python, and no other HTTP client.
FETCH = """
import json, sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps({"status": answer.status, "headers": dict(answer.headers), "body": answer.read().decode()}))
"""


def fetch(host: Host, url: str) -> dict[str, Any]:
    """Ask for a URL on a host and return status, headers and body of the answer."""
    return cast("dict[str, Any]", run_json(host, "python3 -c %s %s", FETCH, url))


def run_json(host: Host, command: str, *arguments: str) -> Any:
    """Run a command on a host and return what it prints as JSON."""
    result = host.run(command, *arguments)
    if result.rc != 0:
        raise AssertionError(f"{result.command}: exit {result.rc}\n{result.stdout}\n{result.stderr}")
    return json.loads(result.stdout)


@dataclass(frozen=True)
class Lab:
    """Where the lab's visitors go.

    Attributes:
        directory: the lab's own.
        domain: the platform's.
        balancer: IPv4 address of the first balancer itself, whose log and counters tests read.
        balancer6: its IPv6 address.
        visitors: where visitors come, IPv4 first: what the balancers share, or the only one's own.
    """

    directory: Path
    domain: str
    balancer: str
    balancer6: str
    visitors: tuple[str, ...]


def find_lab() -> Lab:
    """Return the lab of the inventory."""
    settings = variables(_runner().get_hosts("balancers")[0])
    return Lab(
        directory=Path(settings["lab_dir"]),
        domain=settings["linkrift_domain"],
        balancer=settings["linkrift_address"],
        balancer6=settings["linkrift_address6"],
        visitors=tuple(map(str, lab_hosts(Path(settings["lab_dir"])).visitors())),
    )


def status_shown(said: str) -> dict[str, Any]:
    """Return what status.yml showed as JSON.

    Args:
        said: all that the playbook said, its lines as they were.

    Raises:
        ValueError: it showed nothing; the message is what it said.
    """
    shown = said.partition("TASK [Show it]")[2]
    found = re.search(r"^( *)\{\n.*?^\1\}$", shown, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(said)
    return cast("dict[str, Any]", json.loads(textwrap.dedent(found[0])))
