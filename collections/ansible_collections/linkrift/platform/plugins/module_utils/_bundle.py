# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The format of a release bundle: what is in it, how it is named, and whether it is whole.

The builder on the control node, the bundle store and the application hosts all use this one description.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
MIGRATIONS = "migrations/"
INDEX = "index.json"

LARGEST_TEXT = 4 * 1024 * 1024
"""Bytes. SHA256SUMS and manifest.json are read into memory: nothing larger is one of ours."""

LARGEST_FILE = 512 * 1024 * 1024
"""Bytes. No file of a bundle comes near; a server that sends more is not the bundle store."""

_SUMS_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<path>[^\r\n]+)")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.]{0,40}")


class BundleError(Exception):
    """A bundle cannot be used; the message names the file and says what to do."""


@dataclass(frozen=True)
class Target:
    """What the hosts with one Python version and one architecture install."""

    requirements: str
    wheels: tuple[str, ...]
    installed_bytes: int
    """What the wheels unpack to."""


@dataclass(frozen=True)
class Proven:
    """What was tested before the bundle was put together, against the very package that is in it.

    Attributes:
        suite: where the tests are in the sources.
        commit: whose tests they are.
        result: `passed`; nothing else is ever put into a bundle.
        count: how many they were.
    """

    suite: str
    commit: str
    result: str
    count: int


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself. One without `tests` was built without them."""

    name: str
    version: str
    commit: str
    branch: str
    commit_time: str
    dirty: bool
    schema_level: int
    schema_floor: int
    installer: str
    targets: dict[str, Target]
    tests: Proven | None = None

    @classmethod
    def parse(cls, content: bytes) -> Manifest:
        """Read a manifest.

        Raises:
            BundleError: it is malformed, or of a newer format than this code knows.
        """
        try:
            data = json.loads(content)
            if data["format"] != FORMAT:
                msg = (
                    f"{MANIFEST} has format {data['format']!r}, and this collection knows {FORMAT}: "
                    "use the collection that belongs to the bundle"
                )
                raise BundleError(msg)
            return cls(
                name=str(data["name"]),
                version=_checked_version(data["version"]),
                commit=str(data["commit"]),
                branch=str(data["branch"]),
                commit_time=str(data["commit_time"]),
                dirty=bool(data["dirty"]),
                schema_level=int(data["schema_level"]),
                schema_floor=int(data["schema_floor"]),
                installer=checked_path(data["installer"]),
                targets={str(name): _target(value) for name, value in data["targets"].items()},
                tests=_tests(data["tests"]) if data.get("tests") else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = f"{MANIFEST} is malformed ({type(error).__name__}: {error}): build the bundle again"
            raise BundleError(msg) from error

    def render(self) -> bytes:
        """Return the manifest as it is stored: the same facts give the same bytes."""
        data: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "commit": self.commit,
            "branch": self.branch,
            "commit_time": self.commit_time,
            "dirty": self.dirty,
            **({"tests": asdict(self.tests)} if self.tests else {}),
            "schema_level": self.schema_level,
            "schema_floor": self.schema_floor,
            "installer": self.installer,
            "targets": {
                name: {
                    "requirements": target.requirements,
                    "wheels": list(target.wheels),
                    "installed_bytes": target.installed_bytes,
                }
                for name, target in sorted(self.targets.items())
            },
        }
        return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def _target(value: Mapping[str, Any]) -> Target:
    return Target(
        requirements=checked_path(value["requirements"]),
        wheels=tuple(checked_path(wheel) for wheel in value["wheels"]),
        installed_bytes=int(value["installed_bytes"]),
    )


def _tests(value: Mapping[str, Any]) -> Proven:
    return Proven(str(value["suite"]), str(value["commit"]), str(value["result"]), int(value["count"]))


def _checked_version(text: str) -> str:
    if not _VERSION.fullmatch(text):
        msg = f"{text!r} is no version"
        raise ValueError(msg)
    return text


def checked_path(text: str) -> str:
    """Return a path inside a bundle, which cannot lead out of it.

    Raises:
        ValueError: it is absolute, goes up, or is not written in the shortest way.
    """
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or ".." in path.parts or str(path) != text or "\\" in text or "\0" in text:
        msg = f"{text!r} is no path inside a bundle"
        raise ValueError(msg)
    return text


def target_name(python: str, machine: str) -> str:
    """Return the name of a target.

    Args:
        python: version, of which the first two numbers count (`3.11.2`).
        machine: as `uname -m` prints it; a spelling that other systems use is understood.
    """
    major, minor = python.split(".")[:2]
    return f"cp{major}{minor}-{ {'amd64': 'x86_64', 'arm64': 'aarch64'}.get(machine.lower(), machine.lower()) }"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def render_sums(digests: Mapping[str, str]) -> bytes:
    """Return the content of SHA256SUMS, as `sha256sum -c` reads it, for paths and their digests."""
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests)).encode()


def parse_listing(content: bytes) -> dict[str, str]:
    """Return the digest of each path in a list as `render_sums` writes it.

    Raises:
        BundleError: it is not exactly that.
    """
    digests: dict[str, str] = {}
    try:
        for line in content.decode().splitlines():
            match = _SUMS_LINE.fullmatch(line)
            if match is None:
                msg = f"line {line[:80]!r}"
                raise ValueError(msg)
            digests[checked_path(match["path"])] = match["digest"]
    except ValueError as error:
        msg = f"a list of digests is malformed ({error}): build and publish the bundle again"
        raise BundleError(msg) from error
    if render_sums(digests) != content:
        msg = "a list of digests is not sorted, or names a file twice: build and publish the bundle again"
        raise BundleError(msg)
    return digests


def release_id(version: str, sums: bytes) -> str:
    """Return the id of the release that a SHA256SUMS stands for: its content decides it."""
    return f"{version}+{hashlib.sha256(sums).hexdigest()[:12]}"


def check_identity(release: str, sums: bytes, digest: str | None = None) -> dict[str, str]:
    """Return the digests in a SHA256SUMS after making sure that it belongs to a release.

    Args:
        release: id that was asked for.
        sums: content of SHA256SUMS.
        digest: the full digest it must have; the id holds only the first 12 digits.

    Raises:
        BundleError: it belongs to another release or is malformed.
    """
    found = hashlib.sha256(sums).hexdigest()
    if not release.endswith(f"+{found[:12]}"):
        msg = (
            f"{SUMS} of release {release} is altered or belongs to another one (its own id ends in +{found[:12]}): "
            "publish the bundle again, or correct the id"
        )
        raise BundleError(msg)
    if digest is not None and found != digest.lower():
        msg = f"{SUMS} of release {release} has the digest {found}, not the expected {digest.lower()}: do not use it"
        raise BundleError(msg)
    digests = parse_listing(sums)
    if MANIFEST not in digests or SUMS in digests:
        msg = f"{SUMS} of release {release} is not what the builder writes: build and publish the bundle again"
        raise BundleError(msg)
    return digests


def check_manifest(release: str, content: bytes, digests: Mapping[str, str]) -> Manifest:
    """Return the manifest of a release whose SHA256SUMS was checked before.

    Raises:
        BundleError: it is altered, malformed, or names a file that the bundle does not have.
    """
    check_digest(release, MANIFEST, hashlib.sha256(content).hexdigest(), digests)
    manifest = Manifest.parse(content)
    if manifest.version != release.partition("+")[0]:
        msg = f"{MANIFEST} is of version {manifest.version}, the release is {release}: correct the id"
        raise BundleError(msg)
    for name, target in manifest.targets.items():
        for path in (manifest.installer, target.requirements, *target.wheels):
            if path not in digests:
                msg = f"{path} (for {name}) is missing from {SUMS} of release {release}: build the bundle again"
                raise BundleError(msg)
    return manifest


def check_digest(release: str, path: str, found: str, digests: Mapping[str, str]) -> None:
    """Make sure that a file's digest is the one SHA256SUMS has.

    Raises:
        BundleError: it is another one; the message names the file.
    """
    if found != digests[path]:
        msg = (
            f"{path} of release {release} is altered: its sha256 is {found}, {SUMS} says {digests[path]}. "
            "Publish the bundle again and repeat this; nothing of it was installed"
        )
        raise BundleError(msg)


def host_target(release: str, manifest: Manifest, name: str) -> Target:
    """Return what a host with the named Python and architecture installs.

    Raises:
        BundleError: the bundle was not built for it.
    """
    target = manifest.targets.get(name)
    if target is None:
        msg = (
            f"release {release} was built for {', '.join(sorted(manifest.targets)) or 'nothing'}; this host is {name}. "
            "Use a host with a supported Python, or add the target in tools/bundle and build again"
        )
        raise BundleError(msg)
    return target


def host_files(manifest: Manifest, target: Target, digests: Mapping[str, str]) -> list[str]:
    """Return the paths that a host needs of a bundle besides SHA256SUMS and the manifest."""
    migrations = (path for path in digests if path.startswith(MIGRATIONS))
    return sorted({manifest.installer, target.requirements, *target.wheels, *migrations})


def tree_files(root: Path) -> list[str]:
    """Return the path of everything below a directory that is not a directory itself, sorted."""
    return sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or not path.is_dir()
    )


def compare_tree(root: Path, digests: Mapping[str, str], ignored: Iterable[str] = ()) -> list[str]:
    """Return one finding for every altered, missing or extra file of a tree; no finding means that it is whole.

    Args:
        root: directory of the tree.
        digests: the SHA-256 digest of each path that must be there.
        ignored: paths that may be there as well.
    """
    findings = []
    for path, digest in sorted(digests.items()):
        file = root / path
        if file.is_symlink() or not file.is_file():
            findings.append(f"{path} is missing" if not file.is_symlink() else f"{path} is a symbolic link")
        elif sha256_of(file) != digest:
            findings.append(f"{path} is altered")
    allowed = {*digests, *ignored}
    findings.extend(f"{path} does not belong there" for path in tree_files(root) if path not in allowed)
    return findings


def check_tree(root: Path, release: str | None = None) -> tuple[str, Manifest]:
    """Check a whole unpacked bundle and return its id and manifest.

    Args:
        root: directory that holds SHA256SUMS.
        release: id it must have; without one, its version and SHA256SUMS give it.

    Raises:
        BundleError: a file is altered, missing or extra, or the id is another one.
    """
    try:
        sums = (root / SUMS).read_bytes()
        content = (root / MANIFEST).read_bytes()
    except OSError as error:
        msg = f"{root} holds no whole bundle: {error}"
        raise BundleError(msg) from error
    identity = release or release_id(Manifest.parse(content).version, sums)
    digests = check_identity(identity, sums)
    findings = compare_tree(root, digests, ignored=[SUMS])
    if findings:
        msg = f"the bundle of release {identity} in {root} is not whole: {'; '.join(findings)}. Build it again"
        raise BundleError(msg)
    return identity, check_manifest(identity, content, digests)
