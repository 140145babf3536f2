"""The lab's hosts, with a connection kept to each: logging in takes longer than most of what is done there."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench.lab import Lab
from tools.lab import LabToolError
from tools.lab.material import lab_hosts

SCRIPTS = Path(__file__).with_name("on_host")
PLACE = "/run/linkrift-outages"
_SECONDS = 900.0


@dataclass(frozen=True)
class Hosts(Lab):
    """A lab whose hosts are near; made by `reached`.

    Attributes:
        sockets: Directory of the connections that are kept.
    """

    sockets: Path = Path()

    def of(self, group: str) -> Sequence[str]:
        """Return a group's hosts; one that has a host."""
        return lab_hosts(self.directory).of(group)

    def address(self, host: str) -> str:
        """Return the IPv4 address of a host."""
        return str(lab_hosts(self.directory).addresses[host][0])

    def on_host(self, host: str, command: str, stdin: bytes | None = None) -> str:
        """Run a shell command on a host as the operator, and return what it prints.

        Raises:
            LabToolError: It fails.
        """
        ssh = [
            *("ssh", "-F", str(self.directory / "ssh_config"), "-o", "ControlMaster=auto", "-o", "ControlPersist=300"),
            *("-o", f"ControlPath={self.sockets}/%C", host, command),
        ]
        done = subprocess.run(ssh, input=stdin, capture_output=True, check=False, timeout=_SECONDS)
        if done.returncode:
            raise LabToolError(f"{host}: {command}: {done.stderr.decode(errors='replace')[-1000:]}")
        return done.stdout.decode()

    def as_root(self, host: str, script: str) -> str:
        """Run lines of shell on a host as root, up to the first that fails, and return what they print."""
        return self.on_host(host, "sudo bash -eu -o pipefail -s", script.encode())

    def program(self, host: str, name: str, *arguments: object) -> str:
        """Run one of the programs of on_host as root, and return what it prints."""
        words = ["sudo", "python3", f"{PLACE}/{name}.py", *map(str, arguments)]
        return self.on_host(host, shlex.join(words))

    def at_once(self, hosts: Sequence[str], name: str, arguments: Mapping[str, Sequence[object]]) -> dict[str, Any]:
        """Run a program on several hosts, each with arguments of its own; return by host what it printed."""
        with ThreadPoolExecutor(len(hosts)) as pool:
            said = pool.map(lambda host: self.program(host, name, *arguments[host]), hosts)
            return dict(zip(hosts, said, strict=True))


@contextmanager
def reached(lab: Lab) -> Iterator[Hosts]:
    """Keep connections to the hosts of a lab, and have the programs there, as long as the `with` block lasts."""
    with tempfile.TemporaryDirectory(prefix="outages-") as directory:
        hosts = Hosts(lab.name, lab.plain, sockets=Path(directory))
        names = sorted(lab_hosts(lab.directory).addresses)
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(lambda name: bring(hosts, name), names))
        try:
            yield hosts
        finally:
            for name in names:
                close = (
                    "ssh",
                    "-F",
                    str(lab.directory / "ssh_config"),
                    "-o",
                    f"ControlPath={directory}/%C",
                    "-O",
                    "exit",
                )
                subprocess.run([*close, name], capture_output=True, check=False)


def bring(hosts: Hosts, name: str) -> None:
    """Have the programs on a host."""
    # One of them runs as another user.
    lines = ["umask 022", f"install -d -m 0755 {PLACE}"]
    lines += [
        f"cat > {PLACE}/{script.name} <<'END-OF-PROGRAM'\n{script.read_text()}END-OF-PROGRAM"
        for script in sorted(SCRIPTS.glob("*.py"))
    ]
    hosts.as_root(name, "\n".join(lines))
