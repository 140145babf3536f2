# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Installs a release from a bundle: its own virtual environment, without a network, from verified files only.

A virtual environment cannot be moved, so it is built where it stays. `release.json` is written last: a tree without
it is incomplete, is not used by anyone and is made again. What was fetched and verified before an interruption is not
fetched again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import (
    MANIFEST,
    MIGRATIONS,
    SUMS,
    BundleError,
    Manifest,
    Target,
    check_identity,
    check_manifest,
    compare_tree,
    host_files,
    host_target,
    parse_listing,
    render_sums,
    sha256_of,
    target_name,
    tree_files,
)
from ansible_collections.linkrift.platform.plugins.module_utils._bundle_source import Source, copy_files, missing_of
from ansible_collections.linkrift.platform.plugins.module_utils._paths import (
    RELEASE_RECORD,
    Layout,
    write_atomically,
)
from ansible_collections.linkrift.platform.plugins.module_utils._release_use import (
    fetched_parts,
    processes_of,
    read_record,
)

LISTING = "installed.sha256"
"""Digest of every file of an installed release, as `sha256sum -c` reads it."""

SPARE = 64 * 1024 * 1024
"""Bytes that stay free on the disk."""

STEP_DEADLINE = 600
"""Seconds that one program may take. It takes a few; a disk that hangs must not hang the rollout."""

