# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the fleet runs, as the balancers note it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.filter.fleet_release import fleet_release
from ansible_collections.linkrift.platform.plugins.module_utils import _fleet_record as fleet

OLD = "1.0.0+aaaaaaaaaaaa"
NEW = "1.1.0+bbbbbbbbbbbb"
ENTRY = {"release": OLD, "since": "2026-01-01T00:00:00Z", "by": "alice"}


def merge(known: dict[str, Any], wished: dict[str, str], serving: dict[str, Any]) -> fleet.Merged:
    return fleet.merge(known, wished, serving, "2026-02-02T00:00:00Z", "bob")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new/fleet.json"
    assert fleet.read(path) == {}
    fleet.write(path, {"redirect": ENTRY, "api": ENTRY})
    assert fleet.read(path) == {"redirect": ENTRY, "api": ENTRY}
    assert path.stat().st_mode & 0o777 == 0o644
    assert json.loads(path.read_text())["format"] == 1
    assert path.read_text() == fleet.render({"api": ENTRY, "redirect": ENTRY}), "whatever the order"
    assert [file.name for file in path.parent.iterdir()] == ["fleet.json"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 2, "services": {}}', "has format 2"),
        ('{"format": 1, "services": {"api": {"release": "../x", "since": "", "by": ""}}}', "no release id"),
        ('{"format": 1, "services": {"api": {}}}', "is damaged"),
    ],
)
def test_a_damaged_record_is_no_empty_one(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(text)
    with pytest.raises(fleet.FleetRecordError, match=complaint):
        fleet.read(path)


def test_a_service_that_hosts_agree_on_is_added_once() -> None:
    serving = {"app1": {"api": {"release": NEW}}, "app2": {"api": {"release": NEW}}, "app3": None, "app4": {}}
    merged = merge({"redirect": ENTRY}, {}, serving)
    assert merged.services == {
        "redirect": ENTRY,
        "api": {"release": NEW, "since": "2026-02-02T00:00:00Z", "by": "bob"},
    }
    assert not merged.warnings
    assert fleet.merge(merged.services, {}, serving, "later", "carol").services == merged.services


def test_hosts_that_disagree_are_named_and_change_nothing() -> None:
    serving = {"app1": {"api": {"release": OLD}}, "app2": {"api": {"release": NEW}}}
    merged = merge({"api": ENTRY}, {}, serving)
    assert merged.services == {"api": ENTRY}
    [warning] = merged.warnings
    assert warning.startswith(f"app2: api {NEW} is live, but the fleet record says {OLD}")
    merged = merge({}, {}, serving)
    assert merged.services == {}
    assert "different releases of api" in merged.warnings[0]


def test_a_rollouts_decision_replaces_what_was_there() -> None:
    assert merge({"api": ENTRY, "redirect": ENTRY}, {"api": NEW}, {}).services == {
        "api": {"release": NEW, "since": "2026-02-02T00:00:00Z", "by": "bob"},
        "redirect": ENTRY,
    }
    assert merge({"api": ENTRY}, {"api": OLD}, {}).services == {"api": ENTRY}, "the same is no change"
    with pytest.raises(ValueError, match="no release id"):
        merge({}, {"api": "latest"}, {})


def test_a_new_host_takes_the_newest_entry_of_all_balancers_before_what_others_run() -> None:
    live = {"services": {"api": {"live": "blue", "slots": {"blue": {"release": OLD}}}}}
    newer = {**ENTRY, "release": NEW, "since": "2026-01-02T00:00:00Z"}
    records = [{"api": ENTRY}, {"api": newer}, {}]
    assert fleet_release({"app1": live}, "api", "", records) == NEW
    assert fleet_release({"app1": live}, "worker", "fallback", records) == "fallback"
    assert fleet_release({"app1": live}, "api", "", [{}]) == OLD
