"""Modules files and paths: sets of files and directories, checked before and taken back when what follows fails."""

from __future__ import annotations

import grp
import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _host_files
from ansible_collections.linkrift.platform.plugins.module_utils._host_files import with_block
from ansible_collections.linkrift.platform.plugins.modules import files, paths

USER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name
OWNER = {"owner": USER, "group": GROUP}

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def _run(module: Any, check: bool = False, **params: Any) -> dict[str, Any]:
        capsys.readouterr()
        with patch_module_args({**params, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return _run


def test_a_block_is_replaced_appended_and_taken_away() -> None:
    text = with_block("127.0.0.1 localhost\n", "names", "192.0.2.1 db\n")
    assert text == "127.0.0.1 localhost\n# BEGIN names\n192.0.2.1 db\n# END names\n"
    assert with_block(f"{text}192.0.2.9 mine\n", "names", "192.0.2.2 db\n") == (
        "127.0.0.1 localhost\n# BEGIN names\n192.0.2.2 db\n# END names\n192.0.2.9 mine\n"
    )
    assert with_block(text, "names", "\n") == "127.0.0.1 localhost\n"
    assert with_block("no line end", "names", "x") == "no line end\n# BEGIN names\nx\n# END names\n"


def test_a_block_leaves_all_other_lines_as_they_are() -> None:
    text = "a\r\nb\x0cc\u2028d\n# BEGIN names\r\nx\r\n# END names\r\n\n\nlast\n"
    assert with_block(text, "names", "y") == "a\r\nb\x0cc\u2028d\n# BEGIN names\ny\n# END names\n\n\nlast\n"
    assert with_block("", "names", "y") == "# BEGIN names\ny\n# END names\n"
    assert with_block("\n", "names", "") == "\n"


@pytest.mark.parametrize("marks", ["B", "E", "EB", "BB E", "B EE", "B E B E"])
def test_marks_that_are_not_one_pair_lose_no_line(run: Run, tmp_path: Path, marks: str) -> None:
    names = {"B": "# BEGIN names\n", "E": "# END names\n"}
    text = "mine\n" + "".join(names.get(mark, "192.0.2.9 mine\n") for mark in marks)
    (tmp_path / "hosts").write_text(text)
    answer = run(files, files=[{**OWNER, "path": f"{tmp_path}/hosts", "block": "names", "content": "x"}])
    assert answer["failed"]
    assert f"{tmp_path}/hosts: the block's marks are not one pair: '# " in answer["msg"]
    assert "in line 2" in answer["msg"]
    assert (tmp_path / "hosts").read_text() == text


def test_files_are_taken_back_byte_by_byte(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"f\xfcr\r\nalle")
    wanted = {**OWNER, "path": f"{tmp_path}/a", "content": "one"}
    assert run(files, files=[{**wanted, "after": ["false"]}])["failed"]
    assert (tmp_path / "a").read_bytes() == b"f\xfcr\r\nalle"
    (tmp_path / "a").write_bytes(b"one\r\n")
    assert run(files, files=[wanted])["changed"]
    assert (tmp_path / "a").read_bytes() == b"one\n"


def test_files_are_written_once(run: Run, tmp_path: Path) -> None:
    wanted = [
        {**OWNER, "path": str(tmp_path / "a"), "content": "one", "mode": "0640", "after": ["touch", f"{tmp_path}/ran"]},
        {**OWNER, "path": str(tmp_path / "b"), "content": "two\n", "after": ["touch", f"{tmp_path}/ran"]},
    ]
    answer = run(files, files=wanted)
    assert answer["changed"]
    assert answer["written"] == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert answer["ran"] == [f"touch {tmp_path}/ran"]
    assert (tmp_path / "a").read_text() == "one\n"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    (tmp_path / "ran").unlink()
    again = run(files, files=wanted)
    assert (again["changed"], again["written"], again["ran"]) == (False, [], [])
    assert not (tmp_path / "ran").exists()


def test_another_mode_is_a_change(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\n")
    (tmp_path / "a").chmod(0o666)
    answer = run(files, files=[{**OWNER, "path": str(tmp_path / "a"), "content": "one"}])
    assert answer["changed"]
    assert "0666" in answer["diff"][0]["before_header"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_a_refused_file_leaves_all_as_they_were(run: Run, tmp_path: Path) -> None:
    answer = run(
        files,
        files=[
            {**OWNER, "path": str(tmp_path / "a"), "content": "one"},
            {**OWNER, "path": str(tmp_path / "b"), "content": "if", "validate": ["sh", "-n", "%s"]},
        ],
    )
    assert answer["failed"]
    assert f"{tmp_path}/b: refused by sh" in answer["msg"]
    assert not (tmp_path / "a").exists()


def test_a_file_that_cannot_be_written_takes_the_earlier_ones_back(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before\n")
    answer = run(
        files,
        files=[
            {**OWNER, "path": str(tmp_path / "a"), "content": "one"},
            {**OWNER, "path": str(tmp_path / "missing" / "b"), "content": "two"},
        ],
    )
    assert answer["msg"] == f"{tmp_path}/missing/b: No such file or directory; nothing was changed"
    assert (tmp_path / "a").read_text() == "before\n"


def test_a_command_that_fails_takes_its_files_back(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before\n")
    wanted = [
        {**OWNER, "path": str(tmp_path / "a"), "content": "one", "after": ["false"]},
        {**OWNER, "path": str(tmp_path / "new"), "content": "one", "after": ["false"]},
        {**OWNER, "path": str(tmp_path / "b"), "content": "two"},
    ]
    answer = run(files, files=wanted)
    assert answer["failed"]
    assert answer["msg"] == f"false: exit status 1; {tmp_path}/a, {tmp_path}/new as before again"
    assert (tmp_path / "a").read_text() == "before\n"
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "b").exists()


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    wanted = [{**OWNER, "path": str(tmp_path / "a"), "content": "one", "validate": ["no-such-command", "%s"]}]
    answer = run(files, check=True, files=wanted)
    assert (answer["changed"], answer["written"], answer["ran"]) == (True, [f"{tmp_path}/a"], [])
    assert answer["diff"][0]["after"] == "one\n"
    assert not (tmp_path / "a").exists()
    assert "no-such-command" in run(files, files=wanted)["msg"]


def test_a_file_only_where_something_else_is(run: Run, tmp_path: Path) -> None:
    wanted = [{**OWNER, "path": str(tmp_path / "a"), "content": "one", "only_if": str(tmp_path / "cloud")}]
    assert not run(files, files=wanted)["changed"]
    (tmp_path / "cloud").mkdir()
    assert run(files, files=wanted)["changed"]


def test_a_symbolic_link_is_followed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x\n")
    (tmp_path / "link").symlink_to("real")
    run(files, files=[{**OWNER, "path": str(tmp_path / "link"), "content": "one"}])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "one\n"


def test_directories_are_made_with_owner_and_mode(run: Run, tmp_path: Path) -> None:
    wanted = [{**OWNER, "path": f"{tmp_path}/a", "mode": "2750"}, {**OWNER, "path": f"{tmp_path}/a/b"}]
    foreseen = run(paths, check=True, paths=wanted)
    assert foreseen["paths"] == [f"{tmp_path}/a", f"{tmp_path}/a/b"]
    assert not (tmp_path / "a").exists()
    assert run(paths, paths=wanted)["paths"] == [f"{tmp_path}/a", f"{tmp_path}/a/b"]
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o2750
    assert not run(paths, paths=wanted)["changed"]
    (tmp_path / "a").chmod(0o777)
    answer = run(paths, paths=wanted)
    assert answer["paths"] == [f"{tmp_path}/a"]
    assert "0777" in answer["diff"]["before"]


def test_what_is_not_there_is_left_so(run: Run, tmp_path: Path) -> None:
    wanted = [{**OWNER, "path": f"{tmp_path}/crontab", "state": "present", "mode": "0600"}]
    assert not run(paths, paths=wanted)["changed"]
    (tmp_path / "crontab").write_text("")
    assert run(paths, paths=wanted)["changed"]
    assert (tmp_path / "crontab").stat().st_mode & 0o777 == 0o600


def test_a_link_in_a_directorys_place_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a").symlink_to("elsewhere")
    assert "is a symbolic link" in run(paths, paths=[{**OWNER, "path": f"{tmp_path}/a"}])["msg"]
    (tmp_path / "file").write_text("")
    assert "is not a directory" in run(paths, paths=[{**OWNER, "path": f"{tmp_path}/file"}])["msg"]
    assert not run(paths, paths=[{**OWNER, "path": f"{tmp_path}/a", "state": "present"}])["changed"]


def test_a_user_that_is_missing_is_said(run: Run, tmp_path: Path) -> None:
    entry = {"path": f"{tmp_path}/a", "owner": "no-such-user", "group": GROUP}
    assert run(paths, check=True, paths=[entry])["changed"]
    assert "there is no user no-such-user" in run(paths, paths=[entry])["msg"]
    assert "there is no user no-such-user" in run(files, files=[{**entry, "content": "x"}])["msg"]
    assert "is not octal" in run(paths, paths=[{**OWNER, "path": "/x", "mode": "rwx"}])["msg"]


def test_a_half_written_file_is_never_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_text("before")
    monkeypatch.setattr(_host_files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        _host_files.put(tmp_path / "a", "after", os.getuid(), os.getgid(), 0o644)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"
