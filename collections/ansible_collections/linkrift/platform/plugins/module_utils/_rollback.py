# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which release a rollback leads to: one for all hosts of a service, by their ledgers together.

Never by the time of a file, and never one for each host: a host that joined late would go somewhere else.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


class RollbackError(ValueError):
    """There is nothing to go back to, or not to what was wished; the message lists what is possible."""


@dataclass
class Known:
    """A release that was live and good somewhere.

    Attributes:
        release: its id.
        live: when it became live last (UTC).
        hosts: those that have it complete.
        level: the schema level it needs; None when nobody knows.
    """

    release: str
    live: str
    hosts: list[str] = field(default_factory=list)
    level: int | None = None

    def obstacle(self, schema: Mapping[str, Any] | None) -> str:
        """Return why nothing can go back to it; empty when it can.

        Args:
            schema: the database's `level` and `floor`; None: nobody looked.
        """
        if not self.hosts:
            return "it was removed from every host (pruned)"
        if schema is None:
            return ""
        if self.level is None:
            return "it does not say which schema it needs"
        level, floor = int(schema.get("level") or 0), int(schema.get("floor") or 0)
        if self.level > level:
            return f"it needs schema level {self.level}, and the database is at {level}"
        if self.level < floor:
            return f"it is of schema level {self.level}, and the database serves only {floor} and newer"
        return ""


def target(
    facts: Mapping[str, Mapping[str, Any] | None],
    service: str,
    wished: str = "",
    schema: Mapping[str, Any] | None = None,
    recorded: str | None = None,
) -> str:
    """Return the release that a rollback of a service leads to.

    Without a wish it is the one before that of the fleet record. Where a rollout was interrupted, so that hosts run
    what the record does not say yet, it is that of the record.

    Args:
        facts: what `release_info` returned, by host; None for hosts that nobody could ask.
        service: the service.
        wished: a release that was live once; empty: the previous one.
        schema: the database's `level` and `floor`; None: it is not looked at.
        recorded: the fleet record's release of the service.

    Raises:
        RollbackError: there is none, or it cannot be.
    """
    course = _course(facts, service)
    known = _known(facts, course)
    way = _way([release for _time, release in course])
    if wished:
        found, whose = wished, f"{wished} cannot be what {service} goes back to"
        if wished not in known:
            undone = _undone(facts, service).get(wished)
            reason = f"it was undone ({undone})" if undone else f"{service} was never live and good with it"
            _refuse(f"{whose}: {reason}; the playbook deploy takes any release", known.values(), schema)
    else:
        found, whose = _previous(way, recorded), f"{service} cannot go back"
        if recorded in known and _is_switched(facts, service, known):
            found = recorded
        if not found:
            leaving = recorded or (way[-1] if way else "")
            reason = f"no good release came before {leaving}" if leaving else "nothing was ever live and good"
            others = [entry for release, entry in known.items() if release != leaving]
            _refuse(f"{whose}: {reason}", others, schema)
        whose += f" to {found}"
    obstacle = known[found].obstacle(schema)
    if obstacle:
        _refuse(f"{whose}: {obstacle}", known.values(), schema)
    return found


def _course(facts: Mapping[str, Mapping[str, Any] | None], service: str) -> list[tuple[str, str]]:
    """Return time and release of all that became live and was good, on any host, oldest first.

    What was undone on one host later is good on none.
    """
    entries = sorted(
        (str(entry["time"]), str(entry["release"]))
        for host in facts.values()
        for entry in _state(host, service).get("history") or ()
    )
    undone = _undone(facts, service)
    return [(time, release) for time, release in entries if undone.get(release, "") <= time]


def _undone(facts: Mapping[str, Mapping[str, Any] | None], service: str) -> dict[str, str]:
    """Return when releases were undone last, on any host."""
    found: dict[str, str] = {}
    for host in facts.values():
        for release, time in (_state(host, service).get("undone") or {}).items():
            found[release] = max(found.get(release, ""), str(time))
    return found


def _state(host: Mapping[str, Any] | None, service: str) -> Mapping[str, Any]:
    return ((host or {}).get("services") or {}).get(service) or {}


def _known(facts: Mapping[str, Mapping[str, Any] | None], course: Iterable[tuple[str, str]]) -> dict[str, Known]:
    """Return what is known of the releases that were live, the newest first."""
    newest = dict(sorted({release: time for time, release in course}.items(), key=lambda item: item[1], reverse=True))
    known = {release: Known(release, time) for release, time in newest.items()}
    for name, host in facts.items():
        for found in (host or {}).get("releases") or ():
            if found["complete"] and found["id"] in known:
                entry = known[found["id"]]
                entry.hosts.append(name)
                level = (found.get("record") or {}).get("schema_level")
                entry.level = entry.level if level is None else int(level)
    return known


def _way(releases: Iterable[str]) -> list[str]:
    """Return the releases on the way to the last one: coming back to one takes what came after it off the way.

    So a second rollback leads further back, and not to what the first one left.
    """
    way: list[str] = []
    for release in releases:
        if release in way:
            del way[way.index(release) + 1 :]
        else:
            way.append(release)
    return way


def _previous(way: list[str], recorded: str | None) -> str:
    """Return where the way led before; empty when it began there."""
    if recorded and way and way[-1] != recorded:
        # Hosts are on their way from what is recorded, or already back on their way from it.
        return recorded if recorded in way else way[-1]
    return way[-2] if len(way) > 1 else ""


def _is_switched(facts: Mapping[str, Mapping[str, Any] | None], service: str, known: Container[str]) -> bool:
    """Tell whether a deploy was killed between switch and commit, so that visitors may be on what was never live.

    Such a slot is admitted beside the live one, and no timer will stop it. What was live before is on its way back.
    """
    for host in facts.values():
        state = _state(host, service)
        for name, slot in (state.get("slots") or {}).items():
            other = slot["state"] == "warm" and name != state.get("live") and slot["release"] not in known
            if other and slot.get("warm_until") is None:
                return True
    return False


def _refuse(message: str, known: Iterable[Known], schema: Mapping[str, Any] | None) -> None:
    """Refuse, and list what is possible."""
    possible = [
        f"{entry.release} (live {entry.live}, on {', '.join(entry.hosts)})"
        for entry in known
        if not entry.obstacle(schema)
    ]
    msg = f"{message}. Possible: {'; '.join(possible) or 'nothing'}"
    raise RollbackError(msg)
