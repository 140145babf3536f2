# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ledger: what happened to a service's slots on a host, in order, never rewritten."""

from __future__ import annotations

import datetime
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import (
    Layout,
    append_ledger,
    read_ledger,
    sync_directory,
)


def who_runs_this() -> str:
    """Return who does what is noted here: the user who became root, if that is known."""
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@dataclass(frozen=True)
class Entry:
    """One step of a slot."""

    service: str
    slot: str
    release: str
    config_digest: str
    action: str
    """`candidate`, `admitted`, `live`, `drained`, `stopped`, or `undone`: what became live was no good, and is left."""
    passed: Sequence[str]
    """Names of the checks that passed."""
    by: str
    failed: str = ""
    """Why the step failed; empty when it did not."""

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as it is written, with the time (UTC, to the millisecond)."""
        now = datetime.datetime.now(datetime.timezone.utc)
        entry: dict[str, Any] = {
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "service": self.service,
            "slot": self.slot,
            "release": self.release,
            "config_digest": self.config_digest,
            "action": self.action,
            "passed": list(self.passed),
            "by": self.by,
        }
        return {**entry, "failed": self.failed} if self.failed else entry


def record(layout: Layout, entry: Entry) -> None:
    """Append an entry; once this returns, it survives a power cut.

    Raises:
        OSError: it cannot be written.
    """
    path = layout.ledger(entry.service)
    new = not path.exists()
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    append_ledger(path, entry.as_dict())
    if new:
        sync_directory(path.parent)


def newest(layout: Layout, service: str, action: str, slot: str | None = None) -> dict[str, Any] | None:
    """Return the newest entry of an action that did not fail, of one slot or of any; None without one."""
    for entry in reversed(read_ledger(layout.ledger(service))):
        if entry.get("action") == action and slot in (None, entry.get("slot")) and not entry.get("failed"):
            return dict(entry)
    return None


def is_recorded(layout: Layout, entry: Entry) -> bool:
    """Tell whether the newest entry of the same action says the same of slot, release and configuration.

    Only one slot can be live, so there the newest of both counts; the other actions are each slot's own.
    """
    found = newest(layout, entry.service, entry.action, None if entry.action == "live" else entry.slot)
    wished = {"slot": entry.slot, "release": entry.release, "config_digest": entry.config_digest}
    return found is not None and all(found.get(name) == value for name, value in wished.items())


def good_entries(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the entries of one ledger by which something became live and passed, oldest first.

    Left out is what an entry `undone` withdrew later: what ran in that slot, and what ran with those settings in the
    other one. The same release with earlier settings in the other slot stays good: only new settings were undone.
    """
    good: list[Mapping[str, Any]] = []
    for entry in entries:
        if entry.get("action") == "undone":
            good = [former for former in good if not _withdraws(entry, former)]
        elif entry.get("action") == "live" and entry.get("release") and not entry.get("failed"):
            good.append(entry)
    return good


def is_undone(layout: Layout, service: str, slot: str) -> bool:
    """Tell whether the last thing that the ledger has of a slot is that it was undone."""
    actions = [entry.get("action") for entry in read_ledger(layout.ledger(service)) if entry.get("slot") == slot]
    return actions[-1:] == ["undone"]


def undone_releases(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the releases of one ledger that were undone and have not been good since, with the time of that."""
    good = {entry["release"] for entry in good_entries(entries)}
    undone = (entry for entry in entries if entry.get("action") == "undone" and entry.get("release"))
    return {str(entry["release"]): str(entry.get("time", "")) for entry in undone if entry["release"] not in good}


def _withdraws(undone: Mapping[str, Any], former: Mapping[str, Any]) -> bool:
    same = [undone.get(name) == former.get(name) for name in ("slot", "config_digest")]
    return undone.get("release") == former["release"] and any(same)
