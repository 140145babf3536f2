"""What role base promises, seen from the hosts."""

from __future__ import annotations

import pytest

from tools.testing.lab_hosts import ALL_HOSTS, APP_HOSTS, get_host, variables


@pytest.mark.parametrize("name", ALL_HOSTS)
def test_the_system_user_can_neither_log_in_nor_become_root(name: str) -> None:
    host = get_host(name)
    user = host.user("linkrift")
    assert user.shell in {"/usr/sbin/nologin", "/bin/false"}
    assert host.run("sudo -l -U linkrift").stdout.count("not allowed") == 1


@pytest.mark.parametrize("name", ALL_HOSTS)
def test_the_firewall_denies_by_default(name: str) -> None:
    status = get_host(name).check_output("ufw status verbose")
    assert "Status: active" in status
    assert "Default: deny (incoming)" in status


@pytest.mark.parametrize("name", ALL_HOSTS)
def test_logs_are_rotated_as_they_will_be_tonight(name: str) -> None:
    assert get_host(name).check_output("systemctl start logrotate.service") == ""


@pytest.mark.parametrize("name", ALL_HOSTS)
def test_no_unit_failed(name: str) -> None:
    assert get_host(name).check_output("systemctl list-units --state=failed --plain --no-legend") == ""


@pytest.mark.parametrize("name", APP_HOSTS)
@pytest.mark.parametrize(
    ("alias", "target"), [("db", "data1"), ("redis", "data1"), ("clickhouse", "data1"), ("bundles", "ops1")]
)
def test_internal_names_resolve(name: str, alias: str, target: str) -> None:
    domain = variables(name)["linkrift_internal_domain"]
    found = get_host(name).check_output("getent ahosts %s", f"{alias}.{domain}")
    assert variables(target)["linkrift_address"] in found
    assert variables(target)["linkrift_address6"] in found
