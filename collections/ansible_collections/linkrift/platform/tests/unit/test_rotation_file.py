# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The backends file on disk: checked before it counts, replaced in one step, one writer at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._rotation_file import BackendsFile, BackendsFileError


class Program:
    """Stands for `haproxy -c`."""

    def __init__(self) -> None:
        self.answer = (0, "Configuration file is valid")
        self.commands: list[list[str]] = []
        self.texts: list[str] = []

    def __call__(self, command: Sequence[str]) -> tuple[int, str]:
        self.commands.append(list(command))
        self.texts.append(Path(command[-1]).read_text())
        return self.answer


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def file(tmp_path: Path, program: Program) -> BackendsFile:
    (tmp_path / "haproxy.cfg").write_text("global\n")
    return BackendsFile(
        path=tmp_path / "backends.cfg",
        main=tmp_path / "haproxy.cfg",
        executable="/usr/sbin/haproxy",
        group="",
        lock=tmp_path / "lock",
        run=program,
    )


def test_candidate_is_checked_with_the_main_configuration(file: BackendsFile, program: Program) -> None:
    assert file.read() is None
    file.replace("new\n")
    assert file.read() == "new\n"
    assert file.path.stat().st_mode & 0o777 == 0o640
    assert program.texts == ["new\n"]
    assert program.commands[0][:4] == ["/usr/sbin/haproxy", "-c", "-f", str(file.main)]
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["backends.cfg", "haproxy.cfg"]
    file.main.unlink()
    file.replace("newer\n")
    assert str(file.main) not in program.commands[1]


def test_what_was_checked_before_is_only_put_in_its_place(file: BackendsFile, program: Program) -> None:
    file.replace("old\n")
    file.prepare("new\n")
    assert file.read() == "old\n"
    file.replace("new\n", prepared=True)
    assert file.read() == "new\n"
    assert program.texts == ["old\n", "new\n"]
    file.prepare("newer\n")
    file.discard()
    file.discard()
    assert file.read() == "new\n"
    assert not list(file.path.parent.glob(".*"))
    with pytest.raises(BackendsFileError, match="cannot be written"):
        file.replace("newer\n", prepared=True)
    assert file.read() == "new\n"


def test_refused_candidate_leaves_the_old_file(file: BackendsFile, program: Program) -> None:
    file.replace("old\n")
    program.answer = (1, "[NOTICE]   (7) : version\n[ALERT]    (7) : config : no such thing\n[ALERT]    (7) : Fatal\n")
    with pytest.raises(BackendsFileError, match=r"as it was: config : no such thing; Fatal$"):
        file.replace("new\n")
    program.answer = (127, "not\nfound")
    with pytest.raises(BackendsFileError, match="not found"):
        file.replace("new\n")
    assert file.read() == "old\n"
    assert not list(file.path.parent.glob(".*"))


def test_configuration_without_listeners_is_no_error(file: BackendsFile, program: Program) -> None:
    """A fresh package has no frontend yet."""
    program.answer = (2, "Configuration file has no error but will not start (no listener) => exit(2).")
    file.replace("new\n")
    assert file.read() == "new\n"


def test_leftover_of_a_killed_run_is_no_obstacle(file: BackendsFile) -> None:
    leftover = file.path.with_name(f".{file.path.name}.new")
    leftover.symlink_to("/nonexistent/elsewhere")
    file.replace("new\n")
    assert not file.path.is_symlink()
    assert file.read() == "new\n"


def test_unwritable_directory_and_unknown_group_are_said(file: BackendsFile, tmp_path: Path) -> None:
    nowhere = BackendsFile(tmp_path / "no" / "file", file.main, "haproxy", "", file.lock, file.run)
    with pytest.raises(BackendsFileError, match="cannot be written"):
        nowhere.replace("new\n")
    group = BackendsFile(file.path, file.main, "haproxy", "no-such-group", file.lock, file.run)
    with pytest.raises(BackendsFileError, match=r"cannot be written.*no-such-group"):
        group.replace("new\n")
    assert file.read() is None


def test_group_gets_the_file(file: BackendsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _descriptor, user, group: owners.append((user, group)))
    root = BackendsFile(file.path, file.main, "haproxy", "root", file.lock, file.run)
    root.replace("new\n")
    assert owners == [(-1, 0)]


def test_second_run_waits_and_then_says_who_holds_the_lock(file: BackendsFile) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with file.only_run(1):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    with pytest.raises(BackendsFileError, match=r"another run changes the rotation.*fuser -v"), file.only_run(0.2):
        pass
    leave.set()
    thread.join()
    with file.only_run(5):
        pass
