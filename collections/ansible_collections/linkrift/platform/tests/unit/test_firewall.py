"""Rules in ufw's words, and what has to change."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._firewall import (
    FirewallError,
    compare,
    parse_added,
    parse_rules,
    parse_settings,
)

ADDED = """\
Added user rules (see 'ufw status' for running firewall):
ufw allow 22/tcp comment 'ssh'
ufw allow from 192.0.2.11 to any port 8080,8180 proto tcp comment 'api'
ufw allow from 10.0.0.0/8 to any port 80,443 proto tcp
ufw allow from 2001:db8::21 to any port 5432 proto tcp comment 'post gres'
"""


def rule(name: str, ports: list[int], *sources: str) -> dict[str, Any]:
    return {"name": name, "ports": ports, "sources": list(sources)}


SAME = [
    rule("ssh", [22], "any"),
    rule("api", [8180, 8080], "192.0.2.11"),
    rule("web", [443, 80, 80], "10.1.2.3/8"),
    rule("post gres", [5432], "2001:0db8:0::21"),
]


def test_what_is_there_already_stays_but_for_its_comment() -> None:
    to_add, to_delete = compare(parse_rules(SAME), parse_added(ADDED))
    assert [added.line for added in to_add] == ["allow from 10.0.0.0/8 to any port 80,443 proto tcp comment 'web'"]
    assert to_delete == []


def test_what_is_not_listed_is_deleted() -> None:
    to_add, to_delete = compare(parse_rules(SAME[:3]), [*parse_added(ADDED), "deny 25/tcp"])
    assert to_delete == ["allow from 2001:db8::21 to any port 5432 proto tcp", "deny 25/tcp"]
    assert len(to_add) == 1


def test_nothing_was_added_yet() -> None:
    assert parse_added("Added user rules (see 'ufw status' for running firewall):\n(None)\n") == []


def test_a_rule_for_each_source_and_once_only() -> None:
    rules = parse_rules([rule("a", [1], "192.0.2.1", "192.0.2.2"), rule("b", [1], "192.0.2.1/32"), rule("none", [2])])
    assert [found.source for found in rules] == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (rule("it's", [1], "any"), "rule 'it's': a name has"),
        (rule("x", [], "any"), "ports are numbers from 1 to 65535"),
        (rule("x", [70000], "any"), "ports are numbers from 1 to 65535"),
        (rule("x", [1], "app1"), "neither an address nor a network"),
        (rule("x", [1], "0.0.0.0/0"), "say 'any' for both"),
        (rule("x", [1], "192.0.2.1") | {"protocol": "vrrp"}, "vrrp has no ports"),
        (rule("x", [], "any") | {"protocol": "vrrp"}, "comes from hosts that are known"),
    ],
)
def test_a_rule_that_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FirewallError) as caught:
        parse_rules([wrong])
    assert complaint in str(caught.value)


def test_balancers_hear_each_other() -> None:
    vrrp = {"name": "shared address", "protocol": "vrrp", "ports": [], "sources": ["192.0.2.12", "2001:db8::12"]}
    there = "allow from 192.0.2.12 proto vrrp comment 'shared address'"
    to_add, to_delete = compare(parse_rules([*SAME, vrrp]), [*parse_added(ADDED), there])
    assert "allow from 2001:db8::12 proto vrrp comment 'shared address'" in [added.line for added in to_add]
    assert there not in [added.line for added in to_add]
    assert to_delete == []


def test_settings_are_read() -> None:
    text = '# IPV6=no\nIPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\n\nnonsense\n'
    assert parse_settings(text) == {"IPV6": "yes", "DEFAULT_INPUT_POLICY": "drop"}
