"""Visitors of a lab: a paced load from client1 through TLS, and what they saw, request by request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tools.bench.lab import Lab
from tools.lab import ROOT, LabToolError
from tools.lab.material import domains, lab_hosts
from tools.load import percentile

CLIENT = "client1"
RATE = 200.0
_PLACE = "/run/linkrift-measured"
# The canary: it takes the whole way once on every process, and is answered from its cache for a while. Nobody counts
# its clicks, and asking for it is no guessing of codes, which has a limit.
CANARY = ("ping",)
_MOST_SECONDS = 3600

# Ends the load, and waits until its report is whole.
_FINISH = f"""
sudo touch {_PLACE}/stop
for _ in $(seq 300); do
  systemctl is-active --quiet linkrift-measured || break
  sleep 0.1
done
sudo cat {_PLACE}/report.json
"""


@dataclass(frozen=True)
class Sample:
    """One request: when it began (seconds since the epoch), its milliseconds, whether the answer was right."""

    at: float
    ms: float
    fine: bool


@dataclass(frozen=True)
class Visit:
    """What the visitors saw.

    Attributes:
        report: As tools/load.py prints it.
        samples: Each request, in order.
    """

    report: dict[str, Any]
    samples: Sequence[Sample]

    @property
    def requests(self) -> int:
        """How many they were."""
        return int(self.report["requests"])

    @property
    def failed(self) -> int:
        """Those that a visitor would have noticed."""
        return int(self.report["failed"])

    def between(self, began: float, ended: float) -> Visit:
        """Return what began in a stretch of time, with those figures of the report that the samples have."""
        samples = [sample for sample in self.samples if began <= sample.at <= ended]
        failed = sum(not sample.fine for sample in samples)
        return Visit({"requests": len(samples), "failed": failed}, samples)

    def percentile_ms(self, share: float) -> float:
        """Return the milliseconds within which a share of the right answers came.

        Raises:
            LabToolError: There are none.
        """
        found = percentile(sorted(sample.ms / 1000 for sample in self.samples if sample.fine), share)
        if found is None:
            raise LabToolError("there were no requests in that time")
        return found


def parse_samples(text: str) -> list[Sample]:
    """Read what tools/load.py wrote with --samples."""
    rows = (line.split() for line in text.splitlines())
    return [Sample(float(at), float(ms), fine == "1") for at, ms, fine in rows]


class Visitors:
    """A load that runs for as long as the `with` block does; `visit` has what it saw."""

    def __init__(self, lab: Lab, rate: float = RATE, connections: int = 8, *, codes: Sequence[str] = CANARY) -> None:
        """Prepare it.

        Args:
            lab: The lab, with a client1.
            rate: Requests a second over all connections; 0: as many as get through.
            connections: Those that are kept open.
            codes: The links that are followed, one after the other. The report's `paths` says how often each was.
        """
        self._lab = lab
        self._rate = rate
        self._connections = connections
        self._codes = codes
        self.visit: Visit | None = None

    def __enter__(self) -> Self:
        """Begin; what an earlier run left ends."""
        self._lab.on_host(CLIENT, f"sudo systemctl stop linkrift-measured 2>/dev/null; sudo rm -rf {_PLACE}")
        self._lab.on_host(CLIENT, f"sudo install -d -m 0700 {_PLACE}")
        for name, content in (
            ("load.py", (ROOT / "tools/load.py").read_bytes()),
            ("ca.pem", (self._lab.directory / "ca.pem").read_bytes()),
        ):
            self._lab.on_host(CLIENT, f"sudo tee {_PLACE}/{name} >/dev/null", content)
        self._lab.on_host(CLIENT, " ".join(self._command()))
        return self

    def _command(self) -> list[str]:
        name = f"go.{domains()[0]}"
        unit = ["sudo", "systemd-run", "--quiet", "--collect", "--unit=linkrift-measured"]
        unit.append(f"--property=StandardOutput=truncate:{_PLACE}/report.json")
        most = int((self._rate or 10_000) * _MOST_SECONDS)
        return [
            *unit,
            *("python3", f"{_PLACE}/load.py", *(f"https://{name}/{code}" for code in self._codes), "--by-path"),
            *(f"--connect={address(self._lab, name)}", f"--ca={_PLACE}/ca.pem", "--expect=302"),
            *(f"--rate={self._rate:g}", f"--connections={self._connections}"),
            *(f"--count={most}", f"--seconds={_MOST_SECONDS}"),
            *(f"--samples={_PLACE}/samples", f"--stop-file={_PLACE}/stop"),
        ]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and read what it saw; when something else has failed, only end it."""
        if error is not None:
            self._lab.on_host(CLIENT, "sudo systemctl stop linkrift-measured 2>/dev/null || test $? = 5")
            return
        try:
            report = json.loads(self._lab.on_host(CLIENT, _FINISH))
        except ValueError as broken:
            raise LabToolError(f"the load generator gave no report ({broken})") from broken
        self.visit = Visit(report, parse_samples(self._lab.on_host(CLIENT, f"sudo cat {_PLACE}/samples")))

    def seen(self) -> Visit:
        """Return what they saw, after the `with` block.

        Raises:
            LabToolError: It has not ended.
        """
        if self.visit is None:
            raise LabToolError("the load has not ended")
        return self.visit


def address(lab: Lab, name: str) -> str:
    """Return where a visitor's name leads: what client1 knows, or else the first balancer."""
    known = lab.on_host(CLIENT, f"getent ahostsv4 {name} || test $? = 2").split()
    if known:
        return known[0]
    hosts = lab_hosts(lab.directory)
    return str(hosts.addresses[hosts.of("balancers")[0]][0])
