"""What every check of the lab's hosts shares: the hosts themselves, reached as an operator reaches them, by SSH."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import testinfra
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner

INVENTORY = os.environ["MOLECULE_INVENTORY_FILE"]

SERVICES = ("api", "redirect", "worker")
PORTS = {"api": (8080, 8180), "redirect": (8081, 8181), "worker": (8082, 8182)}
APP_HOSTS = ("app1", "app2", "app3")
ALL_HOSTS = ("lb1", *APP_HOSTS, "data1", "ops1", "client1")


@functools.cache
def _runner() -> AnsibleRunner:
    return AnsibleRunner(INVENTORY)


@functools.cache
def get_host(name: str) -> Host:
    """Return the named lab host, with root's rights."""
    return cast("Host", testinfra.get_host(f"ansible://{name}?ansible_inventory={INVENTORY}&sudo=true"))


@functools.cache
def variables(name: str) -> dict[str, Any]:
    """Return the inventory's variables of a host."""
    return cast("dict[str, Any]", _runner().get_variables(name))


def run_json(host: Host, command: str, *arguments: str) -> Any:  # noqa: ANN401 - JSON holds anything
    """Run a command on a host and return what it prints as JSON."""
    result = host.run(command, *arguments)
    assert result.rc == 0, f"{result.command}: exit {result.rc}\n{result.stdout}\n{result.stderr}"
    return json.loads(result.stdout)


@pytest.fixture(scope="session")
def lab_host() -> Callable[[str], Host]:
    return get_host


@dataclass(frozen=True)
class Lab:
    """Where the lab's visitors go."""

    directory: Path
    domain: str
    balancer: str
    balancer6: str


@pytest.fixture(scope="session")
def lab() -> Lab:
    settings = variables("lb1")
    return Lab(
        directory=Path(settings["lab_dir"]),
        domain=settings["linkrift_domain"],
        balancer=settings["linkrift_address"],
        balancer6=settings["linkrift_address6"],
    )
