"""Whoever made a lab reaches its hosts, and only them, by keys that are checked."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.module_utils.linkrift_lab import access
from ansible.module_utils.linkrift_lab.errors import LabError
from ansible.module_utils.linkrift_lab.plan import HostSpec, Lab, host_specs

TEMPLATE = Path(__file__).resolve().parents[2] / "inventories/lab/hosts.yml"
APP = HostSpec("app1", "bookworm", 21, ("api_hosts",), {"own": 1})


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(7, "demo", tmp_path / ".lab" / "demo", tmp_path / "base")


def test_the_labs_inventory_is_the_pattern_for_all() -> None:
    known, children = access.template(TEMPLATE)
    specs = {spec.name: spec for spec in host_specs([], known)}
    assert list(specs) == ["lb1", "lb2", "app1", "app2", "app3", "data1", "ops1", "client1"]
    assert specs["app3"].suite == "trixie"
    assert {spec.suite for name, spec in specs.items() if name != "app3"} == {"bookworm"}
    assert {"api_hosts", "redirect_hosts", "worker_hosts"} <= set(specs["app2"].groups)
    assert {"postgresql_hosts", "redis_hosts", "clickhouse_hosts"} <= set(specs["data1"].groups)
    assert sorted(children["app_hosts"]) == ["api_hosts", "redirect_hosts", "worker_hosts"]


@pytest.mark.parametrize("content", ["", "[]", "other: {}", "{"])
def test_a_file_that_is_no_inventory_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(content)
    with pytest.raises(LabError, match=r"hosts\.yml"):
        access.template(tmp_path / "hosts.yml")


def test_an_inventory_has_the_groups_of_its_hosts_and_their_parents_only(lab: Lab) -> None:
    children = {"app_hosts": ["api_hosts", "worker_hosts"], "all_apps": ["app_hosts"], "data_hosts": ["redis_hosts"]}
    groups = access.inventory(lab, [APP], children)["all"]["children"]
    assert groups == {
        "api_hosts": {"hosts": {"app1": {}}},
        "app_hosts": {"children": {"api_hosts": {}}},
        "all_apps": {"children": {"app_hosts": {}}},
    }


def test_a_host_has_its_own_variables_and_the_labs(lab: Lab) -> None:
    variables = access.inventory(lab, [APP], {})["all"]["hosts"]["app1"]
    assert variables["ansible_host"] == variables["linkrift_address"] == "198.18.7.21"
    assert variables["linkrift_address6"] == "fd6c:696e:6b72:7::21"
    assert variables["lab_dir"] == str(lab.directory)
    assert variables["own"] == 1


def test_control_sockets_stay_where_ssh_can_have_them(lab: Lab) -> None:
    deep = Lab(7, "demo", Path("/" + "x" * 80))
    assert "ansible_control_path_dir" not in access.host_variables(deep, APP)
    near = Lab(7, "demo", Path("/lab"))
    assert access.host_variables(near, APP)["ansible_control_path_dir"] == "/lab/cp"


def test_host_keys_are_known_by_name_and_address(lab: Lab) -> None:
    line = access.known_hosts(lab, [APP], {"app1": "ssh-ed25519 AAAA app1 198.18.7.21"})
    assert line == "app1,198.18.7.21,fd6c:696e:6b72:7::21 ssh-ed25519 AAAA\n"


def test_ssh_checks_host_keys_of_the_lab(lab: Lab) -> None:
    settings = access.ssh_config(lab, [APP])
    assert "Host app1 198.18.7.21 fd6c:696e:6b72:7::21\n" in settings
    assert "StrictHostKeyChecking yes" in settings
    assert f'UserKnownHostsFile "{lab.directory}/known_hosts"' in settings


def test_a_key_is_made_once_and_for_its_owner(lab: Lab) -> None:
    key = access.authorized_key(lab)
    assert key.startswith("ssh-ed25519 ")
    assert access.authorized_key(lab) == key
    assert (lab.directory / "id_ed25519").stat().st_mode & 0o777 == 0o600
    assert lab.directory.stat().st_mode & 0o777 == 0o700


def test_a_key_that_was_half_made_is_made_again(lab: Lab) -> None:
    access.authorized_key(lab)
    (lab.directory / "id_ed25519.pub").unlink()
    assert access.authorized_key(lab).startswith("ssh-ed25519 ")


def test_writes_what_a_user_needs_and_takes_it_away_again(lab: Lab, tmp_path: Path) -> None:
    access.authorized_key(lab)
    shared = tmp_path / "inventories"
    access.write(lab, [APP], {}, {"app1": "ssh-ed25519 AAAA x"}, shared)
    access.write(lab, [APP], {}, {"app1": "ssh-ed25519 AAAA x"}, shared)
    inventory = lab.directory / "inventory"
    assert yaml.safe_load((inventory / "hosts.yml").read_text())["all"]["hosts"]["app1"]["ansible_user"] == "ops"
    assert (inventory / "group_vars").readlink() == shared / "group_vars"

    access.forget(lab)
    assert sorted(path.name for path in lab.directory.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
    access.forget(lab)
