# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host has to be patched with, and how far a run came on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.filter.patch_id import FilterModule
from ansible_collections.linkrift.platform.plugins.module_utils import _patch as patch
from ansible_collections.linkrift.platform.plugins.modules.patch_run import noted

SIMULATION = """\
Reading package lists...
The following packages will be upgraded:
  haproxy libc6
Inst libc6 [2.36-9+deb12u9] (2.36-9+deb12u10 Debian-Security:12/stable-security [amd64]) []
Inst haproxy [2.6.12-1] (2.6.12-2 Debian:12.5/stable [amd64])
Inst linux-image-6.1.0-30-amd64 (6.1.124-1 Debian:12.9/stable [amd64])
Conf libc6 (2.36-9+deb12u10 Debian-Security:12/stable-security [amd64])
"""
NEED: dict[str, Any] = {"packages": [], "reboot_required": False, "boot_id": "one", "drained": []}
NONE = {"upgrade": False, "reboot": False, "resume": False, "work": False, "keep_drained": False}


def programs(simulated: int = 0) -> patch.Run:
    answers = {
        "apt-get": (simulated, SIMULATION, "E: broken packages\n" if simulated else ""),
        "apt-mark": (0, "zstd\nbash\n", ""),
        "needrestart": (0, "NEEDRESTART-VER: 3.6\nNEEDRESTART-SVC: ssh.service\nNEEDRESTART-SVC: cron.service\n", ""),
    }
    return lambda command: answers[command[0]]


def put(root: Path, name: str, text: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_looks_at_everything_a_host_needs(tmp_path: Path) -> None:
    put(tmp_path, "run/reboot-required", "*** System restart required ***\n")
    put(tmp_path, "run/reboot-required.pkgs", "libc6\nlinux-image\nlibc6\n")
    put(tmp_path, "proc/sys/kernel/random/boot_id", "one\n")
    put(tmp_path, "var/lib/linkrift/worker/drained")
    put(tmp_path, "usr/sbin/needrestart")
    need = patch.look(tmp_path, programs(), "dist")
    assert [package["name"] for package in need.packages] == ["haproxy", "libc6", "linux-image-6.1.0-30-amd64"]
    assert need.packages[1] == {"name": "libc6", "old": "2.36-9+deb12u9", "new": "2.36-9+deb12u10"}
    assert need.packages[2]["old"] == ""
    assert need.as_dict() == {
        "packages": need.packages,
        "held": ["bash", "zstd"],
        "reboot_required": True,
        "reboot_packages": ["libc6", "linux-image"],
        "boot_id": "one",
        "drained": ["worker"],
        "restart": ["cron.service", "ssh.service"],
    }


@pytest.mark.parametrize(
    ("mark", "drained"),
    [
        ('{"by": "playbook patch", "since": "2026-01-31T12:00:00Z"}', []),
        ('{"by": "ops", "since": "2026-01-31T12:00:00Z"}', ["api"]),
        ("{", ["api"]),
        ("[]", ["api"]),
    ],
)
def test_what_a_patch_run_drained_itself_is_no_wish_of_anybody(tmp_path: Path, mark: str, drained: list[str]) -> None:
    put(tmp_path, "var/lib/linkrift/api/drained", mark)
    assert patch.look(tmp_path, programs(), "safe").drained == drained


def test_role_and_code_agree_on_who_drains() -> None:
    work = Path(__file__).parents[2] / "roles/patch/tasks/work.yml"
    assert f"drain_by: {patch.DRAINED_BY}\n" in work.read_text(encoding="utf-8")


def test_a_host_without_needrestart_names_no_units(tmp_path: Path) -> None:
    need = patch.look(tmp_path, programs(), "safe")
    assert need.restart == []
    assert not need.reboot_required
    assert need.drained == []


def test_apt_that_cannot_say_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(patch.PatchError, match="broken packages"):
        patch.look(tmp_path, programs(100), "dist")


def test_a_note_survives_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    assert patch.read_record(tmp_path) == {}
    patch.write_record(tmp_path, {"run": "1", "state": "begun"})
    assert patch.read_record(tmp_path) == {"run": "1", "state": "begun", "format": 1}
    for text in ("{", "[]", '{"format": 9}'):
        (tmp_path / patch.RECORD).write_text(text)
        assert patch.read_record(tmp_path) == {}


def test_an_interrupted_run_goes_on_and_a_finished_one_does_not() -> None:
    records: list[dict[str, Any]] = [{"run": "3", "state": "finished"}, {}]
    choose = FilterModule().filters()["patch_id"]
    assert choose(records, "9") == "9"
    assert choose([*records, {"run": "3", "state": "begun"}, {"run": "2", "state": "begun"}], "9") == "3"


@pytest.mark.parametrize(
    ("need", "record", "reboot", "expected"),
    [
        ({}, {}, "auto", {}),
        ({"packages": [{"name": "bash"}]}, {}, "never", {"upgrade": True, "work": True}),
        ({"reboot_required": True}, {}, "auto", {"reboot": True, "work": True}),
        ({"reboot_required": True}, {}, "never", {}),
        ({}, {}, "always", {"reboot": True, "work": True}),
        ({}, {"run": "5", "state": "finished", "boot_id": "zero"}, "always", {}),
        ({}, {"run": "4", "state": "finished", "boot_id": "zero"}, "always", {"reboot": True, "work": True}),
        # It was interrupted before its reboot, and after it.
        (
            {},
            {"run": "5", "state": "begun", "boot_id": "one"},
            "always",
            {"reboot": True, "resume": True, "work": True},
        ),
        ({}, {"run": "5", "state": "begun", "boot_id": "zero"}, "always", {"resume": True, "work": True}),
        ({"drained": ["api"]}, {}, "auto", {"keep_drained": True}),
        # Interrupted, and drained by that run only, or by somebody before or since.
        ({"drained": []}, {"run": "5", "state": "begun", "boot_id": "one"}, "auto", {"resume": True, "work": True}),
        (
            {"drained": ["api"]},
            {"run": "5", "state": "begun", "boot_id": "one"},
            "auto",
            {"resume": True, "work": True, "keep_drained": True},
        ),
    ],
)
def test_decides_what_is_left_to_do(
    need: dict[str, Any], record: dict[str, Any], reboot: str, expected: dict[str, bool]
) -> None:
    assert patch.decide({**NEED, **need}, record, "5", reboot) == {**NONE, **expected}


def test_what_an_earlier_try_noted_counts() -> None:
    begun = {"run": "5", "state": "begun"}
    first = noted({}, begun, "one")
    assert first == {"run": "5", "state": "begun", "boot_id": "one", "format": 1}
    assert noted(first, begun, "two") == first
    done = noted(first, {"run": "5", "state": "finished"}, "two")
    assert done == {**first, "state": "finished"}
    assert noted(done, {"run": None, "state": "look"}, "two") == done
    assert noted(done, {**begun, "run": "6"}, "two")["boot_id"] == "two"
