# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the balancers do and know, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._fleet_record import newest
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES


@dataclass
class Balancer:
    """One balancer, as it was found.

    Attributes:
        name: its name.
        rotation: what HAProxy really does, by service and server; None where it could not be asked.
        record: its fleet record by service; None where it could not be read.
        lease: who holds the fleet; None: nobody, or it could not be read.
        findings: what is wrong with it, in words.
    """

    name: str
    rotation: Mapping[str, Any] | None = None
    record: Mapping[str, Mapping[str, str]] | None = None
    lease: Mapping[str, Any] | None = None
    findings: list[str] = field(default_factory=list)

    def server(self, service: str, host: str, slot: str) -> Mapping[str, Any] | None:
        """Return what it does with a slot; None when it does not know it."""
        servers = ((self.rotation or {}).get(service) or {}).get("servers") or {}
        found: Mapping[str, Any] | None = servers.get(f"{host}-{slot}")
        return found


def what_failed(result: Mapping[str, Any]) -> str:
    """Return why a module that looks has nothing to show. The play goes on without it, so `failed` tells nothing."""
    # A Python that cannot even start says so there only.
    lines = str(result.get("module_stderr") or "").split("\n", 1)
    said = " ".join(str(lines[0].strip() or result.get("msg") or "").split()).removeprefix("Task failed: ")
    # Skipped is what comes after somebody waited for it in vain.
    if result.get("unreachable") or result.get("skipped"):
        return f"cannot be reached{said and ': '}{said}"
    return f"cannot be looked at: {said or 'it gave no answer'}"


def balancer_of(name: str, variables: Mapping[str, Any]) -> Balancer:
    """Return a balancer from what its host's variables have of it.

    Args:
        name: its name.
        variables: `status_rotation`, `status_record` and `status_lease`, the results of modules rotation_info,
            fleet_record and fleet_lock_info.
    """
    found = Balancer(name)
    rotation, record, lease = (variables.get(f"status_{what}") or {} for what in ("rotation", "record", "lease"))
    if "rotation" in rotation:
        if rotation["running"]:
            found.rotation = rotation["rotation"]
            found.findings += [f"HAProxy does otherwise than its file says: {what}" for what in rotation["differences"]]
        else:
            found.findings.append("HAProxy does not run")
    else:
        found.findings.append(what_failed(rotation))
        if rotation.get("unreachable") or rotation.get("skipped"):
            return found
    if "record" in record:
        found.record = record["record"]
    else:
        found.findings.append(f"its fleet record {what_failed(record)}")
    if "held" in lease:
        found.lease = {**lease["lease"], "held": lease["held"]} if lease["lease"] else None
    else:
        found.findings.append(f"its lease {what_failed(lease)}")
    return found


def fleet_of(balancers: Iterable[Balancer]) -> dict[str, str]:
    """Return the fleet's release by service: the newest entry of any balancer's record."""
    records = [balancer.record for balancer in balancers if balancer.record is not None]
    return {service: release for service in SERVICES if (release := newest(records, service))}


def disagreements(balancers: Sequence[Balancer]) -> list[str]:
    """Return where balancers differ from each other, in words: fleet record, lease, and who serves."""
    records = {
        service: {
            each.name: str((each.record.get(service) or {}).get("release") or "nothing")
            for each in balancers
            if each.record is not None
        }
        for service in SERVICES
    }
    told = [_differ(f"the fleet record of {service}", found) for service, found in records.items()]
    # One that could not be read holds no opinion; the record tells whether the balancer was there.
    leases = {
        each.name: f"{each.lease['purpose']} {each.lease['id']}" if each.lease and each.lease["held"] else "nobody"
        for each in balancers
        if each.record is not None
    }
    told.append(_differ("who holds the fleet", leases))
    asked = [each for each in balancers if each.rotation is not None]
    for service in sorted({service for each in asked for service in each.rotation or {}}):
        serving = {each.name: ", ".join(_serving(each, service)) or "no slot" for each in asked}
        told.append(_differ(f"who gets visitors of {service}", serving))
    return [line for line in told if line]


def _serving(balancer: Balancer, service: str) -> list[str]:
    servers = ((balancer.rotation or {}).get(service) or {}).get("servers") or {}
    return sorted(name for name, server in servers.items() if server["takes_traffic"])


def _differ(what: str, found: Mapping[str, str]) -> str:
    """Return a sentence when not all say the same; else nothing."""
    if len(set(found.values())) < 2:
        return ""
    return f"the balancers differ in {what}: " + "; ".join(f"{name}: {said}" for name, said in sorted(found.items()))
