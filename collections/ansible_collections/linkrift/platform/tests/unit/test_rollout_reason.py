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
    assert rollout_failure(LOOP, "Start") == {
        "task": "Start",
        "message": "it answers 500",
        "evidence": [{"journal": ["no"]}],
    }


def test_hosts_with_the_same_reason_are_named_together() -> None:
    same = {"task": "Start", "message": "no free port", "evidence": []}
    failures = {"app3": same, "app1": same, "app2": {**same, "message": ""}}
    assert rollout_reason(failures, ["app4"]) == (
        "app1, app3: no free port; app2: the task Start failed; app4 was lost"
    )
    assert rollout_reason({}) == "a step failed"
