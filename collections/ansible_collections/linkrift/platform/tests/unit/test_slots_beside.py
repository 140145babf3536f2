# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.filter.slots_beside import FilterModule

slots_beside = FilterModule().filters()["slots_beside"]


def service(live: str | None, blue: str, green: str) -> dict[str, Any]:
    return {
        "live": live,
        "slots": {"blue": {"state": blue, "release": "1+a"}, "green": {"state": green, "release": "2+b"}},
    }


@pytest.mark.parametrize(
    ("live", "blue", "green", "expected"),
    [
        ("green", "warm", "live", [("blue", "warm", "1+a")]),
        ("blue", "live", "candidate", [("green", "candidate", "2+b")]),
        ("green", "idle", "live", []),
        # Not known which one visitors are on.
        (None, "warm", "idle", []),
    ],
)
def test_what_runs_beside(live: str | None, blue: str, green: str, expected: list[tuple[str, ...]]) -> None:
    found = slots_beside({"api": service(live, blue, green)}, ["redirect", "api"])
    assert [(each["slot"], each["state"], each["release"]) for each in found] == expected
    assert all(each["service"] == "api" for each in found)


def test_only_what_is_asked_for() -> None:
    assert slots_beside({"api": service("green", "warm", "live")}, ["redirect"]) == []
