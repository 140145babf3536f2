# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A user that only runs services: what it may not have, and how that is taken away.

Nothing here knows about Ansible. Files hang off a `root`, so that tests use a directory of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

NOLOGIN = "/usr/sbin/nologin"
_RULE = re.compile(r"^(?P<users>[^\s,]+(?:\s*,\s*[^\s,]+)*)(?P<rest>\s+[^=]+=.*)$", re.DOTALL)
_NO_RULE = re.compile(
    r"^\s*(?:Defaults|User_Alias|Runas_Alias|Host_Alias|Cmnd_Alias|Cmd_Alias|@include|#include|#(?!\d))"
)


class SystemUserError(Exception):
    """The user cannot be made what it should be; the message says what is in the way."""


@dataclass(frozen=True)
class Account:
    """What the user databases say of a user."""

    uid: int
    primary: str
    home: str
    login_shell: str
    comment: str
    supplementary: tuple[str, ...]
    locked: bool


@dataclass
class Plan:
    """Commands that make the user what it should be, and what they mend, in words."""

    commands: list[list[str]] = field(default_factory=list)
    mends: list[str] = field(default_factory=list)

    def add(self, command: Sequence[str], mend: str) -> None:
        """Add a step."""
        self.commands.append(list(command))
        self.mends.append(mend)


def read_account(name: str, root: Path = Path("/")) -> Account | None:
    """Return a user of the host's own files, None when there is none."""
    users = _table(root / "etc/passwd")
    if name not in users:
        return None
    _password, uid, gid, comment, home, shell = users[name][:6]
    groups = _table(root / "etc/group")
    primary = next((group for group, fields in groups.items() if fields[1] == gid), gid)
    return Account(
        uid=int(uid),
        primary=primary,
        home=home,
        login_shell=shell,
        comment=comment,
        supplementary=tuple(
            group for group, fields in groups.items() if name in fields[2].split(",") and group != primary
        ),
        locked=_table(root / "etc/shadow").get(name, ["!"])[0].startswith(("!", "*")),
    )


def _table(path: Path) -> dict[str, list[str]]:
    """Return a file of colon separated fields by the first field."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return {fields[0]: fields[1:] for fields in (line.split(":") for line in lines) if len(fields) > 2}


def plan(name: str, home: str, comment: str, account: Account | None, *, has_group: bool) -> Plan:
    """Return what makes a user one that can run services and nothing else."""
    todo = Plan()
    if not has_group:
        todo.add(["groupadd", "--system", name], f"group {name} made")
    if account is None:
        todo.add(
            [
                *("useradd", "--system", "--gid", name, "--home-dir", home, "--no-create-home"),
                *("--shell", NOLOGIN, "--comment", comment, name),
            ],
            f"user {name} made",
        )
        return todo
    if account.primary != name:
        todo.add(["usermod", "--gid", name, name], f"primary group {account.primary} -> {name}")
    if account.supplementary:
        todo.add(["usermod", "--groups", "", name], f"taken out of groups {', '.join(account.supplementary)}")
    if account.login_shell != NOLOGIN:
        todo.add(["usermod", "--shell", NOLOGIN, name], f"shell {account.login_shell} taken away")
    if not account.locked:
        todo.add(["usermod", "--lock", name], "password locked")
    if (account.home, account.comment) != (home, comment):
        todo.add(["usermod", "--home", home, "--comment", comment, name], "home and comment set")
    return todo


# -- sudo ------------------------------------------------------------------------------------------------------------


def without_user(text: str, names: Sequence[str]) -> str:
    """Return a sudoers file without what it allows some users.

    A rule for them alone goes; out of a rule for several they are taken. Comments, defaults and aliases stay.

    Args:
        text: the file.
        names: the user's names in it: its name, `#uid`, `%group`.
    """
    kept: list[str] = []
    for rule in _logical_lines(text):
        found = None if _NO_RULE.match(rule) else _RULE.match(rule.lstrip())
        users = [user.strip() for user in found["users"].split(",")] if found else []
        others = [user for user in users if user not in names]
        if found is None or others == users:
            kept.append(rule)
        elif others:
            kept.append(", ".join(others) + found["rest"])
    return "".join(kept)


def _logical_lines(text: str) -> list[str]:
    """Return lines with their line ends, those that go on in the next one joined to it."""
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        if lines and lines[-1].endswith("\\\n"):
            lines[-1] += line
        else:
            lines.append(line)
    return lines


def sudoers_changes(directory: Path, names: Sequence[str]) -> dict[Path, str]:
    """Return the new texts of the files in sudoers.d that allow a user something; an empty text means no file."""
    changes: dict[Path, str] = {}
    if not directory.is_dir():
        return changes
    for path in sorted(directory.iterdir()):
        # sudo itself passes over names with a dot or a tilde.
        if not path.is_file() or "." in path.name or path.name.endswith("~"):
            continue
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        rest = without_user(text, names)
        if rest != text:
            says = any(line.strip() and not line.lstrip().startswith("#") for line in rest.splitlines())
            changes[path] = rest if says else ""
    return changes


def may_use_sudo(listing: str) -> bool:
    """Tell from what `sudo -l -U` says whether a user may run anything."""
    return "may run the following" in listing
