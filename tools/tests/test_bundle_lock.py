"""Which locked requirement applies to which host."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.markers import Marker

from tools.bundle import ROOT, BuildError
from tools.bundle.lock import pins_for, read_lock
from tools.bundle.targets import TARGETS, BuildTarget

HASH = "0" * 64


def lock(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text("# header\n" + "".join(f"{line} \\\n    --hash=sha256:{HASH}\n    # via x\n" for line in lines))
    return path


def names(path: Path, minor: int, machine: str = "x86_64") -> list[str]:
    return [f"{pin.name}=={pin.version}" for pin in pins_for(read_lock(path), BuildTarget(minor, machine))]


def test_the_targets_are_four_pythons_on_two_architectures() -> None:
    assert [target.name for target in TARGETS] == [
        *("cp310-x86_64", "cp310-aarch64", "cp311-x86_64", "cp311-aarch64"),
        *("cp312-x86_64", "cp312-aarch64", "cp313-x86_64", "cp313-aarch64"),
    ]


def test_wheels_may_need_no_newer_glibc_than_the_oldest_host_has() -> None:
    platforms = BuildTarget(11, "aarch64").platforms
    assert platforms[0] == "manylinux_2_28_aarch64"
    assert {"manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux1_aarch64"} <= set(platforms)
    assert "manylinux_2_36_aarch64" not in platforms


def test_a_marker_on_a_patch_version_includes_what_any_host_of_that_minor_needs(tmp_path: Path) -> None:
    path = lock(tmp_path, "async-timeout==5.0.1 ; python_full_version < '3.11.3'", "attrs==1")
    assert names(path, 10) == ["async-timeout==5.0.1", "attrs==1"]
    assert names(path, 11) == ["async-timeout==5.0.1", "attrs==1"], "Debian 12 has 3.11.2"
    assert names(path, 12) == ["attrs==1"]


def test_markers_are_evaluated_for_the_host_not_for_the_builder(tmp_path: Path) -> None:
    path = lock(
        tmp_path,
        "multidict==7.1.0 ; python_full_version < '3.11'",
        "multidict==7.2.1 ; python_full_version >= '3.11'",
        "tzdata==1 ; sys_platform == 'win32'",
        "pycparser==1 ; implementation_name != 'PyPy'",
        "only-arm==1 ; platform_machine == 'aarch64'",
        "posix==1 ; os_name == 'posix' and platform_system == 'Linux'",
    )
    assert names(path, 10) == ["multidict==7.1.0", "posix==1", "pycparser==1"]
    assert names(path, 13) == ["multidict==7.2.1", "posix==1", "pycparser==1"]
    assert "only-arm==1" in names(path, 13, "aarch64")


def test_an_extra_is_not_needed_unless_asked_for() -> None:
    target = BuildTarget(12, "x86_64")
    marker = Marker("extra == 'speedups'")
    assert (target.needs(marker), target.needs(marker, "speedups"), target.needs(None)) == (False, True, True)


def test_two_versions_for_one_python_are_an_error(tmp_path: Path) -> None:
    path = lock(tmp_path, "a==1 ; python_full_version < '3.11.3'", "a==2 ; python_full_version >= '3.11.3'")
    assert names(path, 10) == ["a==1"]
    with pytest.raises(BuildError, match=r"splits a within Python 3\.11 \(1 and 2\)"):
        names(path, 11)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"a>=1 --hash=sha256:{HASH}", "not pinned"),
        (f"a==1.* --hash=sha256:{HASH}", "not pinned"),
        ("a==1", "no sha256 hashes"),
        ("a==1 --hash=md5:00", "no sha256 hashes"),
        ("-r other.txt", "not understood"),
    ],
)
def test_a_lock_that_locks_nothing_is_an_error(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "requirements.lock"
    path.write_text(f"{line}\n")
    with pytest.raises(BuildError, match=message):
        read_lock(path)


def test_a_lock_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot be read"):
        read_lock(tmp_path / "nothing")


def test_names_are_normalised_and_hashes_sorted(tmp_path: Path) -> None:
    path = tmp_path / "requirements.lock"
    path.write_text(f"Some_Name==1.0 --hash=sha256:{'b' * 64} --hash=sha256:{'a' * 64}\n")
    (pin,) = read_lock(path)
    assert pin.line() == f"some-name==1.0 --hash=sha256:{'a' * 64} --hash=sha256:{'b' * 64}"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_project_s_own_locks_serve_every_target(target: BuildTarget) -> None:
    pins = pins_for(read_lock(ROOT / "app/requirements.lock"), target)
    assert {"aiohttp", "uvloop", "redis"} <= {pin.name for pin in pins}
    (installer,) = pins_for(read_lock(ROOT / "tools/bundle/installer.txt"), target)
    assert installer.name == "pip"
