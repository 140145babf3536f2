# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a PostgreSQL server says about itself: its schema level, and how many connections it takes from whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._migrate_plan import State

# PostgreSQL 16 keeps more connections back, for roles that may use those.
_LIMITS = """
SELECT current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
       + coalesce(current_setting('reserved_connections', true)::int, 0)
"""
_IN_USE = "SELECT usename, count(*) FROM pg_stat_activity WHERE usename IS NOT NULL AND datname IS NOT NULL GROUP BY 1"
_ROLES = "SELECT rolname, rolconnlimit FROM pg_roles WHERE rolcanlogin AND rolconnlimit >= 0"

Rows = Callable[[str], list[tuple[Any, ...]]]
"""Runs a query."""


@dataclass(frozen=True)
class Room:
    """Connections of a server.

    Attributes:
        most: it takes at most.
        reserved: of those, for its superusers only.
        in_use: how many each user has.
        limits: at most so many for a user; one that is not named has no bound of its own.
    """

    most: int
    reserved: int
    in_use: dict[str, int]
    limits: dict[str, int]


def read_room(rows: Rows) -> Room:
    """Ask a server for its connections; this one is left out."""
    most, reserved = rows(_LIMITS)[0]
    in_use = {str(user): int(count) for user, count in rows(_IN_USE)}
    asking = str(rows("SELECT current_user")[0][0])
    in_use[asking] = in_use.get(asking, 1) - 1
    limits = {str(role): int(limit) for role, limit in rows(_ROLES)}
    return Room(int(most), int(reserved), {user: count for user, count in sorted(in_use.items()) if count > 0}, limits)


def floor_of(state: State) -> int:
    """Return the oldest schema level whose releases work on a database; 0 without a bound."""
    return max((record.oldest or 0 for record in state.records if record.version <= state.version), default=0)
