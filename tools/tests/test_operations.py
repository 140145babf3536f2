"""A balancer that is down, or a host that messages cannot be sent from, stops no operation, as Ansible runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.lab import ROOT
from tools.testing.ansible_site import DOWN, Site, role

ROLES = ROOT / "collections/ansible_collections/linkrift/platform/roles"
# A balancer is lost as soon as somebody has looked at it.
LOST = {**DOWN, "ansible_connection": "{{ hostvars.app1.__drain_rotation is defined | ternary('ssh', 'local') }}"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


LOOKS = [role("drain", "rotation"), role("patch", "others", patch_strict=False)]


def test_operations_go_on_without_a_balancer_that_is_down(site: Site) -> None:
    site.balancers["lb1"] = DOWN
    status, output = site.run(*LOOKS)
    assert status == 0, output
    assert "Warning: lb1 cannot be reached, and is not told of app1." in output
    assert "SAID went on with app1" in output


@pytest.mark.parametrize("look", LOOKS, ids=["drain", "patch"])
def test_without_any_balancer_they_stop_and_free_the_fleet(site: Site, look: dict[str, Any]) -> None:
    site.balancers = {"lb1": DOWN, "lb2": DOWN}
    _status, output = site.run(look)
    assert "None of the balancers (lb1, lb2) can be reached. Bring one back" in output
    assert "SAID went on" not in output
    assert "SAID undone" in output, "a failure, and not a lost host"
    assert "SAID freed" in output


def test_without_balancers_in_the_inventory_nobody_is_missed(site: Site) -> None:
    site.balancers = {}
    status, output = site.run(*LOOKS)
    assert status == 0, output
    assert "SAID went on with app1" in output
    assert "Warning" not in output


def test_a_balancer_lost_while_it_is_told_is_a_failure(site: Site) -> None:
    site.balancers = {"lb1": DOWN, "lb2": LOST}
    _status, output = site.run(role("drain", drain_services=["api"]))
    assert ' "msg": "lb2 was lost while it was told of app1; what it had begun, it ends.' in output, (
        "and lb1 is not told"
    )
    assert "SAID undone" in output
    assert "SAID freed" in output


@pytest.mark.parametrize(
    "wrong", [{"notify_from": "lb1"}, {"notify_about": "{{ 1 / 0 }}"}, {"notify_from": "{{ 1 / 0 }}"}], ids=str
)
def test_a_rollout_does_not_depend_on_who_hears_of_it(site: Site, wrong: dict[str, str]) -> None:
    site.balancers["lb1"] = DOWN
    webhooks = [{"url": "http://127.0.0.1:1/"}]
    status, output = site.run(
        role("notify", notify_event="start", notify_webhooks=webhooks, **wrong), hosts="app_hosts"
    )
    assert status == 0, output
    assert output.count("Nobody was told of this start: ") == 1
    assert "SAID went on with app1" in output
    assert "SAID went on with app2" in output
    assert "SAID undone" not in output


def tasks_of(name: str) -> Iterator[dict[str, Any]]:
    """Return the tasks of a role, of blocks too."""
    for path in sorted((ROLES / name / "tasks").glob("*.yml")):
        for task in yaml.safe_load(path.read_text(encoding="utf-8")):
            yield from task.get("block", [task])


@pytest.mark.parametrize("name", ["drain", "patch", "join", "uninstall"])
def test_what_asks_a_balancer_does_not_lose_the_host_for_it(name: str) -> None:
    asks = [
        task for task in tasks_of(name) if {"linkrift.platform.rotation_info", "linkrift.platform.rotation"} & set(task)
    ]
    assert asks
    for task in asks:
        assert task["ignore_unreachable"] is True, task["name"]
        assert "run_once" not in task, "that ends the play for an unreachable host, ignored or not"


@pytest.mark.parametrize("name", ["drain", "patch"])
def test_what_a_killed_run_left_at_work_is_waited_for(name: str) -> None:
    settles = [
        task["linkrift.platform.rotation_info"]["settle"]
        for task in tasks_of(name)
        if "linkrift.platform.rotation_info" in task
    ]
    assert settles == [300]


def test_every_way_to_the_rotation_ends_where_a_balancer_was_lost() -> None:
    for entry in ("main", "undrain"):
        text = (ROLES / f"drain/tasks/{entry}.yml").read_text(encoding="utf-8")
        assert text.index("linkrift.platform.rotation:") < text.index("import_tasks: lost.yml")


# What needs no root: it runs on the control node, or becomes root by itself.
HARMLESS = {
    *(
        f"ansible.builtin.{module}"
        for module in ("assert", "debug", "set_fact", "set_stats", "stat", "known_hosts", "raw")
    ),
    "linkrift.platform.cloudflare_networks_info",
}
LOCK = "linkrift.platform.fleet_lock"


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_every_play_that_needs_root_says_so(path: Path) -> None:
    for play in yaml.safe_load(path.read_text(encoding="utf-8")):
        if "ansible.builtin.import_playbook" in play or play.get("become"):
            continue
        assert "roles" not in play
        for task in play["tasks"]:
            if include := task.get("ansible.builtin.include_role"):
                assert include["name"] == LOCK, task["name"]
            else:
                assert HARMLESS & set(task), task["name"]


@pytest.mark.parametrize("path", sorted((ROOT / "inventories").rglob("*.yml")), ids=lambda path: path.name)
def test_no_inventory_overrules_what_plays_say(path: Path) -> None:
    assert "ansible_become:" not in path.read_text(encoding="utf-8")
