# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Role fleet_lock as Ansible runs it, with directories in place of balancers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.servers
COLLECTIONS = Path(__file__).parents[5]
ANOTHERS = {
    "format": 1,
    "id": "20260101T000000Z-bbbbbb",
    "purpose": "patch",
    "by": "bob@other",
    "control": {},
    "since": "2026-01-01T00:00:00Z",
    "until": "2999-01-01T00:00:00Z",
}
# Nobody listens there.
DOWN = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}

HOLD = {
    "ansible.builtin.include_role": {"name": "linkrift.platform.fleet_lock"},
    "vars": {"fleet_lock_purpose": "deploy"},
}
FREE = {"ansible.builtin.include_role": {"name": "linkrift.platform.fleet_lock", "tasks_from": "free"}}


def say(text: str) -> dict[str, Any]:
    """A task that only says something."""
    return {"ansible.builtin.debug": {"msg": text}}


def program(text: str) -> dict[str, Any]:
    """A task that runs something on the control node."""
    return {"ansible.builtin.shell": text, "delegate_to": "localhost", "run_once": True, "changed_when": False}


def asked(output: str, task: str) -> list[list[str]]:
    """Return the balancers that a task of the role asked, in order, for each time that it ran."""
    parts = output.split("\nTASK [linkrift.platform.fleet_lock : ")
    return [re.findall(r"^ok: .*\(item=(lb\d)\)", part, re.MULTILINE) for part in parts if part.startswith(f"{task}]")]


class Site:
    """Balancers lb1 and lb2 and hosts app1 and app2."""

    def __init__(self, root: Path) -> None:
        """Write nothing yet."""
        self.root = root
        self.balancers: dict[str, dict[str, Any]] = {"lb2": {}, "lb1": {}}

    def lease(self, balancer: str) -> dict[str, Any] | None:
        """Return what lies on a balancer."""
        path = self.root / f"{balancer}.json"
        found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        return found

    def held_by_another(self, balancer: str) -> None:
        """Have somebody else hold it."""
        (self.root / f"{balancer}.json").write_text(json.dumps(ANOTHERS))

    def start(self, *tasks: dict[str, Any], check: bool = False, **play: Any) -> subprocess.Popen[str]:
        """Start a playbook with these tasks, and have it end the lease, whatever comes."""
        everywhere = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
        }
        inventory = {
            "all": {
                "children": {
                    "balancers": {"hosts": self.balancers},
                    "app_hosts": {"hosts": {"app1": {}, "app2": {}}},
                },
                "vars": everywhere,
            }
        }
        path = {"path": str(self.root / "{{ item }}.json")}
        written = {
            "hosts": "app_hosts",
            "gather_facts": False,
            "module_defaults": {"linkrift.platform.fleet_lock": path, "linkrift.platform.fleet_lock_info": path},
            "tasks": [
                {
                    "any_errors_fatal": True,
                    "block": list(tasks),
                    "rescue": [say("undone on {{ inventory_hostname }}"), {"ansible.builtin.fail": {"msg": "failed"}}],
                    "always": [FREE],
                }
            ],
            **play,
        }
        (self.root / "inventory.yml").write_text(yaml.safe_dump(inventory, sort_keys=False))
        (self.root / "play.yml").write_text(yaml.safe_dump([written], sort_keys=False))
        return subprocess.Popen(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                "-i",
                "inventory.yml",
                "play.yml",
                *["--check"] * check,
            ],
            cwd=self.root,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_HOME": str(self.root / "home"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_SSH_RETRIES": "0",
                "LC_ALL": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *tasks: dict[str, Any], check: bool = False, **play: Any) -> tuple[int, str]:
        """Run it to its end; return its status and what it said, in one line."""
        started = self.start(*tasks, check=check, **play)
        output, _errors = started.communicate(timeout=120)
        return started.returncode, " ".join(output.split())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_holds_the_fleet_for_a_play_and_its_batches(site: Site) -> None:
    copies = program(f"cat {site.root}/lb1.json >> {site.root}/seen; cat {site.root}/lb2.json >> {site.root}/seen")
    started = site.start(HOLD, HOLD, copies, serial=1)
    output, _errors = started.communicate(timeout=120)
    assert started.returncode == 0, output
    seen = [json.loads(text) for text in (site.root / "seen").read_text().replace("}\n{", "}\0{").split("\0")]
    assert len(seen) == 4
    assert {lease["id"] for lease in seen} == {seen[0]["id"]}, "one run, whatever the batch"
    assert {lease["purpose"] for lease in seen} == {"deploy"}
    assert seen[0]["control"]["process"] == started.pid, "the playbook's process, and no worker"
    assert (site.lease("lb1"), site.lease("lb2")) == (None, None)
    recap = output.partition("PLAY RECAP")[2]
    assert re.findall(r"changed=(\d+)", recap) == ["0", "0"], "a lock is no change of a host"
    assert asked(output, "Take it") == [["lb1", "lb2"]] * 4, "in this order"
    assert asked(output, "End the lease") == [["lb2", "lb1"]] * 2, "whoever gets the first one finds the others free"


