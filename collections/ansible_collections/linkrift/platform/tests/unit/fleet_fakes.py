# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What hosts answer when they are asked for their releases and slots."""

from __future__ import annotations

from typing import Any

OLD = "1.0.0+aaaaaaaaaaaa"
NEW = "1.1.0+bbbbbbbbbbbb"
OTHER = "0.9.0+cccccccccccc"
PORTS = {"blue": 8081, "green": 8181}


def slot(state: str, release: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a slot's facts."""
    runs = state != "idle"
    return {
        "state": state,
        "release": release,
        "active": runs,
        "enabled": state == "live",
        "admitted": state in ("live", "warm"),
        "config_digest": "s1" if release else None,
        "warm_until": None,
        **more,
    }


def service(
    live: str | None, blue: dict[str, Any] | None = None, green: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Return a service's facts."""
    slots = {"blue": blue or slot("idle"), "green": green or slot("idle")}
    return {
        "live": live,
        "drained": False,
        "rendered": "s1",
        "slots": {name: {**facts, "port": PORTS[name]} for name, facts in slots.items()},
        "current": slots[live]["release"] if live else None,
        "history": [],
        "undone": {},
        "last": None,
        **more,
    }


def runs(release: str = OLD, live: str = "blue", other: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return the facts of a service that serves, and what its other slot does."""
    mine = slot("live", release)
    return service(live, *((mine, other) if live == "blue" else (other, mine)), **more)


def host(
    redirect: dict[str, Any] | None = None,
    *installed: str,
    incomplete: tuple[str, ...] = (),
    **services: dict[str, Any],
) -> dict[str, Any]:
    """Return what a host answers."""
    given = {**({"redirect": redirect} if redirect else {}), **services}
    releases = [{"id": name, "complete": name not in incomplete} for name in (*installed, *incomplete)]
    return {"services": given, "releases": releases}
