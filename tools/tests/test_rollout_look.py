"""Hosts and balancers are looked at in one task, as Ansible runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.testing.ansible_site import DOWN, Site
from tools.testing.templating import ROLES, render, role_variables

# Each says who it is, what it was given, and which interpreter ran it.
SAYS = """
import json, sys
given = json.load(open(sys.argv[1]))
given = {name: value for name, value in given.items() if not name.startswith("_ansible")}
print(json.dumps({"changed": False, "me": "%s", "given": given, "ran": sys.executable, "warnings": ["careful"]}))
"""
FAILS = """
import json
print(json.dumps({"failed": True, "msg": "nothing answers"}))
"""
SCHEMA = {"python": "/usr/bin/env", "host": "db", "password": "secret"}
SHOW = {"ansible.builtin.debug": {"msg": "SAID {{ inventory_hostname }} {{ seen | to_json }}"}}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def look(**arguments: Any) -> dict[str, Any]:
    return {"linkrift.platform.rollout_look": arguments, "register": "seen"}


WISH = {
    "services": "{{ ['api'] if inventory_hostname in groups['app_hosts'] else [] }}",
    "balancer": "{{ inventory_hostname == 'lb1' }}",
    "settle": 7,
}


def test_each_host_is_looked_at_for_what_it_is(site: Site) -> None:
    site.replace({}, {name: SAYS % name for name in ("release_info", "rotation_info", "pg_info")})
    schema = "{{ schema if inventory_hostname == 'app2' else {} }}"
    site.variables["schema"] = SCHEMA | {"python": "{{ ansible_python_interpreter }}"}
    status, output = site.run(look(**WISH, schema=schema), SHOW, hosts="app_hosts:balancers")
    assert status == 0, output
    said = output.replace('\\"', '"')
    assert '"slots": {"me": "release_info", "given": {"services": ["api"], "settle": 7.0}' in said.replace(
        '"changed": false, ', ""
    )
    assert '"rotation": {' in said
    assert said.count('"me": "pg_info"') == 1
    assert said.count('"me": "rotation_info"') == 1
    assert said.count('"me": "release_info"') == 2
    assert said.count('"looked": true') == 4, "lb2 is only asked whether it is there"
    assert '"given": {"host": "db", "password": "secret"}' in said


def test_what_is_down_or_fails_is_told_as_any_task_is(site: Site) -> None:
    site.replace({}, {"release_info": FAILS, "rotation_info": SAYS % "rotation_info"})
    site.balancers["lb2"] = DOWN
    status, output = site.run(look(**WISH), hosts="app_hosts:balancers")
    assert status != 0, output
    assert "nothing answers" in output
    assert "lb2 : ok=0 changed=0 unreachable=1" in " ".join(output.split())


def test_whoever_cannot_ask_postgresql_says_why(site: Site) -> None:
    site.replace({}, {"pg_info": FAILS})
    refuse = {"ansible.builtin.debug": {"msg": "SAID {{ seen.schema.msg }}"}}
    status, output = site.run(look(schema=SCHEMA | {"python": "/usr/bin/python3"}), refuse)
    assert status == 0, output
    assert "SAID nothing answers" in output


OLD, NEW = "1.0.0+000000000000", "1.1.0+111111111111"
IDLE = {"release": OLD, "state": "idle", "active": False, "admitted": False, "enabled": False}
LIVE = {"release": OLD, "state": "live", "active": True, "admitted": True, "enabled": True}
CANDIDATE = {**IDLE, "release": NEW, "state": "candidate", "active": True}
PLANNED = {"state": "move", "release": NEW, "drained": False, "back": {"slot": "blue", "release": OLD, "warm": True}}


def slots(green: dict[str, Any]) -> dict[str, Any]:
    """Return what is left on a host whose blue slot serves."""
    return {"slots": {"services": {"api": {"live": "blue", "current": OLD, "slots": {"blue": LIVE, "green": green}}}}}


def after_a_failure(left: dict[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return role rollout's variables on app1, once all have been looked at."""
    owner = {"localhost": {"fleet_lock_owner": {"id": "run", "by": "me"}}}
    hosts = {host: {"inventory_hostname": host, "rollout_alive": "run", "__rollout_left": left[host]} for host in left}
    plan = {"hosts": {"app1": {"api": PLANNED}, "app2": {"api": PLANNED}}}
    found = {"hostvars": {**owner, **hosts}, "ansible_play_hosts_all": list(left), "inventory_hostname": "app1"}
    return role_variables("rollout", rollout_plan=plan, __rollout_left=left["app1"], **found, **more)


