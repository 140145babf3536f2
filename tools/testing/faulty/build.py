"""Builds the bundle of a changed copy of the application, and damages bundles."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.bundle import BuildError
from tools.bundle.archive import pack
from tools.bundle.build import Built, build
from tools.bundle.project import read_commit, read_schema
from tools.bundle.targets import TARGETS, BuildTarget
from tools.bundle.wheels import Cache, Say

OVERLAY: Final = Path(__file__).with_name("switchable_faults.py")
HOOK: Final = f"\nfrom linkrift import {OVERLAY.stem}\n\n{OVERLAY.stem}.install()\n"
LAB_TARGETS: Final = tuple(target for target in TARGETS if target.name in ("cp311-x86_64", "cp313-x86_64"))
"""Debian 12 and 13, as the lab has them: what other hosts need would be copied to each of these for nothing."""

BRANCH: Final = "test-only"
"""What the manifest says, so that nobody takes such a release for one of ours."""

FAILING: Final = """\
-- linkrift: expand
-- The table must be gone again: the statement after it fails.
CREATE TABLE left_behind_by_a_failure (id bigint);
SELECT 1 / 0;
"""

Damage = Callable[[Built], None]


@dataclass(frozen=True)
class Wish:
    """Which bundle to build.

    Attributes:
        version: the application's.
        faults: with the module that makes it go wrong.
        failing_migration: with one more migration, which fails.
        targets: the hosts it is for.
    """

    version: str
    faults: bool = True
    failing_migration: bool = False
    targets: Sequence[BuildTarget] = LAB_TARGETS


@dataclass(frozen=True)
class Made:
    """A bundle that was put where it was wanted; `digest` is that of its SHA256SUMS."""

    release: str
    archive: Path
    digest: str


def make(checkout: Path, wish: Wish, output: Path, cache: Cache, say: Say, damage: Damage | None = None) -> Made:
    """Build a bundle, damage it when told so, and put it into a directory.

    Args:
        checkout: directory that holds `app`, of a git repository.
        wish: what to build.
        output: where it is put; nothing else there is touched.
        cache: wheels fetched before.
        say: gets one line for each step.
        damage: done to the finished bundle.

    Raises:
        BuildError: something is missing or does not fit together.
        BundleError: what was built is not a whole bundle.
    """
    with tempfile.TemporaryDirectory(prefix="linkrift-faulty-") as name:
        copy = Path(name) / "checkout"
        change(checkout / "app", copy / "app", wish)
        _commit(copy, read_commit(checkout).time)
        built = build(copy, Path(name) / "dist", cache, say, keep=1, targets=wish.targets)
        if damage is not None:
            damage(built)
        output.mkdir(parents=True, exist_ok=True)
        archive = output / built.archive.name
        incoming = archive.with_name(f".{archive.name}.new")
        try:
            shutil.copyfile(built.archive, incoming)
            incoming.replace(archive)
        finally:
            incoming.unlink(missing_ok=True)
        return Made(built.release, archive, built.sums_digest)


def change(app: Path, copy: Path, wish: Wish) -> None:
    """Copy what a bundle is made of, with the wished changes.

    Raises:
        BuildError: pyproject.toml states no version.
    """
    for part in ("src", "migrations"):
        shutil.copytree(app / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(app / "requirements.lock", copy / "requirements.lock")
    text = (app / "pyproject.toml").read_text(encoding="utf-8")
    text, found = re.subn(r'(?m)^version = ".*"$', f'version = "{wish.version}"', text, count=1)
    if not found:
        msg = f'{app / "pyproject.toml"} has no line `version = "…"` to change'
        raise BuildError(msg)
    (copy / "pyproject.toml").write_text(text, encoding="utf-8")
    if wish.faults:
        package = copy / "src/linkrift"
        shutil.copyfile(OVERLAY, package / OVERLAY.name)
        with (package / "__init__.py").open("a", encoding="utf-8") as stream:
            stream.write(HOOK)
    if wish.failing_migration:
        number = read_schema(copy / "migrations").level + 1
        directory = copy / "migrations/postgresql"
        (directory / f"{number:06d}_fail.up.sql").write_text(FAILING, encoding="utf-8")
        (directory / f"{number:06d}_fail.down.sql").write_text("DROP TABLE left_behind_by_a_failure;\n")


def _commit(copy: Path, time: int) -> None:
    """Make the copy a repository of its own: the builder asks it for commit, branch and time."""
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    date = f"{time} +0000"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for arguments in (
        ["init", "--quiet", f"--initial-branch={BRANCH}"],
        ["add", "--all", "--force"],
        ["commit", "--quiet", "--message", "A release for tests"],
    ):
        command = ["git", *identity, "-C", str(copy), *arguments]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            msg = f"git {arguments[0]} failed:\n{result.stderr}"
            raise BuildError(msg)


def truncate(built: Built) -> None:
    """Cut off the last third of a bundle, as a transfer that broke off does."""
    os.truncate(built.archive, built.archive.stat().st_size * 2 // 3)


def alter(built: Built) -> None:
    """Change one byte of the application's wheel, and nothing else."""
    wheel = built.tree / "wheels" / f"linkrift-{built.manifest.version}-py3-none-any.whl"
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)
    pack(built.tree, built.release, 0, built.archive)
