"""The machine's kernel gets what hosts need, and its own settings back after the last lab."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.linkrift_lab.network import raise_kernel_settings, restore_kernel_settings
from ansible.module_utils.linkrift_lab.registry import Registry

FORWARD = "net/ipv4/ip_forward"
INOTIFY = "fs/inotify/max_user_instances"


def kernel(root: Path, **values: str) -> Path:
    for name, value in ((FORWARD, values["forward"]), (INOTIFY, values["inotify"])):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")
    return root


def test_settings_are_raised_once_and_given_back(tmp_path: Path) -> None:
    root = kernel(tmp_path / "sys", forward="0", inotify="128")
    raise_kernel_settings(Registry(tmp_path), root)
    raise_kernel_settings(Registry(tmp_path), root)
    assert ((root / FORWARD).read_text(), (root / INOTIFY).read_text()) == ("1\n", "1024\n")
    restore_kernel_settings(Registry(tmp_path), root)
    assert ((root / FORWARD).read_text(), (root / INOTIFY).read_text()) == ("0\n", "128\n")
    assert Registry(tmp_path).kernel == {}


def test_settings_that_suffice_are_left_alone(tmp_path: Path) -> None:
    root = kernel(tmp_path / "sys", forward="1", inotify="8192")
    raise_kernel_settings(Registry(tmp_path), root)
    assert ((root / INOTIFY).read_text(), Registry(tmp_path).kernel) == ("8192\n", {})
