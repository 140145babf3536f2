"""Where a module's SSH connection comes from, and which operators' addresses are remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._connection import (
    Connection,
    find_connection,
    operators,
    recorded_operators,
)


def process(proc: Path, pid: int, parent: int, environment: bytes) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "environ").write_bytes(environment)
    (proc / str(pid) / "stat").write_text(f"{pid} (a (odd) name) S {parent} 1 1")


def test_sudo_hides_the_connection_but_its_parents_have_it(tmp_path: Path) -> None:
    process(tmp_path, 30, 20, b"PATH=/bin\0")
    process(tmp_path, 20, 10, b"HOME=/\0SSH_CONNECTION=198.51.100.7 50123 192.0.2.1 2222\0")
    assert find_connection(30, tmp_path) == Connection("198.51.100.7", 50123, 2222)


def test_a_link_local_address_loses_its_zone(tmp_path: Path) -> None:
    process(tmp_path, 30, 1, b"SSH_CONNECTION=fe80::1%eth0 1 fe80::2%eth0 22\0")
    assert find_connection(30, tmp_path) == Connection("fe80::1", 1, 22)


@pytest.mark.parametrize("environment", [b"", b"SSH_CONNECTION=\0", b"MY_SSH_CONNECTION=1 2 3 4\0"])
def test_a_local_connection_is_none(tmp_path: Path, environment: bytes) -> None:
    process(tmp_path, 30, 1, environment)
    assert find_connection(30, tmp_path) is None
    assert find_connection(31, tmp_path) is None


def test_what_an_earlier_run_wrote() -> None:
    assert recorded_operators("[DEFAULT]\nlinkrift_operators = 192.0.2.9 2001:db8::9\nignoreip = 1\n") == [
        "192.0.2.9",
        "2001:db8::9",
    ]
    assert recorded_operators("[DEFAULT]\nlinkrift_operators =\nignoreip = 1\n") == []
    assert recorded_operators("") == []


def test_two_control_nodes_in_turn_change_nothing() -> None:
    first = operators([], "192.0.2.9", [], 8)
    both = operators(first, "192.0.2.8", [], 8)
    assert both == ["192.0.2.9", "192.0.2.8"]
    assert operators(both, "192.0.2.9", [], 8) == both
    assert operators(both, "192.0.2.8", [], 8) == both


def test_what_others_cover_is_not_remembered() -> None:
    known = ["127.0.0.0/8", "198.51.100.0/24", "2001:db8::1"]
    assert operators(["198.51.100.3"], "198.51.100.7", known, 8) == []
    assert operators([], "2001:db8::2", known, 8) == ["2001:db8::2"]
    assert operators([], None, known, 8) == []


def test_the_oldest_go() -> None:
    recorded = [f"192.0.2.{number}" for number in range(1, 9)]
    assert operators(recorded, "192.0.2.100", [], 8) == [*recorded[1:], "192.0.2.100"]
    assert operators(recorded, "192.0.2.100", [], 100) == [*recorded, "192.0.2.100"]


def test_with_a_limit_of_0_nobody_is_remembered() -> None:
    assert operators(["192.0.2.1", "192.0.2.2"], "192.0.2.3", [], 0) == []
