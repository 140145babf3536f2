"""A lab that a measurement runs on: hosts of its own, made and removed by it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.lab import ROOT, LabToolError

# Where labs keep downloaded packages.
ARCHIVES = Path("/var/lib/linkrift-lab/archives")
_RECAP = re.compile(r"^(?P<host>\S+)\s+: (?P<counts>(?:\w+=\d+\s*)+)$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What one run of a playbook took.

    Attributes:
        seconds: Wall clock.
        cpu_seconds: What all processors of the machine were busy, control node and hosts together.
        executions: Tasks that ran on a host, over all hosts (skipped ones left out).
        changed: Those that changed something.
        hosts: Number of hosts.
    """

    seconds: float
    cpu_seconds: float
    executions: int
    changed: int
    hosts: int


def busy_seconds() -> float:
    """Return the seconds that all processors together were busy since the machine started (/proc/stat)."""
    user, nice, system, _, _, irq, softirq, *_ = (
        int(field) for field in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def command(path: str, *arguments: str) -> list[str]:
    """Return the command that runs a playbook."""
    return [str(Path(sys.executable).with_name("ansible-playbook")), path, *arguments]


def playbook(path: str, *arguments: str) -> Run:
    """Run a playbook and return what it took.

    Raises:
        LabToolError: It failed.
    """
    before, began = busy_seconds(), time.monotonic()
    done = subprocess.run(
        command(path, *arguments), cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    seconds, cpu = time.monotonic() - began, busy_seconds() - before
    if done.returncode:
        raise LabToolError(f"{path} failed:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
    return parse_recap(done.stdout, seconds, cpu)


def parse_recap(output: str, seconds: float, cpu_seconds: float) -> Run:
    """Read the recap at the end of a playbook's output."""
    counts = [
        {key: int(value) for key, value in (pair.split("=") for pair in found["counts"].split())}
        for found in _RECAP.finditer(output)
    ]
    return Run(
        seconds=round(seconds, 1),
        cpu_seconds=round(cpu_seconds, 1),
        executions=sum(count["ok"] for count in counts),
        changed=sum(count["changed"] for count in counts),
        hosts=len(counts),
    )


def packages_are_cached() -> bool:
    """Tell whether labs before this one have downloaded what hosts install."""
    return any(ARCHIVES.rglob("redis-server_*.deb"))


@dataclass(frozen=True)
class Lab:
    """A lab.

    Attributes:
        name: What it is called.
        plain: Its hosts do not remember Ansible's modules, so that figures are true elsewhere (docs/lab.md).
    """

    name: str
    plain: bool = False

    @property
    def directory(self) -> Path:
        """Where its keys, inventory and SSH settings are."""
        return ROOT / ".lab" / self.name

    @property
    def inventory(self) -> str:
        """Its inventory, for ansible-playbook."""
        return str(self.directory / "inventory")

    def create(self, hosts: Sequence[object] = (), *, anew: bool = True) -> None:
        """Boot the lab's hosts, bare ones, and have secrets, certificates and a bundle.

        Args:
            hosts: As `lab_hosts` of molecule/shared/create.yml; none means those of inventories/lab.
            anew: Remove what an earlier run left; otherwise what is there goes on, and only what is missing is made.
        """
        if anew:
            self.destroy()
        wanted = json.dumps({"lab_name": self.name, "lab_hosts": list(hosts)})
        playbook("molecule/shared/create.yml", "-e", wanted)
        settings = json.dumps({"lab_name": self.name, "lab_plain": self.plain})
        playbook("molecule/shared/prepare.yml", "-e", settings, "-i", self.inventory)

    def destroy(self) -> None:
        """Remove the hosts; nothing happens when there are none."""
        playbook("molecule/shared/destroy.yml", "-e", f"lab_name={self.name}")

    @contextmanager
    def bare_hosts(self) -> Iterator[str]:
        """Give the inventory of the lab with bare hosts, and remove the lab at the end."""
        self.create()
        try:
            yield self.inventory
        finally:
            self.destroy()

    def on_host(self, host: str, command: str, stdin: bytes | None = None) -> str:
        """Run a shell command on a host as the operator, and return what it prints.

        Raises:
            LabToolError: It fails.
        """
        ssh = ["ssh", "-F", str(self.directory / "ssh_config"), host, command]
        done = subprocess.run(ssh, input=stdin, capture_output=True, check=False, timeout=900)
        if done.returncode:
            raise LabToolError(f"{host}: {command}: {done.stderr.decode(errors='replace')[-1000:]}")
        return done.stdout.decode()


BENCH = Lab("bench", plain=True)
