# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keeping the reports of rollouts: the newest ones, and nothing but reports is removed."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.modules import rollout_archive

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def keep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def start(check: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {"path": str(tmp_path / "rollouts"), "report": {"b": 1, "a": "ü"}, "page": "<p>ü", **arguments}
        with (
            patch_module_args({**given, "_ansible_check_mode": check, "_ansible_diff": True}),
            pytest.raises(SystemExit),
        ):
            rollout_archive.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return start


def name(number: int) -> str:
    return f"20260131T1200{number:02d}Z-0a1b2c"


def test_a_report_is_kept_once(keep: Run, tmp_path: Path) -> None:
    directory = tmp_path / "rollouts"
    told = keep(check=True, id=name(1))
    assert told["changed"]
    assert not directory.exists()
    told = keep(id=name(1))
    assert told["changed"]
    assert told["path"] == str(directory / f"{name(1)}.html")
    assert f"{name(1)}.json" in told["diff"]["after"]
    assert json.loads((directory / f"{name(1)}.json").read_text(encoding="utf-8")) == {"a": "ü", "b": 1}
    assert (directory / f"{name(1)}.html").read_text(encoding="utf-8") == "<p>ü"
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o640}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert not keep(id=name(1))["changed"]
    assert keep(id=name(1), report={"a": 2})["changed"]


def test_the_oldest_ones_go_and_what_is_no_report_stays(keep: Run, tmp_path: Path) -> None:
    directory = tmp_path / "rollouts"
    for number in range(1, 5):
        keep(id=name(number))
    (directory / "notes.html").write_text("mine")
    (directory / f"{name(0)}.txt").write_text("mine")
    assert keep(check=True, id=name(5), keep=3)["removed"] == [
        str(directory / f"{name(number)}{suffix}") for number in (1, 2) for suffix in (".html", ".json")
    ]
    keep(id=name(5), keep=3, page="")
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        [f"{name(number)}{suffix}" for number in (3, 4) for suffix in (".html", ".json")]
        + [f"{name(5)}.json", "notes.html", f"{name(0)}.txt"]
    )


def test_a_report_is_kept_however_old_it_is(keep: Run, tmp_path: Path) -> None:
    for number in (5, 1):
        keep(id=name(number))
    keep(id=name(1), keep=1)
    assert {path.stem for path in (tmp_path / "rollouts").iterdir()} == {name(1)}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"id": "../../etc/cron.d/x"}, "is no id"),
        ({"id": name(1) + "\n"}, "is no id"),
        ({"id": name(1), "keep": 0}, "1 at least"),
        ({"id": name(1), "path": "/proc/nowhere"}, "cannot be kept"),
    ],
)
def test_what_is_refused(keep: Run, arguments: dict[str, Any], complaint: str) -> None:
    told = keep(**arguments)
    assert told["failed"]
    assert complaint in told["msg"]