def test_gets_all_balancers_or_none(site: Site) -> None:
    site.held_by_another("lb2")
    status, output = site.run(HOLD, say("work"))
    assert status != 0
    assert "lb2: the fleet is being changed: patch 20260101T000000Z-bbbbbb by bob@other" in output
    assert f"-e fleet_lock_take_over={ANOTHERS['id']}" in output
    assert site.lease("lb1") is None, "what was taken before is let go of"
    assert site.lease("lb2") == ANOTHERS
    assert '"msg": "work"' not in output
    assert "undone on app1" in output
    assert "undone on app2" in output, "it is refused for all hosts of the play"


def test_asks_no_further_once_refused(site: Site) -> None:
    site.held_by_another("lb1")
    status, _output = site.run(HOLD)
    assert status != 0
    assert not (site.root / "lb2.json.lock").exists()
    assert site.lease("lb1") == ANOTHERS


def test_takes_over_what_the_operator_says(site: Site) -> None:
    site.held_by_another("lb2")
    status, output = site.run(HOLD, say("work"), vars={"fleet_lock_take_over": ANOTHERS["id"]})
    assert status == 0, output
    assert "took over the fleet's lease (as take_over asks for)" in output
    assert site.lease("lb2") is None


def test_a_balancer_that_cannot_be_reached_is_named(site: Site) -> None:
    site.balancers["lb1"] = DOWN
    status, output = site.run(HOLD, program(f"cp {site.root}/lb2.json {site.root}/seen"), say("work"))
    assert status == 0, output
    assert "Warning: lb1 cannot be reached, so the fleet is held on lb2 only" in output
    assert "could not be ended on lb1" in output
    assert (site.root / "seen").exists()
    assert site.lease("lb2") is None


def test_without_any_balancer_nothing_begins(site: Site) -> None:
    site.balancers = {"lb1": DOWN, "lb2": DOWN}
    status, output = site.run(HOLD, say("work"))
    assert status != 0
    assert "None of the balancers (lb1, lb2) can be reached" in output
    assert '"msg": "work"' not in output


def test_without_balancers_there_is_no_fleet(site: Site) -> None:
    site.balancers = {}
    status, output = site.run(HOLD, say("work"))
    assert status == 0, output
    assert '"msg": "work"' in output


def test_a_run_that_lost_it_does_not_take_it_anew(site: Site) -> None:
    status, output = site.run(HOLD, program(f"rm {site.root}/lb2.json"), HOLD, say("work"))
    assert status != 0
    assert "lb2: this run" in output
    assert "has lost the fleet's lease, and nobody holds it now" in output
    assert '"msg": "work"' not in output
    assert (site.lease("lb1"), site.lease("lb2")) == (None, None), "the end of the play frees what is left of it"


def test_what_a_killed_run_left_is_taken_over(site: Site) -> None:
    ready = site.root / "ready"
    os.mkfifo(ready)
    killed = site.start(HOLD, program(f"echo > {ready}; sleep 60"))
    try:
        # Opening it waits until the play is at work.
        ready.read_text()
        lease = site.lease("lb1")
        assert lease is not None
        status, output = site.run(HOLD)
        assert status != 0, "it is alive"
        assert f"{lease['id']} by" in output
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
    assert site.lease("lb1") == lease
    status, output = site.run(HOLD)
    assert status == 0, output
    assert "took over the fleet's lease (its process is gone)" in output
    assert site.lease("lb1") is None


def test_check_mode_takes_nothing(site: Site) -> None:
    status, output = site.run(HOLD, HOLD, check=True)
    assert status == 0, output
    assert list(site.root.glob("lb*")) == []
    site.held_by_another("lb1")
    assert site.run(HOLD, check=True)[0] != 0, "refused as it would be"
