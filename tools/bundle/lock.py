"""Reads a requirements file that pins everything with hashes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools.bundle import BuildError
from tools.bundle.targets import BuildTarget


@dataclass(frozen=True)
class Pin:
    """One version of one project, and the files of it that are trusted."""

    name: str
    version: Version
    hashes: frozenset[str]
    """SHA-256 digests, in hexadecimal."""
    marker: Marker | None = None

    def line(self) -> str:
        """Return the pin as a line of a requirements file, without its marker."""
        return " ".join(
            [f"{self.name}=={self.version}", *(f"--hash=sha256:{digest}" for digest in sorted(self.hashes))]
        )


def read_lock(path: Path) -> list[Pin]:
    """Return the pins of a lock.

    Raises:
        BuildError: the file is missing, or a line pins no version or no hash.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"the lock cannot be read: {error}"
        raise BuildError(msg) from error
    lines = text.replace("\\\n", " ").splitlines()
    return [_pin(line.strip(), path) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _pin(line: str, path: Path) -> Pin:
    head, *options = line.partition(" #")[0].split(" --hash=")
    try:
        requirement = Requirement(head.strip())
    except InvalidRequirement as error:
        msg = f"{path}: {head.strip()!r} is not understood ({error}); lock it again"
        raise BuildError(msg) from error
    specifiers = list(requirement.specifier)
    digests = frozenset(option.strip().removeprefix("sha256:") for option in options)
    if len(specifiers) != 1 or specifiers[0].operator != "==" or specifiers[0].version.endswith(".*"):
        msg = f"{path}: {requirement.name} is not pinned to one version; lock it again"
        raise BuildError(msg)
    if not digests or any(len(digest) != 64 for digest in digests):
        msg = f"{path}: {requirement.name} has no sha256 hashes; lock it again with --generate-hashes"
        raise BuildError(msg)
    return Pin(canonicalize_name(requirement.name), Version(specifiers[0].version), digests, requirement.marker)


def pins_for(pins: Iterable[Pin], target: BuildTarget) -> list[Pin]:
    """Return what a target needs of a lock, sorted by name.

    Raises:
        BuildError: the lock pins two versions of one project for patch versions of the same Python.
    """
    chosen: dict[str, Pin] = {}
    for pin in pins:
        if not target.needs(pin.marker):
            continue
        known = chosen.setdefault(pin.name, pin)
        if known.version != pin.version:
            msg = (
                f"the lock splits {pin.name} within Python {target.python} ({known.version} and {pin.version}); "
                "a bundle has one set of wheels for each minor version: constrain it and lock again"
            )
            raise BuildError(msg)
    return [chosen[name] for name in sorted(chosen)]
