"""Puts a bundle together."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import (
    MANIFEST,
    SUMS,
    BundleError,
    Manifest,
    Proven,
    Target,
    check_tree,
    release_id,
    render_sums,
    sha256_of,
)
from tools.bundle import BuildError
from tools.bundle.archive import pack, verify_archive
from tools.bundle.lock import Pin, pins_for, read_lock
from tools.bundle.project import Commit, Schema, build_wheel, read_commit, read_schema
from tools.bundle.targets import TARGETS, BuildTarget
from tools.bundle.wheels import Cache, Say, Wheel, check_complete, fetch_all

INSTALLER = Path(__file__).with_name("installer.txt")
"""Lock of the pip that goes into the bundle."""

Prove = Callable[[Wheel, Commit], Proven]
"""Tests the application's wheel; raises BuildError when a test fails."""


@dataclass(frozen=True)
class Built:
    """A finished bundle."""

    release: str
    archive: Path
    tree: Path
    sums_digest: str
    """Full SHA-256 of SHA256SUMS, for `digest` of the module `release`."""
    manifest: Manifest


def build(
    checkout: Path,
    dist: Path,
    cache: Cache,
    say: Say,
    keep: int,
    targets: Sequence[BuildTarget] = TARGETS,
    prove: Prove | None = None,
) -> Built:
    """Build the bundle of a checkout, as an archive and as a tree for the bundle store.

    Args:
        checkout: directory that holds `app`.
        dist: where both are put; older ones are removed.
        cache: wheels fetched before.
        say: gets one line for each step.
        keep: bundles to leave in `dist`, this one included.
        targets: the hosts it is for.
        prove: tests what is to be put into it; None: nothing is tested, and the bundle says nothing about it.

    Raises:
        BuildError: something is missing or does not fit together, or a test fails.
        BundleError: what was built is not a whole bundle.
    """
    app = checkout / "app"
    commit = read_commit(checkout)
    if commit.dirty:
        say("app/ holds changes that are not in a commit: the bundle is marked as dirty")
    schema = read_schema(app / "migrations")
    installer = read_lock(INSTALLER)
    lock = read_lock(app / "requirements.lock")
    wanted = {target: [*pins_for(lock, target), *installer] for target in targets}
    dist.mkdir(parents=True, exist_ok=True)
    _clear_unfinished(dist)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=dist) as name:
        own = build_wheel(app, commit.time, Path(name) / "own")
        say(f"{own.path.name} of commit {commit.sha[:12]}")
        tests = prove(own, commit) if prove else None
        fetched = fetch_all(cache, wanted, say)
        tree = Path(name) / "tree"
        manifest = _assemble(tree, own, fetched, installer, schema, commit, tests)
        release = release_id(manifest.version, (tree / SUMS).read_bytes())
        home = _place(tree, dist / release)
    archive = dist / f"linkrift-{release}.tar.gz"
    if not _is_whole(archive, release):
        say(f"packing {archive.name}")
        pack(home, release, commit.time, archive)
    _prune(dist, release, keep, say)
    return Built(release, archive, home, sha256_of(home / SUMS), manifest)


def _assemble(
    tree: Path,
    own: Wheel,
    fetched: dict[BuildTarget, list[Wheel]],
    installer: Iterable[Pin],
    schema: Schema,
    commit: Commit,
    tests: Proven | None,
) -> Manifest:
    """Write every file of a bundle and return its manifest."""
    files = dict(schema.files)
    digests: dict[str, str] = {}
    targets: dict[str, Target] = {}
    installers = {pin.name for pin in installer}
    installer_path = ""
    (tree / "requirements").mkdir(parents=True)
    for target, wheels in sorted(fetched.items()):
        installed = sorted(
            [own, *(wheel for wheel in wheels if wheel.name not in installers)], key=lambda item: item.name
        )
        check_complete(target, installed)
        for wheel in [*wheels, own]:
            path = f"wheels/{wheel.path.name}"
            if digests.setdefault(path, wheel.digest) != wheel.digest:
                msg = f"two files are named {wheel.path.name}: lock one of them"
                raise BuildError(msg)
            files[path] = wheel.path
            if wheel.name in installers:
                installer_path = path
        requirements = f"requirements/{target.name}.txt"
        lines = (f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.digest}\n" for wheel in installed)
        (tree / requirements).write_text("".join(lines), encoding="utf-8")
        digests[requirements] = sha256_of(tree / requirements)
        targets[target.name] = Target(
            requirements,
            tuple(f"wheels/{wheel.path.name}" for wheel in installed),
            sum(wheel.installed_bytes() for wheel in installed),
        )
    manifest = Manifest(
        name=own.name,
        version=str(own.version),
        commit=commit.sha,
        branch=commit.branch,
        commit_time=commit.iso_time,
        dirty=commit.dirty,
        schema_level=schema.level,
        schema_floor=schema.floor,
        installer=installer_path,
        targets=targets,
        tests=tests,
    )
    for path, source in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, tree / path)
        if path not in digests:
            digests[path] = sha256_of(source)
    (tree / MANIFEST).write_bytes(manifest.render())
    digests[MANIFEST] = sha256_of(tree / MANIFEST)
    (tree / SUMS).write_bytes(render_sums(digests))
    return manifest


def _place(tree: Path, home: Path) -> Path:
    """Move a finished tree to its place, or keep the one that is there when it is whole."""
    check_tree(tree)
    if home.exists():
        try:
            check_tree(home, home.name)
        except BundleError:
            shutil.rmtree(home)
        else:
            home.touch()
            return home
    return tree.rename(home)


def _is_whole(archive: Path, release: str) -> bool:
    try:
        return archive.exists() and verify_archive(archive)[0] == release
    except BundleError:
        return False


def _clear_unfinished(dist: Path) -> None:
    """Remove what a build that was killed left behind."""
    for leftover in dist.glob(".building-*"):
        shutil.rmtree(leftover)


def _prune(dist: Path, release: str, keep: int, say: Say) -> None:
    """Remove the bundles that were built longest ago."""
    trees = [path for path in dist.iterdir() if path.is_dir() and (path / SUMS).is_file() and path.name != release]
    for tree in sorted(trees, key=lambda path: path.stat().st_mtime, reverse=True)[max(keep - 1, 0) :]:
        say(f"removing the older bundle {tree.name}")
        (dist / f"linkrift-{tree.name}.tar.gz").unlink(missing_ok=True)
        shutil.rmtree(tree)
