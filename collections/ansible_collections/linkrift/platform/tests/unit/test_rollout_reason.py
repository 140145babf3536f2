# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What people read of a rollout that failed."""

from __future__ import annotations

from ansible_collections.linkrift.platform.plugins.filter.rollout_failure import rollout_failure
from ansible_collections.linkrift.platform.plugins.filter.rollout_reason import rollout_reason

LOOP = {
    "msg": "One or more items failed",
    "results": [
        {"failed": False, "_ansible_item_label": "api", "msg": "fine"},
        {"failed": True, "_ansible_item_label": "redirect", "msg": "it answers 500.", "evidence": {"journal": ["no"]}},
    ],
}


def test_a_loop_on_a_host_failed_there() -> None:
    assert rollout_failure(LOOP, "Start", "app2", False) == {
        "task": "Start",
        "where": ["app2"],
        "message": "it answers 500",
        "evidence": [{"journal": ["no"]}],
    }


def test_what_runs_once_failed_where_it_was_delegated_to() -> None:
    result = {"results": [{"failed": True, "_ansible_item_label": "lb1", "msg": "no check passed"}]}
    assert rollout_failure(result, "Switch", "app1", True)["where"] == ["lb1"]
    assert rollout_failure({"failed": True, "msg": "no"}, "Migrate", "app1", True)["where"] == ["app1"]


def test_hosts_with_the_same_reason_are_named_together() -> None:
    same = {"task": "Start", "message": "no free port", "evidence": []}
    failures = {"app3": {**same, "where": ["app3"]}, "app1": {**same, "where": ["app1"]}}
    failures["app2"] = {**same, "where": ["app2"], "message": ""}
    assert rollout_reason(failures, ["app4"]) == (
        "app1, app3: no free port; app2: the task Start failed; app4 was lost"
    )
    assert rollout_reason({}) == "a step failed"
