"""A balancer that is down, or a host that messages cannot be sent from, stops no operation, as Ansible runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "collections/ansible_collections/linkrift/platform/roles"
# Nobody listens there.
DOWN = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
# A balancer is lost as soon as somebody has looked at it.
LOST = DOWN | {"ansible_connection": "{{ hostvars.app1.__drain_rotation is defined | ternary('ssh', 'local') }}"}
BACKENDS = """backend linkrift_api
  server app1-blue 198.51.100.1:8080 weight 1
"""


def role(name: str, entry: str = "main", **variables: Any) -> dict[str, Any]:
    """A task that includes a role as a rollout does."""
    return {
        "ansible.builtin.include_role": {
            "name": f"linkrift.platform.{name}",
            "tasks_from": entry,
            "rolespec_validate": False,
        },
        "vars": variables,
    }


def say(text: str) -> dict[str, Any]:
    """A task that only says something."""
    return {"ansible.builtin.debug": {"msg": f"SAID {text}"}}


class Site:
    """Balancers and two application hosts, all of them this machine unless they are down."""

    def __init__(self, root: Path) -> None:
        """Have both balancers up, and no HAProxy."""
        self.root = root
        self.balancers: dict[str, dict[str, Any]] = {"lb1": {}, "lb2": {}}
        (root / "backends.cfg").write_text(BACKENDS)

    def run(self, *tasks: dict[str, Any], hosts: str = "app1") -> tuple[int, str]:
        """Run them in a block; return the play's status and what it said, in one line."""
        children = {
            "balancers": {"hosts": self.balancers},
            "app_hosts": {"hosts": {"app1": {}, "app2": {}}},
        }
        everywhere = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        nobody = {"admin_socket": str(self.root / "none"), "master_socket": "", "path": str(self.root / "backends.cfg")}
        play = {
            "hosts": hosts,
            "gather_facts": False,
            "any_errors_fatal": hosts != "app1",
            "module_defaults": {"linkrift.platform.rotation_info": nobody},
            "tasks": [
                {
                    "block": [*tasks, say("went on with {{ inventory_hostname }}")],
                    "rescue": [say("undone")],
                    "always": [say("freed")],
                }
            ],
        }
        (self.root / "inventory.yml").write_text(yaml.safe_dump({"all": {"children": children, "vars": everywhere}}))
        (self.root / "play.yml").write_text(yaml.safe_dump([play]))
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", "inventory.yml", "play.yml"],
            cwd=self.root,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
                "ANSIBLE_HOME": str(self.root / "home"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_SSH_RETRIES": "0",
                "LC_ALL": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, " ".join(done.stdout.split())


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


@pytest.mark.parametrize("name", ["drain", "patch"])
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
    *(f"ansible.builtin.{module}" for module in ("assert", "debug", "set_fact", "set_stats", "stat", "known_hosts")),
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
