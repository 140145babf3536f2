"""A bundle says what was tested, and of what fails there is none."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import Manifest, Proven, Target, sha256_of
from tools.bundle import BuildError
from tools.bundle.project import Commit
from tools.bundle.proof import SUITE, Proof
from tools.bundle.wheels import Wheel

COMMIT = Commit("c" * 40, "main", 1, dirty=False)
SETTINGS = """\
[tool.pytest.ini_options]
addopts = ["--import-mode=importlib"]
pythonpath = ["app/src"]
markers = ["servers"]
"""
GOOD = "from linkrift import NAME\n\n\ndef test_name():\n    assert NAME == 'packed'\n\n\ndef test_more():\n    pass\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / SUITE).mkdir(parents=True)
    (root / SUITE / "test_it.py").write_text(GOOD)
    (root / "app/src/linkrift").mkdir(parents=True)
    (root / "app/src/linkrift/__init__.py").write_text("NAME = 'sources'\n")
    (root / "pyproject.toml").write_text(SETTINGS)
    return root


def wheel_of(directory: Path, name: str = "packed") -> Wheel:
    path = directory / "linkrift-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("linkrift/__init__.py"), f"NAME = {name!r}\n")
    return Wheel(path, sha256_of(path))


def test_the_package_is_tested_and_not_the_sources(checkout: Path, tmp_path: Path) -> None:
    said: list[str] = []
    tests = Proof(checkout, tmp_path / "cache", said.append)(wheel_of(tmp_path), COMMIT)
    assert tests == Proven(SUITE, COMMIT.sha, "passed", 2)
    assert said == [f"testing it ({SUITE})", f"2 tests of {SUITE} passed with it"]


def test_what_passed_is_not_tested_again(checkout: Path, tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path)
    first = Proof(checkout, tmp_path / "cache", lambda _: None)(wheel, COMMIT)
    said: list[str] = []
    assert Proof(checkout, tmp_path / "cache", said.append)(wheel, COMMIT) == first
    assert said == [f"2 tests of {SUITE} passed with it"]


def test_other_tests_are_run(checkout: Path, tmp_path: Path) -> None:
    proof = Proof(checkout, tmp_path / "cache", lambda _: None)
    proof(wheel_of(tmp_path), COMMIT)
    (checkout / SUITE / "test_new.py").write_text("def test_new():\n    raise ValueError('not this time')\n")
    with pytest.raises(BuildError, match="not this time"):
        proof(wheel_of(tmp_path), COMMIT)


def test_another_package_is_tested(checkout: Path, tmp_path: Path) -> None:
    proof = Proof(checkout, tmp_path / "cache", lambda _: None)
    proof(wheel_of(tmp_path), COMMIT)
    with pytest.raises(BuildError, match="assert 'other' == 'packed'"):
        proof(wheel_of(tmp_path, "other"), COMMIT)
    assert len(list((tmp_path / "cache/tested").iterdir())) == 1, "a failure is noted as a success"


def test_a_test_that_is_skipped_counts_for_nothing(checkout: Path, tmp_path: Path) -> None:
    (checkout / SUITE / "test_it.py").write_text("import pytest\n\n\ndef test_name():\n    pytest.skip('not here')\n")
    with pytest.raises(BuildError, match="1 skipped in"):
        Proof(checkout, tmp_path / "cache", lambda _: None)(wheel_of(tmp_path), COMMIT)


@pytest.mark.parametrize("tests", [None, Proven(SUITE, "c" * 40, "passed", 283)])
def test_a_manifest_has_it_or_not(tests: Proven | None) -> None:
    target = Target("requirements/cp311-x86_64.txt", (), 1)
    manifest = Manifest("a", "1.0", "c", "main", "t", False, 1, 0, "wheels/pip.whl", {"cp311-x86_64": target}, tests)
    assert Manifest.parse(manifest.render()) == manifest
    assert (b'"tests"' in manifest.render()) == bool(tests)
