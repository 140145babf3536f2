"""What a bundle takes from the checkout: its commit, the application's wheel, the migrations."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import sha256_of
from ansible_collections.linkrift.platform.plugins.module_utils._migrate_files import MigrationError, load_migrations
from tools.bundle import BuildError
from tools.bundle.wheels import Wheel

MAIN_BRANCHES = ("main", "master", "origin/main", "origin/master")

SOURCES = ("app", "tools/bundle/installer.txt")
"""What a bundle is made of: a change that is not in a commit makes it dirty."""


@dataclass(frozen=True)
class Commit:
    """Where the sources come from."""

    sha: str
    branch: str
    time: int
    """Seconds since the epoch. Every time stamp in the bundle is this one."""
    dirty: bool

    @property
    def iso_time(self) -> str:
        """The time in UTC, as the manifest has it."""
        return datetime.fromtimestamp(self.time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _git(checkout: Path, *arguments: str) -> str | None:
    """Return what git prints, or None when it fails.

    `make` may run as root in a checkout that belongs to somebody else, which git refuses without safe.directory.
    """
    command = ["git", "-c", f"safe.directory={checkout}", "--no-optional-locks", "-C", str(checkout), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _branch(checkout: Path, sha: str) -> str:
    """Return a branch that depends on the commit rather than on what happens to be checked out.

    The same commit has to give the same bundle from a branch, from a detached checkout and in a pipeline. So a commit
    of the main branch says so wherever it is built; only another one names the branch that is checked out.
    """
    for name in MAIN_BRANCHES:
        if _git(checkout, "merge-base", "--is-ancestor", sha, name) is not None:
            return name.removeprefix("origin/")
    return _git(checkout, "symbolic-ref", "--short", "--quiet", "HEAD") or "detached"


def read_commit(checkout: Path) -> Commit:
    """Return the commit of a checkout.

    Raises:
        BuildError: it is no git checkout, and SOURCE_DATE_EPOCH does not say what time to use instead.
    """
    sha = _git(checkout, "rev-parse", "--verify", "HEAD^{commit}")
    if sha is None:
        epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
        if not epoch.isdecimal():
            msg = (
                f"{checkout} is no git checkout with a commit: set SOURCE_DATE_EPOCH to the time stamp to use (seconds)"
            )
            raise BuildError(msg)
        return Commit("unknown", "unknown", int(epoch), dirty=True)
    time = _git(checkout, "show", "--no-patch", "--format=%ct", sha)
    changes = _git(
        checkout, "status", "--porcelain", "--untracked-files=all", "--", "app", "tools/bundle/installer.txt"
    )
    if time is None or changes is None:
        msg = f"git cannot read {checkout}: run `git status` there and repair what it says"
        raise BuildError(msg)
    return Commit(sha, _branch(checkout, sha), int(time), dirty=bool(changes))


def build_wheel(app: Path, time: int, destination: Path) -> Wheel:
    """Build the application's wheel; the same sources and time give the same bytes.

    Args:
        app: directory with pyproject.toml.
        time: seconds since the epoch, the time stamp of everything in the wheel.
        destination: directory for the wheel.

    Raises:
        BuildError: hatchling failed; the message holds what it printed.
    """
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(destination)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(time), "LC_ALL": "C.UTF-8"}
    result = subprocess.run(command, cwd=app, env=environment, capture_output=True, text=True, check=False)
    built = sorted(destination.glob("*.whl"))
    if result.returncode != 0 or len(built) != 1:
        msg = f"the wheel of {app} cannot be built:\n{result.stdout}{result.stderr}"
        raise BuildError(msg)
    return Wheel(built[0], sha256_of(built[0]))


@dataclass(frozen=True)
class Schema:
    """The migrations of a release."""

    files: dict[str, Path]
    """Path inside the bundle and the file."""
    level: int
    """Number of the last PostgreSQL migration."""
    floor: int
    """Oldest level whose releases work once all of them are applied; 0 while none is a contract migration."""


def read_schema(migrations: Path) -> Schema:
    """Check and collect the migrations.

    Args:
        migrations: directory with `postgresql` and `clickhouse`.

    Raises:
        BuildError: a file is not usable, or one that undoes another is missing.
    """
    files = {
        f"migrations/{path.relative_to(migrations).as_posix()}": path
        for store in ("clickhouse", "postgresql")
        for path in sorted((migrations / store).glob("*.sql"))
    }
    directory = migrations / "postgresql"
    if not any(directory.glob("*.up.sql")):
        return Schema(files, 0, 0)
    try:
        loaded = load_migrations(directory)
    except MigrationError as error:
        raise BuildError(str(error)) from error
    lonely = [
        migration.label
        for migration in loaded
        if not migration.path.with_name(migration.label.replace(".up.", ".down.")).is_file()
    ]
    if lonely:
        msg = f"no .down.sql belongs to {', '.join(lonely)}: write it"
        raise BuildError(msg)
    return Schema(files, loaded[-1].version, max((migration.oldest or 0) for migration in loaded))
