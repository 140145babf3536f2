"""Wheels made by hand, and a pip that takes them from a directory instead of the network."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tools.bundle import BuildError
from tools.bundle.lock import Pin, read_lock
from tools.bundle.targets import BuildTarget


def make_wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    requires: Sequence[str] = (),
    python: str = "",
    tag: str = "py3-none-any",
) -> Path:
    """Write a wheel with nothing but metadata."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-{tag}.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {python}"] if python else []
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA"), "\n".join([*lines, "", ""]))
    return path


def digest_of(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock_of(*wheels: Path) -> str:
    """Return the lock of some wheels."""
    return "".join(
        f"{wheel.name.split('-')[0]}=={wheel.name.split('-')[1]} --hash=sha256:{digest_of(wheel)}\n" for wheel in wheels
    )


def pins_of(*wheels: Path) -> list[Pin]:
    """Return the pins of some wheels."""
    path = wheels[0].parent / "requirements.lock"
    path.write_text(lock_of(*wheels))
    return read_lock(path)


class FakePip:
    """Copies wheels that lie in a directory, and remembers for whom."""

    def __init__(self, index: Path) -> None:
        self.index = index
        self.asked: list[tuple[str, list[str]]] = []

    def __call__(self, target: BuildTarget, requirements: Path, destination: Path) -> None:
        lines = requirements.read_text().splitlines()
        wanted = [line.split(" ")[0] for line in lines]
        self.asked.append((target.name, wanted))
        destination.mkdir()
        for requirement in wanted:
            name, version = requirement.split("==")
            found = sorted(self.index.glob(f"{name}-{version}-*.whl"))
            if not found:
                msg = f"no {requirement}"
                raise BuildError(msg)
            shutil.copy(found[0], destination)
