"""What a fleet really serves, and what its balancers counted: facts, and what is wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench.lab import Lab, playbook
from tools.bench.visitors import Visit
from tools.lab import ROOT

# What a retry or a broken answer would show, though the visitor got one.
MASKED = ("econ", "eresp", "wretr", "wredis", "hrsp_5xx")
SERVICES = ("api", "redirect", "worker")
# Runs on a host, with no module of ours; the scenario of releases looks with the same.
SCRIPT = ROOT / "molecule/default/releases/look.py"


@dataclass(frozen=True)
class Look:
    """What was there at a moment.

    Attributes:
        hosts: By host and service: the live slot, its release, the release that answers there, what runs.
        balancers: By balancer: what module rotation_info says.
        fleet: By balancer: the fleet record.
        logged: By balancer: what its access log has.
    """

    hosts: Mapping[str, Mapping[str, Mapping[str, Any]]]
    balancers: Mapping[str, Mapping[str, Any]]
    fleet: Mapping[str, Mapping[str, Mapping[str, str]]]
    logged: Mapping[str, Mapping[str, Any]]

    def recorded(self, service: str) -> str:
        """Return the release that the fleet is to run; empty when no balancer knows."""
        entries = [record[service] for record in self.fleet.values() if service in record]
        return max(entries, key=lambda entry: entry["since"])["release"] if entries else ""

    def serving(self) -> dict[tuple[str, str], tuple[str, str, str]]:
        """Return by host and service the live slot, its release, and the release that answers there."""
        return {
            (host, service): (found["live"], found["current"], found["answers"])
            for host, services in self.hosts.items()
            for service, found in services.items()
        }

    def counters(self) -> Counter[str]:
        """Return the balancers' counters that a masked failure would move, over all servers."""
        total: Counter[str] = Counter(dict.fromkeys(MASKED, 0))
        for balancer in self.balancers.values():
            for entry in balancer["rotation"].values():
                for server in entry["servers"].values():
                    total.update({name: int(server["counters"][name]) for name in MASKED})
        return total


def look(lab: Lab, since: float = 0.0) -> Look:
    """Look at the fleet of a lab.

    Args:
        lab: Where.
        since: From when on to read the access logs (seconds since the epoch); 0: not at all.
    """
    file = lab.directory / "look.json"
    file.unlink(missing_ok=True)
    wanted = {"look_file": str(file), "look_script": str(SCRIPT), "look_since": since}
    playbook(str(Path(__file__).with_name("look.yml")), "-i", lab.inventory, "-e", json.dumps(wanted))
    return Look(**json.loads(file.read_text(encoding="utf-8")))


def wrong_with_hosts(found: Look, hosts: Sequence[str], releases: Sequence[str]) -> list[str]:
    """Say which services of which hosts do not serve one of the releases, as sentences."""
    serving = found.serving()
    wrong = [f"{host} could not be looked at" for host in hosts if host not in found.hosts]
    for (host, service), (slot, current, answers) in serving.items():
        if current != answers:
            wrong.append(f"{host} {service}: {slot} is to run {current}, and answers {answers}")
        elif answers not in releases:
            wrong.append(f"{host} {service}: {slot} runs {answers}, not {' or '.join(releases)}")
    return wrong


def wrong_with_visits(visit: Visit, before: Look, after: Look, *, restarted: bool = False) -> list[str]:
    """Say what visitors noticed, or what was hidden from them, as sentences.

    Args:
        visit: What the visitors saw.
        before: The fleet before, and `after`: the same later, with the access logs of the time between.
        after: See there.
        restarted: HAProxy may have begun anew meanwhile, and with it its counters.
    """
    wrong = []
    if visit.failed:
        wrong.append(f"{visit.failed} of {visit.requests} requests failed: {visit.report.get('failures')}")
    if not visit.requests:
        wrong.append("there were no visitors")
    for name, logged in after.logged.items():
        counts = {key: logged[key] for key in ("failed", "retried", "aborted") if logged.get(key)}
        if counts:
            wrong.append(f"{name} logged {counts}")
    if sum(logged.get("requests", 0) for logged in after.logged.values()) < visit.requests * 0.9:
        wrong.append("the balancers logged less than the visitors asked")
    same = {name: entry["pid"] for name, entry in before.balancers.items()} == {
        name: entry["pid"] for name, entry in after.balancers.items()
    }
    grown = {name: count for name, count in (after.counters() - before.counters()).items() if count}
    if same and grown:
        wrong.append(f"the balancers counted {grown}")
    if not same and not restarted:
        wrong.append("HAProxy began anew, so its counters say nothing")
    return wrong
