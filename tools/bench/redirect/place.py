"""Where it is measured: a small lab whose application host makes its own load, and what can be done there."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools import load
from tools.bench.lab import Lab, playbook
from tools.bench.redirect import metrics, wrk
from tools.bench.redirect.requests import Request, text
from tools.lab import LabToolError
from tools.lab.material import domains, lab_hosts

HERE = Path(__file__).parent
DIRECTORY = "/run/linkrift-bench"
HOST = "app1"
DATA = "data1"
PORTS = {"api": (8080, 8180), "redirect": (8081, 8181), "worker": (8082, 8182)}
_SCRIPTS = ("bare", "pin", "family", "follow_counter", "insert", "api_calls", "commits", "statements")
# For what the operator's command line would do, too.
_METRICS = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"


@dataclass(frozen=True)
class Processors:
    """Which processors do what.

    Attributes:
        server: What is measured, alone.
        load: Who asks, and all else: stores, balancer, worker.
        second: A second process of what is measured; where there are but two, it shares with the load.
    """

    server: int
    load: int
    second: int

    @classmethod
    def of(cls, count: int) -> Processors:
        """Divide so many.

        Raises:
            LabToolError: There is but one.
        """
        if count < 2:
            raise LabToolError("one processor cannot be measured while it makes the load, too: it takes two")
        return cls(server=0, load=count - 1, second=1)


@dataclass
class Place:
    """A lab that serves, and its application host.

    Attributes:
        lab: The lab.
        processors: Which does what.
        files: Requests that are on the host, by the name of their file.
    """

    lab: Lab
    processors: Processors = field(default_factory=lambda: Processors.of(os.cpu_count() or 1))
    files: dict[str, Mapping[int, float]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The host's address: what it sends there does not leave it."""
        return str(lab_hosts(self.lab.directory).addresses[HOST][0])

    @property
    def go(self) -> str:
        """The name that visitors ask for."""
        return f"go.{domains()[0]}"

    def run(self, command: str, stdin: bytes | None = None) -> str:
        """Run a command on the host as root, and return what it prints.

        Raises:
            LabToolError: It fails.
        """
        return self.lab.on_host(HOST, f"sudo {command}", stdin)

    def script(self, name: str, *words: object) -> str:
        """Run one of the scripts on the host, with its own Python."""
        return self.run(shlex.join(["python3", f"{DIRECTORY}/{name}.py", *map(str, words)]))

    def put(self, name: str, content: bytes) -> str:
        """Write a file on the host; return its path."""
        path = f"{DIRECTORY}/{name}"
        self.run(f"tee {shlex.quote(path)} >/dev/null", content)
        return path

    def prepare(self) -> None:
        """Install what measures, and have its scripts there."""
        playbook(str(HERE / "packages.yml"), "-i", self.lab.inventory)
        self.run(f"install -d -m 0755 {DIRECTORY} {DIRECTORY}/tools")
        for name in _SCRIPTS:
            self.put(f"{name}.py", (HERE / "on_host" / f"{name}.py").read_bytes())
        self.put("tools/load.py", Path(load.__file__).read_bytes())
        self.put("load.lua", (HERE / "load.lua").read_bytes())

    def put_requests(self, name: str, requests: Sequence[Request], shares: Mapping[int, float]) -> None:
        """Write prepared requests into a file on the host, and keep what they are to be answered with."""
        self.put(name, text(requests))
        self.files[name] = shares

    # --- Processors ---------------------------------------------------------------------------------------------------

    def bind_all(self) -> None:
        """Put all that runs on the lab's hosts, and what it starts from now on, on the load's processor."""
        pin = (HERE / "on_host" / "pin.py").read_bytes()
        for host in lab_hosts(self.lab.directory).addresses:
            self.lab.on_host(host, f"sudo python3 - {self.processors.load}", pin)

    def bind(self, unit: str, *processors: int) -> None:
        """Put a service on processors: its processes in turn, where it has as many; all on all of them otherwise."""
        parent, *children = self.family(unit)
        if len(processors) > 1 and len(children) == len(processors):
            for child, processor in zip(children, processors, strict=True):
                self.script("pin", processor, child)
            children = []
        self.script("pin", ",".join(map(str, processors)), parent, *children)

    def family(self, unit: str) -> list[int]:
        """Return the processes of a service, its parent first.

        Raises:
            LabToolError: It does not run.
        """
        main = self.run(f"systemctl show --property=MainPID --value {unit}").strip()
        if main in ("", "0"):
            raise LabToolError(f"{unit} does not run")
        return [int(process) for process in self.script("family", main).split()]

    # --- Services -----------------------------------------------------------------------------------------------------

    def slot(self, service: str) -> str:
        """Return the live slot of a service."""
        return self.run(f"readlink /opt/linkrift/{service}/live").strip().rpartition("/")[2]

    def unit(self, service: str) -> str:
        """Return the unit of a service's live slot."""
        return f"linkrift-{service}@{self.slot(service)}.service"

    def port(self, service: str) -> str:
        """Return address and port of a service's live slot."""
        return f"{self.address}:{PORTS[service][self.slot(service) == 'green']}"

    def other_port(self, service: str) -> str:
        """Return address and port of the slot that is not live."""
        return f"{self.address}:{PORTS[service][self.slot(service) == 'blue']}"

    def python(self) -> str:
        """Return the Python of the release that is live."""
        return self.run("readlink -f /opt/linkrift/redirect/current").strip() + "/venv/bin/python"

    def release(self) -> str:
        """Return the release that is live."""
        return self.run("readlink -f /opt/linkrift/redirect/current").strip().rpartition("/")[2]

    def metrics(self, place: str) -> metrics.Metrics:
        """Return what a service tells of itself now; `place` is its address and port."""
        return metrics.parse(self.run(shlex.join(["python3", "-c", _METRICS, f"http://{place}/metrics"])))

    def sql(self, statements: str) -> str:
        """Run statements on PostgreSQL as its superuser, and return the rows."""
        return self.lab.on_host(DATA, "sudo -u postgres psql -XqAt -v ON_ERROR_STOP=1 -d linkrift", statements.encode())

    def clickhouse(self, query: str) -> str:
        """Run a query on ClickHouse as its administrator, and return the rows."""
        return self.lab.on_host(DATA, f"sudo -i clickhouse-client --query {shlex.quote(query)}")

    def clickhouse_seconds(self, query: str) -> float:
        """Run a query there, and return the seconds that it took."""
        words = f"sudo -i clickhouse-client --time --format=Null --query {shlex.quote(query)} 2>&1"
        return float(self.lab.on_host(DATA, words))

    # --- Load ---------------------------------------------------------------------------------------------------------

    def ask(self, place: str, file: str, *, connections: int, seconds: float, limit: int = 0) -> wrk.Load:
        """Ask with wrk, from the load's processor, and see that the answers are right.

        Args:
            place: address:port.
            file: Name of the file of prepared requests.
            connections: Kept open.
            seconds: How long, at the most.
            limit: How many requests, each of the file once, and counted; 0: as many as the seconds let through.

        Raises:
            LabToolError: Answers are wrong, or missing.
        """
        wanted = wrk.Ask(place, f"{DIRECTORY}/{file}", connections, seconds, limit)
        words = wrk.command(wanted, f"{DIRECTORY}/load.lua", self.go)
        load = wrk.parse(self.run(f"taskset -c {self.processors.load} {words}"))
        if not limit:
            wrk.check(load, self.files[file], f"{file} at {place}")
        elif load.statuses.get(302, 0) < limit:
            raise LabToolError(
                f"{file} at {place}: of {limit} only {load.statuses} in {load.seconds:.0f} s: {load.errors}"
            )
        return load

    def count(self, place: str, file: str, *, connections: int, seconds: float) -> None:
        """Ask in the same way without measuring: each answer is counted by its status, and checked.

        Raises:
            LabToolError: Answers are wrong, or missing.
        """
        wanted = wrk.Ask(place, f"{DIRECTORY}/{file}", connections, seconds, count=True)
        words = wrk.command(wanted, f"{DIRECTORY}/load.lua", self.go)
        load = wrk.parse(self.run(f"taskset -c {self.processors.load} {words}"))
        wrk.check(load, self.files[file], f"{file} at {place}, counted")

    def paced(self, place: str, codes: Sequence[str], *, rate: float, count: int) -> dict[str, Any]:
        """Ask over one connection at an even pace, with tools/load.py; return its report.

        Raises:
            LabToolError: An answer is wrong.
        """
        port = place.rpartition(":")[2]
        urls = self.put("urls", "".join(f"http://{self.go}:{port}/{code}\n" for code in codes).encode())
        words = ["taskset", "-c", str(self.processors.load), "python3", f"{DIRECTORY}/tools/load.py", f"@{urls}"]
        words += [f"--connect={self.address}", f"--rate={rate:g}", f"--count={count}", "--seconds=600"]
        report: dict[str, Any] = json.loads(self.run(f"{shlex.join(words)} || test $? = 1"))
        if report["failed"]:
            raise LabToolError(f"paced requests failed: {report['failures']}")
        return report