@pytest.mark.parametrize(
    ("left", "untouched"),
    [
        ({"app1": slots(IDLE), "app2": slots(IDLE), "lb1": {"looked": True}}, True),
        ({"app1": slots(IDLE), "app2": slots(CANDIDATE), "lb1": {"looked": True}}, False),
        ({"app1": slots(IDLE), "app2": {"msg": "still at work"}, "lb1": {"looked": True}}, False),
        ({"app1": slots(IDLE)}, True),
    ],
    ids=["as it was", "a candidate is left", "cannot be looked at", "lost"],
)
def test_nothing_is_brought_back_only_where_all_that_answer_are_as_they_were(
    left: dict[str, dict[str, Any]], untouched: bool
) -> None:
    assert render("{{ __rollout_untouched | bool }}", after_a_failure(left)) is untouched


def test_a_host_that_cannot_be_looked_at_says_why_nothing_is_brought_back_there() -> None:
    variables = after_a_failure({"app1": {"msg": "still at work"}})
    with pytest.raises(RuntimeError, match="it cannot be looked at: still at work"):
        render("{{ __rollout_return }}", variables)


def failed(name: str) -> dict[str, Any]:
    return {"localhost": {}, "app1": {}, "app2": {"ansible_failed_task": {"name": name}}}


@pytest.mark.parametrize(
    ("task", "more", "back"),
    [
        ("Commit", {}, True),
        ("Commit", {"rollout_purpose": "emergency"}, False),
        ("Commit", {"ansible_check_mode": True}, False),
        ("fleet_lock : Refuse to go on without it", {}, False),
    ],
)
def test_who_goes_back_after_a_failure(task: str, more: dict[str, Any], back: bool) -> None:
    begun = {"rollout_started": 1.0, "ansible_check_mode": False, "ansible_play_hosts_all": ["app1", "app2"]}
    variables = role_variables("rollout", hostvars=failed(task), **{**begun, **more})
    assert render("{{ __rollout_goes_back | bool }}", variables) is back
    del variables["rollout_started"]
    assert render("{{ __rollout_goes_back | bool }}", variables) is False


@pytest.mark.parametrize(
    ("wish", "sense"),
    [
        ({}, True),
        ({"rollout_warm": "0"}, True),
        ({"rollout_warm": "soon"}, False),
        ({"rollout_warm": "-1"}, False),
        ({"rollout_stabilisation": "1m"}, False),
        ({"rollout_services": ["dns"]}, False),
        ({"rollout_strategy": "canary"}, False),
    ],
    ids=str,
)
def test_going_back_refuses_what_makes_no_sense_although_ansible_does_not_look(
    wish: dict[str, Any], sense: bool
) -> None:
    path = ROLES / "rollout/tasks/assert.yml"
    task = next(
        task
        for task in yaml.safe_load(path.read_text(encoding="utf-8"))
        if task["name"] == "Refuse what makes no sense"
    )
    here = {"groups": {"balancers": ["lb1"]}, "ansible_play_hosts_all": ["lb1"], "rollout_purpose": "rollback"}
    variables = role_variables("rollout", **{**here, **wish})
    found = [render(f"{{{{ {condition} }}}}", variables) for condition in task["ansible.builtin.assert"]["that"]]
    assert all(found) is sense
