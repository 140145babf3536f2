"""Whole bundles of a small checkout; only the network is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError, check_tree
from tools.bundle import BuildError, __main__, wheels
from tools.bundle import build as build_module
from tools.bundle.archive import pack, verify_archive
from tools.bundle.build import Built, build
from tools.bundle.project import read_commit, read_schema
from tools.bundle.wheels import Cache
from tools.tests.bundle_fakes import FakePip, lock_of, make_wheel

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "linkrift"
version = "1.2"
requires-python = ">=3.10"
dependencies = ["dep>=1"]

[tool.hatch.build.targets.wheel]
packages = ["src/linkrift"]
"""


def git(checkout: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    command = ["git", *identity, "-C", str(checkout), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    index = tmp_path / "index"
    monkeypatch.setattr(wheels, "_run_pip", FakePip(index))
    return index


@pytest.fixture
def checkout(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout of a small application, committed; pip is one that was made by hand, too."""
    root = tmp_path / "checkout"
    (root / "app/src/linkrift").mkdir(parents=True)
    (root / "app/src/linkrift/__init__.py").write_text("NAME = 'linkrift'\n")
    (root / "app/pyproject.toml").write_text(PYPROJECT)
    (root / "app/requirements.lock").write_text(lock_of(make_wheel(index, "dep")))
    for store, name in (("postgresql", "000001_start"), ("clickhouse", "000001_clicks")):
        (root / "app/migrations" / store).mkdir(parents=True)
        for kind in ("up", "down"):
            text = "-- linkrift: expand\nSELECT 1;\n"
            (root / "app/migrations" / store / f"{name}.{kind}.sql").write_text(text)
    installer = tmp_path / "installer.txt"
    installer.write_text(lock_of(make_wheel(index, "pip", "26.0")))
    monkeypatch.setattr(build_module, "INSTALLER", installer)
    git(tmp_path, "init", "--quiet", str(root))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "start")
    return root


Build = Callable[..., Built]


@pytest.fixture
def make(tmp_path: Path) -> Build:
    def run(checkout: Path, dist: str = "dist", keep: int = 3, said: list[str] | None = None) -> Built:
        lines: list[str] = [] if said is None else said
        return build(checkout, tmp_path / dist, Cache(tmp_path / "cache", lines.append), lines.append, keep)

    return run


def test_a_bundle_holds_what_the_format_says(checkout: Path, make: Build) -> None:
    built = make(checkout)
    release, manifest = check_tree(built.tree)
    assert (release, manifest) == (built.release, built.manifest)
    assert release.startswith("1.2+")
    assert built.archive.name == f"linkrift-{release}.tar.gz"
    assert verify_archive(built.archive) == (release, manifest)
    assert (manifest.schema_level, manifest.schema_floor, manifest.dirty, manifest.branch) == (1, 0, False, "main")
    assert manifest.commit == git(checkout, "rev-parse", "HEAD")
    assert len(manifest.targets) == 8
    target = manifest.targets["cp311-x86_64"]
    assert target.wheels == ("wheels/dep-1.0-py3-none-any.whl", "wheels/linkrift-1.2-py3-none-any.whl")
    assert manifest.installer == "wheels/pip-26.0-py3-none-any.whl"
    requirements = (built.tree / target.requirements).read_text()
    assert [line.split(" --hash")[0] for line in requirements.splitlines()] == ["dep==1.0", "linkrift==1.2"]
    assert sorted(path.name for path in (built.tree / "migrations").rglob("*.sql")) == [
        *("000001_clicks.down.sql", "000001_clicks.up.sql", "000001_start.down.sql", "000001_start.up.sql"),
    ]


def test_the_same_commit_gives_the_same_bytes_wherever_and_however_it_is_checked_out(
    checkout: Path, tmp_path: Path, make: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(checkout)
    elsewhere = tmp_path / "some" / "where else"
    git(tmp_path, "clone", "--quiet", str(checkout), str(elsewhere))
    git(elsewhere, "checkout", "--quiet", "--detach")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    former = os.umask(0o077)
    try:
        second = make(elsewhere, dist="other")
    finally:
        os.umask(former)
    assert second.release == first.release
    assert second.archive.read_bytes() == first.archive.read_bytes()


def test_another_commit_gives_another_release(checkout: Path, make: Build) -> None:
    first = make(checkout)
    (checkout / "app/src/linkrift/new.py").write_text("")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "more")
    assert make(checkout).release != first.release


def test_a_second_build_keeps_what_is_whole_and_repairs_what_is_not(checkout: Path, make: Build) -> None:
    first = make(checkout)
    before = first.archive.stat().st_mtime_ns
    assert make(checkout) == first
    assert first.archive.stat().st_mtime_ns == before
    (first.tree / "manifest.json").write_text("{}")
    first.archive.write_bytes(first.archive.read_bytes()[:-5000])
    assert make(checkout) == first
    assert check_tree(first.tree)[0] == verify_archive(first.archive)[0] == first.release


def test_changes_that_are_in_no_commit_are_told(checkout: Path, make: Build) -> None:
    clean = make(checkout)
    (checkout / "README.md").write_text("no part of a bundle")
    assert not make(checkout).manifest.dirty
    (checkout / "app/src/linkrift/new.py").write_text("")
    said: list[str] = []
    dirty = make(checkout, said=said)
    assert dirty.manifest.dirty
    assert dirty.release != clean.release
    assert any("marked as dirty" in line for line in said)


def test_older_bundles_are_removed(checkout: Path, make: Build) -> None:
    built = []
    for number in range(3):
        (checkout / "app/src/linkrift/number.py").write_text(f"{number}\n")
        built.append(make(checkout, keep=2))
        os.utime(built[-1].tree, (number, number))
    assert [one.tree.exists() for one in built] == [False, True, True]
    assert [one.archive.exists() for one in built] == [False, True, True]


def test_what_a_killed_build_left_is_cleared(checkout: Path, make: Build) -> None:
    built = make(checkout)
    left = built.tree.parent / ".building-left"
    left.mkdir()
    make(checkout)
    assert not left.exists()


def test_without_git_the_time_has_to_be_given(checkout: Path, make: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(checkout / ".git")
    # The checkout may lie inside another repository, which is not its own.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(checkout.parent))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    with pytest.raises(BuildError, match="set SOURCE_DATE_EPOCH"):
        make(checkout)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    manifest = make(checkout).manifest
    assert (manifest.commit, manifest.commit_time, manifest.dirty) == ("unknown", "2026-01-01T00:00:00Z", True)


def test_without_the_program_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert read_commit(checkout).sha == "unknown"


def test_only_a_commit_that_is_not_on_the_main_branch_names_another(checkout: Path) -> None:
    git(checkout, "checkout", "--quiet", "-b", "feature")
    assert read_commit(checkout).branch == "main"
    git(checkout, "commit", "--quiet", "--allow-empty", "--message", "more")
    assert read_commit(checkout).branch == "feature"
    git(checkout, "checkout", "--quiet", "--detach")
    assert read_commit(checkout).branch == "detached"


def test_an_application_that_cannot_be_built(checkout: Path, make: Build) -> None:
    (checkout / "app/pyproject.toml").write_text("nonsense")
    with pytest.raises(BuildError, match=r"the wheel of .*app cannot be built"):
        make(checkout)


def test_a_dependency_that_the_lock_lacks(checkout: Path, make: Build) -> None:
    pyproject = checkout / "app/pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("dep>=1", "dep>=2"))
    with pytest.raises(BuildError, match=r"linkrift needs dep>=2, which is 1\.0"):
        make(checkout)


def test_migrations_are_checked(checkout: Path) -> None:
    directory = checkout / "app/migrations"
    (directory / "postgresql/000002_drop.up.sql").write_text("-- linkrift: contract oldest=1\nSELECT 1;\n")
    with pytest.raises(BuildError, match=r"no \.down\.sql belongs to 000002_drop\.up\.sql"):
        read_schema(directory)
    (directory / "postgresql/000002_drop.down.sql").write_text("SELECT 1;\n")
    schema = read_schema(directory)
    assert (schema.level, schema.floor) == (2, 1)
    (directory / "postgresql/000003_more.up.sql").write_text("SELECT 1;\n")
    with pytest.raises(BuildError, match=r"000003_more\.up\.sql: has no header"):
        read_schema(directory)
    assert read_schema(checkout / "nothing").level == 0


def test_an_archive_depends_on_content_alone(tmp_path: Path) -> None:
    archives = []
    for name, mode in (("one", 0o600), ("two", 0o775)):
        tree = tmp_path / name
        for file in ("b/c", "a", "b/" + "long" * 40) if mode == 0o600 else ("b/" + "long" * 40, "a", "b/c"):
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            (tree / file).write_text(file)
            (tree / file).chmod(mode)
            os.utime(tree / file, (mode, mode))
        archives.append(tmp_path / f"{name}.tar.gz")
        pack(tree, "1.0+000000000000", 1000, archives[-1])
    one, two = (archive.read_bytes() for archive in archives)
    assert one == two
    with tarfile.open(archives[0]) as tar:
        entries = tar.getmembers()
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    assert {(entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries} == {(0, 0, "", 1000)}
    assert {(entry.isdir(), entry.mode) for entry in entries} == {(True, 0o755), (False, 0o644)}


def test_a_packed_bundle_that_is_not_whole_is_refused(checkout: Path, make: Build, tmp_path: Path) -> None:
    built = make(checkout)
    damages: list[tuple[Callable[[Path], object], str]] = [
        (lambda tree: (tree / "migrations/postgresql/000001_start.up.sql").write_text(""), "start.up.sql is altered"),
        (lambda tree: (tree / "requirements/cp310-x86_64.txt").unlink(), "cp310-x86_64.txt is missing"),
        (lambda tree: (tree / "more").write_text(""), "more does not belong there"),
    ]
    for number, (damage, finding) in enumerate(damages):
        tree = tmp_path / str(number) / built.release
        shutil.copytree(built.tree, tree)
        damage(tree)
        archive = tmp_path / f"{number}.tar.gz"
        pack(tree, built.release, 0, archive)
        with pytest.raises(BundleError, match=finding):
            verify_archive(archive)
    pack(built.tree, "elsewhere", 0, archive)
    with pytest.raises(BundleError, match="its directory is elsewhere"):
        verify_archive(archive)
    archive.write_bytes(b"nothing")
    with pytest.raises(BundleError, match="cannot be read"):
        verify_archive(archive)
    pack(built.tree / "requirements", "x", 0, archive)
    with pytest.raises(BundleError, match="holds no bundle"):
        verify_archive(archive)


def test_the_command_line(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(__main__, "ROOT", checkout)
    (checkout / "app/tests/unit").mkdir(parents=True)
    (checkout / "app/tests/unit/test_it.py").write_text("def test_it():\n    pass\n")
    options = ["--dist", str(tmp_path / "dist"), "--cache", str(tmp_path / "cache")]
    assert __main__.main(["build", *options]) == 0
    output = capsys.readouterr()
    archive = Path(output.out.splitlines()[-1])
    assert archive.is_file()
    assert "of commit" in output.err
    assert __main__.main(["build", "--json", *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["path"], result["tests"]) == (str(archive), 1)
    for path in (archive, Path(result["tree"])):
        assert __main__.main(["verify", str(path)]) == 0
        assert capsys.readouterr().out.strip() == result["id"]
    assert __main__.main(["build", "--json", "--untested", *options]) == 0
    untested = json.loads(capsys.readouterr().out)
    assert untested["tests"] is None
    # What is tested and what is not are never taken for each other.
    assert untested["id"] != result["id"]
    assert __main__.main(["verify", str(tmp_path / "nothing")]) == 1
    assert "bundle: " in capsys.readouterr().err