_PIP_OPTIONS = (
    *("--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--no-compile"),
    *("--no-index", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
)

_PROBE = """
import json, platform, sys
print(json.dumps({
    "version": platform.python_version(), "machine": platform.machine(), "wide": sys.maxsize > 2**32,
    "implementation": sys.implementation.name, "libc": platform.libc_ver(),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """The Python a release is installed for."""

    path: Path
    version: str
    target: str


@dataclass
class Installed:
    """What an installation came to."""

    fetched: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find_interpreter(path: Path) -> Interpreter:
    """Ask a Python what it is.

    Raises:
        BundleError: it does not run, or no bundle can be built for its kind.
    """
    try:
        output = _run([str(path), "-I", "-c", _PROBE], {})
        facts = json.loads(output)
    except (BundleError, ValueError) as error:
        msg = f"{path} does not work as a Python interpreter ({error}): install python3, or correct the option python"
        raise BundleError(msg) from error
    if facts["implementation"] != "cpython" or not facts["wide"] or facts["libc"][0] != "glibc":
        msg = f"{path} is no 64-bit CPython on glibc, which bundles are built for: correct the option python"
        raise BundleError(msg)
    # Resolved: the tree belongs to this minor version, whatever python3 means after an upgrade of the system.
    return Interpreter(path.resolve(), facts["version"], target_name(facts["version"], facts["machine"]))


def flaws(layout: Layout, release: str, interpreter: Interpreter, *, verify: bool) -> list[str]:
    """Return what is wrong with an installed release; nothing, when it can be used as it is.

    Args:
        layout: the host.
        release: id.
        interpreter: the Python it should be for.
        verify: read every file, too.
    """
    record = read_record(layout, release)
    tree = layout.release(release)
    if record is None:
        return [f"{tree} has no valid {RELEASE_RECORD}"]
    if record.get("target") != interpreter.target:
        return [f"it was installed for {record.get('target')}, and this host is {interpreter.target}"]
    if not (tree / "venv/bin/python").exists():
        return ["venv/bin/python is missing"]
    if not verify:
        return []
    try:
        listing = (tree / LISTING).read_bytes()
        if sha256_of(tree / LISTING) != record.get("listing"):
            return [f"{LISTING} is altered"]
    except OSError as error:
        return [f"{LISTING} cannot be read ({error.strerror})"]
    links = record.get("links")
    if not isinstance(links, dict) or links != _links(tree):
        return ["the links to the interpreter in venv are altered"]
    return compare_tree(tree, parse_listing(listing), ignored=[LISTING, RELEASE_RECORD, *links])


def _links(tree: Path) -> dict[str, str]:
    """Return the symbolic links that `venv` makes, and where they lead."""
    names = {"venv/lib64", *(path.relative_to(tree).as_posix() for path in (tree / "venv/bin").glob("python*"))}
    return {name: str((tree / name).readlink()) for name in sorted(names) if (tree / name).is_symlink()}


@dataclass
class Installation:
    """One release on its way to a host. The caller holds the lock of the releases."""

    layout: Layout
    release: str
    source: Source
    interpreter: Interpreter
    digest: str | None = None
    step: Callable[[str], None] = lambda _name: None
    """Called with the name of each step before it is done."""

    @property
    def tree(self) -> Path:
        """Where the release stays."""
        return self.layout.release(self.release)

    @property
    def parts(self) -> Path:
        """Where fetched files wait."""
        return fetched_parts(self.layout) / self.release

    def run(self) -> Installed:
        """Install the release.

        Raises:
            BundleError: the bundle cannot be used, or something of the host is in the way.
            OSError: a file cannot be written.
        """
        self.step("check")
        self._refuse_running()
        self.step("describe")
        sums = self.source.text(SUMS)
        digests = check_identity(self.release, sums, self.digest)
        content = self.source.text(MANIFEST)
        manifest = check_manifest(self.release, content, digests)
        target = host_target(self.release, manifest, self.interpreter.target)
        self.step("room")
        self.parts.mkdir(mode=0o755, parents=True, exist_ok=True)
        paths = host_files(manifest, target, digests)
        missing = missing_of(paths, digests, self.parts)
        self._check_room(target)
        self.step("fetch")
        self.source.collect(missing, digests, self.parts)
        self.step("clear")
        if self.tree.exists():
            self.layout.release_record(self.release).unlink(missing_ok=True)
            shutil.rmtree(self.tree)
        self.step("files")
        self.tree.mkdir(mode=0o755)
        (self.tree / SUMS).write_bytes(sums)
        (self.tree / MANIFEST).write_bytes(content)
        copy_files([path for path in paths if path.startswith(MIGRATIONS)], self.parts, self.tree)
        installed = Installed(fetched=missing)
        self._build(manifest, target, installed)
        self.step("record")
        self._record(manifest)
        self.step("tidy")
        shutil.rmtree(self.parts)
        return installed

    def _refuse_running(self) -> None:
        """Never take a tree away from a process that runs it, however damaged the tree is."""
        running = processes_of(self.layout).get(self.release) if self.tree.exists() else None
        if running:
            numbers = ", ".join(str(number) for number in sorted(running))
            msg = (
                f"release {self.release} is damaged or incomplete and has to be installed again, but is in use by "
                f"process {numbers}: stop the slot that runs it (module slot, state=stopped), then repeat this"
            )
            raise BundleError(msg)

    def _check_room(self, target: Target) -> None:
        """Make sure that the disk has room: the wheels, what they unpack to, and half of that again compiled."""
        disk = os.statvfs(self.parts)
        free = disk.f_bavail * disk.f_frsize
        needed = target.installed_bytes * 2 + SPARE
        if free < needed:
            msg = (
                f"release {self.release} needs {needed / 1e6:.0f} MB below {self.layout.releases}, and "
                f"{free / 1e6:.0f} MB are free: remove old releases (module release, state=pruned) or enlarge the disk"
            )
            raise BundleError(msg)

    def _build(self, manifest: Manifest, target: Target, installed: Installed) -> None:
        """Make the virtual environment, as a polite neighbour of the slots that serve."""
        venv = self.tree / "venv"
        python = str(venv / "bin/python")
        scratch = self.parts / "tmp"
        scratch.mkdir(exist_ok=True)
        self.step("venv")
        _run([str(self.interpreter.path), "-I", "-m", "venv", "--without-pip", str(venv)], {})
        self.step("wheels")
        pip = [python, "-I", "-B", str(self.parts / manifest.installer / "pip"), "--isolated", "install", *_PIP_OPTIONS]
        wheels = ["--find-links", str(self.parts / "wheels"), "--requirement", str(self.parts / target.requirements)]
        _run([*pip, *wheels], {"TMPDIR": str(scratch), "PIP_CONFIG_FILE": os.devnull})
        self.step("compile")
        # The services may not write here: without this, every start would compile everything again.
        try:
            _run([python, "-I", "-m", "compileall", "-q", str(venv / "lib")], {})
        except BundleError as error:
            installed.warnings.append(f"not everything could be compiled, so services start more slowly: {error}")
        self.step("import")
        _run([python, "-I", "-B", "-c", f"import {manifest.name}"], {})
        self.step("seal")
        self._seal()

    def _seal(self) -> None:
        """Make everything readable to all and writable to root alone, and list what there is."""
        for directory, _folders, names in os.walk(self.tree):
            Path(directory).chmod(0o755)
            for name in names:
                path = Path(directory, name)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        links = _links(self.tree)
        digests = {path: sha256_of(self.tree / path) for path in tree_files(self.tree) if path not in links}
        (self.tree / LISTING).write_bytes(render_sums(digests))
        (self.tree / LISTING).chmod(0o644)

    def _record(self, manifest: Manifest) -> None:
        """Write the mark that makes the release usable, once everything else is on the disk."""
        record = {
            "id": self.release,
            "version": manifest.version,
            "commit": manifest.commit,
            "branch": manifest.branch,
            "commit_time": manifest.commit_time,
            "dirty": manifest.dirty,
            "schema_level": manifest.schema_level,
            "schema_floor": manifest.schema_floor,
            "installed_at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "python": self.interpreter.version,
            "target": self.interpreter.target,
            "listing": sha256_of(self.tree / LISTING),
            "links": _links(self.tree),
        }
        os.sync()
        write_atomically(self.layout.release_record(self.release), json.dumps(record, indent=2) + "\n")


def _run(command: Sequence[str], variables: dict[str, str]) -> str:
    """Run a program with a lower priority and nothing of the caller's environment; return what it printed.

    It ends when this process is killed, and until it has ended it holds the lock of the releases: no run meets a pip
    that an earlier one left behind.

    Raises:
        BundleError: it failed; the message holds the end of what it said.
    """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **variables}
    try:
        result = subprocess.run(
            ["/usr/bin/setpriv", "--pdeathsig", "KILL", "/usr/bin/nice", "-n", "10", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            close_fds=False,
            cwd="/",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=STEP_DEADLINE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"{command[0]} cannot be run: {error}"
        raise BundleError(msg) from error
    if result.returncode != 0:
        lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
        msg = f"{' '.join(command[:4])} … ended with {result.returncode}: {' | '.join(lines[-6:]) or 'no message'}"
        raise BundleError(msg)
    return result.stdout
