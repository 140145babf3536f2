"""A host is removed: everybody who can be reached forgets it, and who cannot is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tools.lab import ROOT
from tools.testing.ansible_site import DOWN, Site, say

PLAYBOOK = ROOT / "playbooks/remove_host.yml"
ROLES = ROOT / "collections/ansible_collections/linkrift/platform/roles"
FORGETTING = ("base", "postgresql", "clickhouse", "haproxy")
STOPPED = "print('{\"changed\": true}')\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.groups = {"api_hosts": ["app1", "app2"], "postgresql_hosts": ["data1"], "data_hosts": ["data1"]}
    made.variables = {"ansible_become": False}
    made.options = ["-e", "host=app2", "-e", f"remove_known_hosts={tmp_path}/known_hosts"]
    made.replace(
        {
            **{
                name: [say(f"{{{{ inventory_hostname }}}} forgets {{{{ linkrift_leaving_hosts[0] }}}} in {name}")]
                for name in FORGETTING
            },
            **{name: [say(name)] for name in ("drain", "fleet_lock")},
        },
        {"slot": STOPPED},
    )
    return made


def test_everybody_who_can_be_reached_forgets_it_and_who_cannot_is_named(site: Site) -> None:
    site.balancers["lb1"] = DOWN
    status, output = site.run_playbook(PLAYBOOK)
    assert status == 4, output
    told = [(host, "base") for host in ("app1", "data1", "lb2")] + [("data1", "postgresql"), ("lb2", "haproxy")]
    for host, role in told:
        assert f"SAID {host} forgets app2 in {role}" in output
    assert "SAID app2 forgets" not in output
    assert "in clickhouse" not in output, "nobody has that"
    assert "app2 is out: all but lb1 have forgotten it." in output
    assert "the playbook site has them forget it" in output


@pytest.mark.parametrize("role", FORGETTING)
def test_what_names_who_leaves_is_brought_up_to_date(role: str) -> None:
    """What a role writes with the leaving hosts left out is in what its entry point `neighbours` comes to."""

    def imported(name: str) -> str:
        text = (ROLES / role / "tasks" / name).read_text()
        files = [task.get("ansible.builtin.import_tasks") for task in yaml.safe_load(text)]
        return text + "".join(imported(file) for file in files if file)

    reached = imported("neighbours.yml")
    sources = [*(ROLES / role / "templates").glob("*.j2")]
    named = [path.name for path in sources if "linkrift_leaving_hosts" in path.read_text()]
    variables = (ROLES / role / "vars/main.yml").read_text()
    for name in named:
        assert name in reached + variables, name
