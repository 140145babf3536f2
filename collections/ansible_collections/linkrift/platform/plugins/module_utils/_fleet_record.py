# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The fleet record: which release of each service the whole fleet runs. A copy of it lies on every balancer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import check_release_id, write_atomically

FORMAT = 1
PATH = Path("/var/lib/linkrift/fleet.json")


class FleetRecordError(Exception):
    """The record cannot be read or written; the message says why and what to do."""


@dataclass
class Merged:
    """What the record becomes, and what the operator should know.

    Attributes:
        services: entry (`release`, `since`, `by`) by service.
        warnings: where the record and the hosts disagree.
    """

    services: dict[str, dict[str, str]]
    warnings: list[str] = field(default_factory=list)


def read(path: Path) -> dict[str, dict[str, str]]:
    """Return the record's entries by service; none without a record.

    Raises:
        FleetRecordError: it is malformed, or of another format.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise FleetRecordError(f"{path} cannot be read: {error}") from error
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise FleetRecordError(f"{path} has format {data['format']}, and this collection knows {FORMAT} only")
        return {
            str(service): {
                "release": check_release_id(entry["release"]),
                "since": str(entry["since"]),
                "by": str(entry["by"]),
            }
            for service, entry in data["services"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FleetRecordError(
            f"{path} is damaged ({error}): copy it from another balancer, or remove it and run the playbook site, "
            "which writes what the hosts run"
        ) from error


def render(services: Mapping[str, Mapping[str, str]]) -> str:
    """Return the record's text: the same for the same entries."""
    return json.dumps({"format": FORMAT, "services": services}, indent=2, sort_keys=True) + "\n"


def merge(
    known: Mapping[str, Mapping[str, str]],
    wished: Mapping[str, str],
    serving: Mapping[str, Mapping[str, Mapping[str, Any]] | None],
    since: str,
    by: str,
) -> Merged:
    """Return the record with what was decided, and with what hosts serve of services that it does not know.

    Args:
        known: the entries that there are.
        wished: release by service, decided by a rollout: replaces what is there.
        serving: by host and service, a dictionary with the live `release`; None for a host that nobody looked at.
        since: time of a new entry (UTC).
        by: who makes it.

    Raises:
        ValueError: something is no release id.
    """
    services = {service: dict(entry) for service, entry in known.items()}
    for service, release in wished.items():
        if services.get(service, {}).get("release") != check_release_id(release):
            services[service] = {"release": release, "since": since, "by": by}
    merged = Merged(services)
    for service, found in sorted(_live(serving).items()):
        if service not in services and len(found) == 1:
            services[service] = {"release": check_release_id(next(iter(found))), "since": since, "by": by}
        elif service not in services:
            told = "; ".join(f"{release} on {', '.join(hosts)}" for release, hosts in sorted(found.items()))
            merged.warnings.append(
                f"the hosts serve different releases of {service} ({told}), so none is noted as the fleet's: "
                "finish or undo the rollout"
            )
        else:
            noted = services[service]["release"]
            merged.warnings += [
                f"{', '.join(hosts)}: {service} {release} is live, but the fleet record says {noted}. "
                f"New hosts get {noted}; a rollout brings the others to it, or the record to them"
                for release, hosts in sorted(found.items())
                if release != noted
            ]
    return merged


def _live(serving: Mapping[str, Mapping[str, Mapping[str, Any]] | None]) -> dict[str, dict[str, list[str]]]:
    """Return the hosts by service and release."""
    found: dict[str, dict[str, list[str]]] = {}
    for host, services in sorted(serving.items()):
        for service, slot in (services or {}).items():
            if slot.get("release"):
                found.setdefault(service, {}).setdefault(slot["release"], []).append(host)
    return found


def newest(records: Iterable[Mapping[str, Mapping[str, str]]], service: str) -> str:
    """Return the release that several balancers' records give a service; the newest entry wins, empty without one."""
    entries = [record[service] for record in records if service in record]
    return max(entries, key=lambda entry: (entry["since"], entry["release"]))["release"] if entries else ""


def write(path: Path, services: Mapping[str, Mapping[str, str]]) -> None:
    """Replace the record in one step; it survives a power cut once this returns.

    Raises:
        FleetRecordError: it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomically(path, render(services), 0o644)
    except OSError as error:
        raise FleetRecordError(f"{path} cannot be written: {error}") from error
