"""What role haproxy makes of what it found on a balancer: rendered as Ansible does."""

from __future__ import annotations

from typing import Any

import pytest

from tools.testing.templating import ROOT, load, render, role_variables

NOTED = """\
# renew_before_expiry = 30 days
version = 2.1.0
archive_dir = /etc/letsencrypt/archive/linkrift

# Options used in the renewal process
[renewalparams]
account = 6d1c8ae1f7d0cfb9b4a2f1c5a1e0a7c3
http01_port = 8402
server = https://acme.example.net/directory
"""


def haproxy(**more: Any) -> dict[str, Any]:
    """Return the role's variables, with others on top."""
    return {**role_variables("haproxy"), "haproxy_acme_directory": "https://acme.example.net/directory", **more}


@pytest.mark.parametrize(
    ("note", "given", "moved"),
    [
        (NOTED, {}, False),
        ("", {}, False),
        ('server = "https://acme.example.net/a,b"', {"haproxy_acme_directory": "https://acme.example.net/a,b"}, False),
        (NOTED, {"haproxy_acme_directory": "https://other.example.net/directory"}, True),
        (NOTED, {"haproxy_acme_port": 8500}, True),
        (NOTED, {"haproxy_acme_port": "8402"}, False),
        (NOTED.replace("http01_port = 8402\n", ""), {"haproxy_acme_port": 8500}, False),
    ],
)
def test_another_acme_server_or_port_is_noticed(note: str, given: dict[str, Any], moved: bool) -> None:
    variables = haproxy(**given, __haproxy_acme_before={"stdout": note.rstrip()})
    assert render("{{ __haproxy_acme_moved }}", variables) is moved


@pytest.mark.parametrize(
    ("stdout", "bare"),
    [
        ("Inst rsyslog (8.2302.0-1 Debian:12 [amd64])\nConf rsyslog (8.2302.0-1)", False),
        ("Inst haproxy [2.6.1-1] (2.6.12-1 Debian:12 [amd64])", False),
        ("Inst liblua5.3-0 (5.3.6)\nInst haproxy (2.6.12-1 Debian:12 [amd64])", True),
    ],
)
def test_a_host_is_bare_without_haproxy_only(stdout: str, bare: bool) -> None:
    package = {"changed": True, "stdout": stdout}
    variables = haproxy(ansible_check_mode=True, __haproxy_package=package)
    assert render("{{ [__haproxy_bare, __haproxy_incomplete] }}", variables) == [bare, True]
    assert render("{{ [__haproxy_bare, __haproxy_incomplete] }}", {**variables, "ansible_check_mode": False}) == [
        False,
        False,
    ]


LISTENS = {
    **load(ROOT / "playbooks/group_vars/all.yml"),
    "inventory_hostname": "lb1",
    "hostvars": {"lb1": {"linkrift_address": "198.18.1.11", "linkrift_address6": "fd00::11"}},
}


@pytest.mark.parametrize(
    ("binds", "expected"),
    [
        (None, ["198.18.1.11", "fd00::11"]),
        (["0.0.0.0"], ["198.18.1.11"]),
        (["203.0.113.5", "::"], ["203.0.113.5", "fd00::11"]),
        (["203.0.113.5"], ["203.0.113.5"]),
    ],
)
def test_a_balancer_asks_itself_where_it_listens(binds: list[str] | None, expected: list[str]) -> None:
    listens = LISTENS if binds is None else {**LISTENS, "haproxy_bind_addresses": binds}
    assert render("{{ haproxy_probe_addresses }}", listens) == expected
    assert render("{{ __haproxy_exempt_networks }}", {**role_variables("haproxy"), **listens}) == expected
