"""Playbooks that move slots hold the fleet for as long as they work, and free it when they fail, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "collections/ansible_collections/linkrift/platform/roles"
LOCK = "linkrift.platform.fleet_lock"
WORK = {f"linkrift.platform.{role}" for role in ("drain", "patch")}
PLAYBOOKS = ("drain", "undrain", "patch", "remove_host")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def uses(task: dict[str, Any]) -> tuple[str, str]:
    """Return the role that a task includes, and its entry point."""
    for word in ("include_role", "import_role"):
        if role := task.get(f"ansible.builtin.{word}"):
            return role["name"], role.get("tasks_from", "main")
    return "", ""


def blocks(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return tasks that are blocks, at any depth."""
    for task in tasks:
        if "block" in task:
            yield task
            yield from blocks(task["block"])


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_what_works_on_slots_is_in_a_block_that_frees_the_fleet_when_it_fails(name: str) -> None:
    plays = [play for play in load(ROOT / f"playbooks/{name}.yml") if "tasks" in play]
    # What only looks may do so at any time.
    outside = [role for play in plays for role, entry in map(uses, play["tasks"]) if entry != "look"]
    assert not WORK & set(outside)
    found = [
        block for play in plays for block in blocks(play["tasks"]) if WORK & {uses(task)[0] for task in block["block"]}
    ]
    assert found
    for block in found:
        assert (LOCK, "free") in [uses(task) for task in block["always"]]


@pytest.mark.parametrize("name", ["drain", "undrain", "remove_host"])
def test_the_fleet_is_held_before_the_work(name: str) -> None:
    for play in load(ROOT / f"playbooks/{name}.yml"):
        for block in blocks(play.get("tasks", [])):
            roles = [uses(task) for task in block["block"] if uses(task)[0]]
            assert roles[0] == (LOCK, "main")


def test_patch_holds_it_for_hosts_that_need_something() -> None:
    block = load(ROLES / "patch/tasks/work.yml")[0]
    assert uses(block["block"][0]) == (LOCK, "main")


@pytest.mark.parametrize("name", ["patch", "remove_host"])
def test_the_last_play_frees_it(name: str) -> None:
    last = load(ROOT / f"playbooks/{name}.yml")[-1]
    assert (LOCK, "free") in [uses(task) for task in last["tasks"]]


def test_a_failure_is_known_by_what_the_block_did_not_come_to() -> None:
    for name, mark in (("drain", "drain_done"), ("undrain", "undrain_done"), ("remove_host", "remove_drained")):
        (block,) = [block for play in load(ROOT / f"playbooks/{name}.yml") for block in blocks(play.get("tasks", []))]
        assert mark in block["block"][-1]["ansible.builtin.set_fact"]
        assert f"not {mark} | default(false)" in block["always"][0]["when"]


def test_every_gate_of_a_rollout_allows_the_same_errors() -> None:
    """What passes as a candidate is not undone for it while it is watched, nor refused when it is started again."""
    asked = []
    for path in sorted((ROLES / "rollout/tasks").glob("*.yml")):
        tasks = load(path)
        for task in [*tasks, *(inner for block in blocks(tasks) for inner in block["block"])]:
            slot = task.get("linkrift.platform.slot", {})
            if slot.get("state") == "candidate":
                asked.append((path.stem, slot.get("error_rate")))
            if watch := task.get("linkrift.platform.slot_watch"):
                asked.append((path.stem, watch.get("error_rate")))
    assert asked == [(name, "{{ rollout_gate_error_rate }}") for name in ("finish", "move", "undo_slots", "watch")]
