"""Module kernel_settings: the file, the values now, and what a host cannot have."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _kernel
from ansible_collections.linkrift.platform.plugins.module_utils._kernel import (
    KernelError,
    Setting,
    compare,
    put,
    render,
)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "net/core").mkdir(parents=True)
    (tmp_path / "net/core/somaxconn").write_text("4096\n")
    (tmp_path / "net/range").write_text("15000\t65000\n")
    return tmp_path


def test_the_file_passes_over_what_a_kernel_lacks() -> None:
    assert render({"net.core.somaxconn": "8192", "net.range": "1\t2"}).splitlines()[1:] == [
        "-net.core.somaxconn = 8192",
        "-net.range = 1 2",
    ]


@pytest.mark.parametrize("settings", [{"a b": "1"}, {"net.x": "1\nnet.y = 2"}, {"net.x": " "}, {"../etc": "1"}])
def test_what_cannot_be_written_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(KernelError):
        render(settings)


def test_only_what_differs_is_set(proc: Path) -> None:
    different = compare({"net.core.somaxconn": "8192", "net.range": "15000  65000"}, proc)
    assert different == [Setting("net.core.somaxconn", "8192", "4096", None)]
    assert put(different[0], proc) is None
    assert compare({"net.core.somaxconn": "8192"}, proc) == []


def test_what_a_kernel_lacks_or_a_container_may_not_change_is_said(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel.os, "access", lambda *_: False)
    lacking, refused = compare({"kernel.new": "1", "net.core.somaxconn": "8192"}, proc)
    assert lacking.found is None
    assert lacking.reason == "this kernel does not have it"
    assert refused.reason == "a container may not change it: set it on its machine"


def test_a_refusal_of_the_kernel_is_said(proc: Path) -> None:
    setting = Setting("net.core", "1", "0", None)
    assert put(setting, proc) == "the kernel refused: Is a directory"
