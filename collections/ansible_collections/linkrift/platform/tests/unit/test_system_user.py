"""Module system_user: a user that runs services and can do nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._system_user import (
    Account,
    may_use_sudo,
    plan,
    read_account,
    sudoers_changes,
    without_user,
)

NAMES = ["svc", "%svc", "#998"]
GOOD = Account(998, "svc", "/var/lib/svc", "/usr/sbin/nologin", "Services", (), locked=True)


def host(root: Path, *, shell: str = "/usr/sbin/nologin", groups: str = "", password: str = "!") -> Path:
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text(f"root:x:0:0:root:/root:/bin/bash\nsvc:x:998:997:Services:/var/lib/svc:{shell}\n")
    (root / "etc/group").write_text(f"root:x:0:\nsvc:x:997:\nsudo:x:27:{groups}\nadm:x:4:syslog\n")
    (root / "etc/shadow").write_text(f"root:*:1:0:::::\nsvc:{password}:1::::::\n")
    return root


def test_a_user_as_it_should_be_needs_nothing(tmp_path: Path) -> None:
    account = read_account("svc", host(tmp_path))
    assert account == GOOD
    assert plan("svc", "/var/lib/svc", "Services", account, has_group=True).commands == []
    assert read_account("nobody-else", tmp_path) is None


def test_a_user_that_is_missing_is_made() -> None:
    todo = plan("svc", "/var/lib/svc", "Services", None, has_group=False)
    assert [command[0] for command in todo.commands] == ["groupadd", "useradd"]
    assert "/usr/sbin/nologin" in todo.commands[1]
    assert todo.mends == ["group svc made", "user svc made"]


def test_what_somebody_gave_is_taken_away(tmp_path: Path) -> None:
    account = read_account("svc", host(tmp_path, shell="/bin/bash", groups="alice,svc", password="$6$hash"))
    todo = plan("svc", "/srv", "Services", account, has_group=True)
    assert todo.commands == [
        ["usermod", "--groups", "", "svc"],
        ["usermod", "--shell", "/usr/sbin/nologin", "svc"],
        ["usermod", "--lock", "svc"],
        ["usermod", "--home", "/srv", "--comment", "Services", "svc"],
    ]
    assert todo.mends[0] == "taken out of groups sudo"


@pytest.mark.parametrize(
    ("rule", "rest"),
    [
        ("svc ALL=(ALL) NOPASSWD: ALL\n", ""),
        ("%svc ALL = ALL\n", ""),
        ("#998 ALL=ALL\n", ""),
        ("  svc\tALL=(ALL) \\\n  NOPASSWD: ALL\n", ""),
        ("alice, svc ALL=ALL\n", "alice ALL=ALL\n"),
        ("alice,svc,bob ALL=ALL\n", "alice, bob ALL=ALL\n"),
    ],
)
def test_rules_for_the_user_go(rule: str, rest: str) -> None:
    others = "# svc ALL=ALL was here\nDefaults:svc !requiretty\nalice ALL=(svc) ALL\nsvcx ALL=ALL\n"
    assert without_user(others + rule, NAMES) == others + rest


def test_files_of_sudo(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("# for a test\nsvc ALL=ALL\n")
    (tmp_path / "shared").write_text("alice ALL=ALL\nsvc ALL=ALL\n")
    (tmp_path / "ops").write_text("ops ALL=(ALL) NOPASSWD: ALL\n")
    (tmp_path / "passed.over").write_text("svc ALL=ALL\n")
    assert sudoers_changes(tmp_path, NAMES) == {tmp_path / "mine": "", tmp_path / "shared": "alice ALL=ALL\n"}
    assert sudoers_changes(tmp_path / "missing", NAMES) == {}


def test_what_sudo_says() -> None:
    assert may_use_sudo("User svc may run the following commands on app1:\n    (ALL) ALL\n")
    assert not may_use_sudo("User svc is not allowed to run sudo on app1.\n")
