"""Hosts join the rotation, and the fleet record is kept, also while a balancer is down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.testing.ansible_site import DOWN, Site, role, say

ID = "1.4.0+3f9c2a71b0de"
SLOTS = {host: {"api": {"slot": "blue", "release": ID}} for host in ("app1", "app2")}
ENTRY = {"release": ID, "since": "2026-01-31T12:00:00Z", "by": "alice"}
LOOK, JOIN, NOTE = (role("join", entry, join_slots=SLOTS) for entry in ("look", "main", "note"))
EVERYTHING = [LOOK, say("records {{ join_records | length }} lost {{ join_lost | join(',') }}"), JOIN, NOTE]
# Lost as soon as somebody has read its record.
LOST = {**DOWN, "ansible_connection": "{{ hostvars.app1.__join_read is defined | ternary('ssh', 'local') }}"}
ROTATION = """
import json, pathlib, sys
words = json.loads(pathlib.Path(sys.argv[1]).read_text())
place = pathlib.Path(words["path"])
with place.with_name("told").open("a") as told:
    told.write(f"{place.stem} {[change['host'] for change in words['changes']]}\\n")
broken = place.with_suffix(".broken").exists()
print(json.dumps({"failed": True, "msg": "no check passed"} if broken else {"changed": True, "running": True}))
"""


class Joining(Site):
    """Each balancer with a record and a backends file of its own; who was told of which host is in a file."""

    def __init__(self, root: Path) -> None:
        """Have them all up, and none know app1's slot, which serves."""
        super().__init__(root)
        self.replace({}, {"rotation": ROTATION})
        own = {"path": f"{root}/{{{{ item }}}}.cfg"}
        self.defaults = {
            "linkrift.platform.fleet_record": {"path": f"{root}/{{{{ item }}}}.json"},
            # None of them runs HAProxy: what their files say is what there is.
            "linkrift.platform.rotation_info": {**own, "admin_socket": f"{root}/none", "master_socket": ""},
            "linkrift.platform.rotation": own,
        }
        for name in self.balancers:
            (root / f"{name}.cfg").write_text(self.backends.read_text().rstrip() + " disabled\n")
            self.note(name, {"api": ENTRY})

    def note(self, balancer: str, services: dict[str, Any]) -> None:
        """Write a balancer's record."""
        (self.root / f"{balancer}.json").write_text(json.dumps({"format": 1, "services": services}))

    def noted(self, balancer: str) -> dict[str, Any]:
        """Return the services of its record."""
        services: dict[str, Any] = json.loads((self.root / f"{balancer}.json").read_text())["services"]
        return services

    def told(self) -> list[str]:
        """Return who was told of which hosts, in order."""
        file = self.root / "told"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def site(tmp_path: Path) -> Joining:
    return Joining(tmp_path)


def test_each_balancer_is_asked_and_told_once(site: Joining) -> None:
    site.note("lb2", {})
    status, output = site.run(*EVERYTHING, hosts="app_hosts")
    assert status == 0, output
    assert output.count('SAID records 2 lost "') == 2, "all hosts know it"
    assert site.told() == ["lb1 ['app1']", "lb2 ['app1']"], "once, in order, and of who is not in only"
    assert site.noted("lb1") == {"api": ENTRY}
    assert site.noted("lb2")["api"]["release"] == ID
    assert "Warning" not in output


def test_one_that_is_down_is_named_and_the_others_have_it_all(site: Joining) -> None:
    site.balancers["lb1"] = DOWN
    site.note("lb2", {})
    status, output = site.run(*EVERYTHING, hosts="app_hosts")
    assert status == 0, output
    assert output.count("SAID records 1 lost lb1") == 2
    assert site.told() == ["lb2 ['app1']"]
    assert site.noted("lb2")["api"]["release"] == ID
    assert "Warning: lb1 cannot be reached: what this run changed is not there." in output
    assert output.count("SAID went on with app") == 2
    assert output.count("UNREACHABLE") == 1, "and is not waited for again"


def test_one_that_is_lost_on_the_way_is_named(site: Joining) -> None:
    site.balancers["lb2"] = LOST
    status, output = site.run(*EVERYTHING, hosts="app_hosts")
    assert status == 0, output
    assert site.told() == ["lb1 ['app1']"]
    assert "Warning: lb2 cannot be reached" in output


def test_without_any_balancer_nobody_knows_what_the_fleet_runs(site: Joining) -> None:
    site.balancers = {"lb1": DOWN, "lb2": DOWN}
    _status, output = site.run(LOOK, hosts="app_hosts")
    assert output.count("SAID undone") == 2
    assert "None of the balancers (lb1, lb2) can be reached, so nobody knows what the fleet runs" in output
    assert "SAID went on" not in output


def test_one_that_answers_and_cannot_do_it_is_a_failure_of_all_hosts(site: Joining) -> None:
    (site.root / "lb1.broken").touch()
    _status, output = site.run(*EVERYTHING, hosts="app_hosts")
    assert output.count("SAID undone") == 2
    assert "lb1: no check passed" in output
    assert site.told() == ["lb1 ['app1']"], "and the next one is not told"
    assert "SAID went on" not in output
