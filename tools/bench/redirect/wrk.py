"""The load generator wrk: the command that starts it, and what it says at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tools.lab import LabToolError

# Of the answers, so many may be of another status than the requests asked for, since a run ends in the middle of them.
TOLERANCE = 0.005


@dataclass(frozen=True)
class Load:
    """What wrk saw.

    Attributes:
        requests: Those that were answered.
        seconds: How long it took.
        p50_ms: Half of the answers came within so many milliseconds, and `p99_ms`, `max_ms` accordingly.
        p99_ms: See there.
        max_ms: See there.
        errors: By kind: connect, read, write, timeout, and `status` for those of 400 and above.
        statuses: How many answers by status; empty where they were not counted.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: Mapping[str, int]
    statuses: Mapping[int, int]

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


@dataclass(frozen=True)
class Ask:
    """What is asked of whom.

    Attributes:
        place: address:port.
        file: Of prepared requests, on the host.
        connections: Kept open.
        seconds: How long, at the most.
        limit: How many requests; 0: as many as the seconds let through.
        count: Count answers by status.
    """

    place: str
    file: str
    connections: int
    seconds: float
    limit: int = 0
    count: bool = False


def command(ask: Ask, script: str, host: str, scheme: str = "http") -> str:
    """Return the command line.

    Args:
        ask: What is asked.
        script: Path of load.lua.
        host: The name that is asked for.
        scheme: Or https; no certificate is checked then.
    """
    words = ["wrk", "-t1", f"-c{ask.connections}", f"-d{ask.seconds:.0f}s", "--timeout", "5s", "-s", script]
    words += [f"{scheme}://{ask.place}", "--", ask.file, host, str(ask.limit), str(int(ask.count))]
    return " ".join(words)


def parse(output: str) -> Load:
    """Read what the script's `done` says.

    Raises:
        LabToolError: It says nothing, or nothing was answered.
    """
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise LabToolError(f"wrk gave no figures: {output[-1000:]}")
    found = json.loads(lines[-1])
    if not found["requests"] or not found["microseconds"]:
        raise LabToolError(f"wrk got no answers: {lines[-1]}")
    return Load(
        requests=found["requests"],
        seconds=found["microseconds"] / 1e6,
        p50_ms=found["p50"] / 1000,
        p99_ms=found["p99"] / 1000,
        max_ms=found["max"] / 1000,
        errors=found["errors"],
        statuses={int(status): count for status, count in found["statuses"].items()},
    )


def check(load: Load, expected: Mapping[int, float], what: str) -> None:
    """See that the answers are what the requests ask for.

    Args:
        load: What came.
        expected: The share of each status, together 1.
        what: What was asked, for the message.

    Raises:
        LabToolError: They are not: there is no figure then.
    """
    broken = {kind: count for kind, count in load.errors.items() if count and kind != "status"}
    if broken:
        raise LabToolError(f"{what}: {broken} of {load.requests} requests")
    refused = load.errors.get("status", 0) / load.requests
    wanted = sum(share for status, share in expected.items() if status >= 400)
    if abs(refused - wanted) > TOLERANCE:
        raise LabToolError(f"{what}: {refused:.1%} of the answers were 400 or above, not {wanted:.1%}")
    if not load.statuses:
        return
    for status in sorted({*expected, *load.statuses}):
        share, due = load.statuses.get(status, 0) / sum(load.statuses.values()), expected.get(status, 0.0)
        if abs(share - due) > TOLERANCE or (share and not due):
            raise LabToolError(f"{what}: {share:.2%} of the answers were {status}, not {due:.2%}: {load.statuses}")
