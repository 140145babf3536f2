"""Fetches the locked wheels of every target, once: afterwards they come from a cache that checks itself."""

from __future__ import annotations

import email.parser
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import sha256_of
from ansible_collections.linkrift.platform.plugins.module_utils._paths import exclusive, write_atomically
from tools.bundle import BuildError
from tools.bundle.lock import Pin
from tools.bundle.targets import GLIBC, BuildTarget

AT_ONCE = 3
"""Downloads that run side by side."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wheel:
    """A wheel on this machine."""

    path: Path
    digest: str

    @property
    def name(self) -> str:
        """Normalised name of the project."""
        return parse_wheel_filename(self.path.name)[0]

    @property
    def version(self) -> Version:
        """Version in the file name."""
        return parse_wheel_filename(self.path.name)[1]

    def installed_bytes(self) -> int:
        """Return what the wheel unpacks to, in bytes."""
        with zipfile.ZipFile(self.path) as archive:
            return sum(entry.file_size for entry in archive.infolist())

    def requires(self) -> tuple[SpecifierSet, list[Requirement]]:
        """Return the Pythons that the wheel runs on, and what it depends on."""
        with zipfile.ZipFile(self.path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = email.parser.BytesParser().parsebytes(archive.read(entry), headersonly=True)
        requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
        return SpecifierSet(metadata.get("Requires-Python", "")), requirements


def default_cache() -> Path:
    """Return the directory of the cache: XDG_CACHE_HOME, or .cache in the home directory."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "linkrift" / "bundle"


class Cache:
    """Wheels by digest, and which of them a set of pins was resolved to."""

    def __init__(self, directory: Path, say: Say) -> None:
        self._directory = directory
        self._say = say
        for name in ("wheels", "resolved", "incoming"):
            (directory / name).mkdir(parents=True, exist_ok=True)

    def locked(self) -> AbstractContextManager[None]:
        """Keep other builders out; what one that was killed left behind can be cleared then."""
        return exclusive(self._directory / ".lock", deadline=900)

    def clear_incoming(self) -> None:
        """Remove what an interrupted download left."""
        for leftover in (self._directory / "incoming").iterdir():
            shutil.rmtree(leftover)

    def fetch(self, target: BuildTarget, pins: Sequence[Pin]) -> list[Wheel]:
        """Return the wheels of the pins for a target; what is missing or damaged in the cache is downloaded.

        Raises:
            BuildError: a wheel does not exist for the target, has another digest than the lock, or cannot be fetched.
        """
        record = self._directory / "resolved" / f"{_key(target, pins)}.json"
        known = self._known(record)
        wheels = [self._cached(pin, *known[pin.name]) if pin.name in known else None for pin in pins]
        missing = [pin for pin, wheel in zip(pins, wheels, strict=True) if wheel is None]
        if missing:
            self._say(f"{target.name}: fetching {len(missing)} of {len(pins)} wheels")
            fetched = self._download(target, missing)
            wheels = [wheel or fetched[pin.name] for pin, wheel in zip(pins, wheels, strict=True)]
        found = [wheel for wheel in wheels if wheel is not None]
        if missing:
            names = {wheel.name: [wheel.path.name, wheel.digest] for wheel in found}
            write_atomically(record, json.dumps(names, indent=1, sort_keys=True))
        return found

    def _known(self, record: Path) -> dict[str, tuple[str, str]]:
        try:
            entries = json.loads(record.read_text(encoding="utf-8"))
            return {name: (Path(file).name, digest) for name, (file, digest) in entries.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            self._say(f"{record.name} in the cache is damaged; resolving again")
            return {}

    def _cached(self, pin: Pin, file: str, digest: str) -> Wheel | None:
        path = self._directory / "wheels" / digest / file
        if digest not in pin.hashes or not path.is_file():
            return None
        if sha256_of(path) != digest:
            self._say(f"{file} in the cache is damaged; fetching it again")
            shutil.rmtree(path.parent)
            return None
        return Wheel(path, digest)

    def _download(self, target: BuildTarget, pins: Sequence[Pin]) -> dict[str, Wheel]:
        with tempfile.TemporaryDirectory(dir=self._directory / "incoming") as name:
            incoming = Path(name)
            wanted = incoming / "requirements.txt"
            wanted.write_text("".join(f"{pin.line()}\n" for pin in pins), encoding="utf-8")
            _run_pip(target, wanted, incoming / "wheels")
            found = [Wheel(path, sha256_of(path)) for path in sorted((incoming / "wheels").iterdir())]
            by_name = {wheel.name: wheel for wheel in found}
            return {pin.name: self._keep(pin, by_name.get(canonicalize_name(pin.name)), target) for pin in pins}

    def _keep(self, pin: Pin, wheel: Wheel | None, target: BuildTarget) -> Wheel:
        if wheel is None or wheel.version != pin.version or wheel.digest not in pin.hashes:
            msg = f"pip brought no file of {pin.name}=={pin.version} for {target.name} that the lock trusts"
            raise BuildError(msg)
        home = self._directory / "wheels" / wheel.digest
        home.mkdir(exist_ok=True)
        return Wheel(wheel.path.replace(home / wheel.path.name), wheel.digest)


def _key(target: BuildTarget, pins: Iterable[Pin]) -> str:
    text = "\n".join([target.name, *target.platforms, *(pin.line() for pin in pins)])
    return hashlib.sha256(text.encode()).hexdigest()


def _run_pip(target: BuildTarget, requirements: Path, destination: Path) -> None:
    """Download wheels for another machine than this one.

    Markers were evaluated before: pip would evaluate them for the Python that runs it.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--implementation", "cp"]
    command += ["--python-version", target.python, "--abi", target.abi, "--abi", "abi3", "--abi", "none"]
    for platform in target.platforms:
        command += ["--platform", platform]
    command += ["--dest", str(destination), "--requirement", str(requirements)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        errors = [line for line in result.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        advice = (
            "A digest that does not match: find out why before locking again. No matching version: the project has no "
            f"wheel for Python {target.python} on {target.machine} with glibc 2.{max(GLIBC)}; choose another version "
            "in app/pyproject.toml and lock again. No network: repeat it; what came is kept."
        )
        detail = "".join(f"  {line}\n" for line in errors[-12:])
        msg = f"the wheels for {target.name} cannot be fetched:\n{detail}{advice}"
        raise BuildError(msg)


def fetch_all(
    cache: Cache, wanted: dict[BuildTarget, list[Pin]], say: Say, at_once: int = AT_ONCE
) -> dict[BuildTarget, list[Wheel]]:
    """Return the wheels of every target, several targets at a time.

    Raises:
        BuildError: one of them failed; the others were completed.
    """
    with cache.locked(), ThreadPoolExecutor(at_once) as pool:
        cache.clear_incoming()
        running = {target: pool.submit(cache.fetch, target, pins) for target, pins in wanted.items()}
        fetched: dict[BuildTarget, list[Wheel]] = {}
        for target, future in running.items():
            fetched[target] = future.result()
            size = sum(wheel.path.stat().st_size for wheel in fetched[target])
            say(f"{target.name}: {len(fetched[target])} wheels, {size / 1e6:.1f} MB")
    return fetched


def check_complete(target: BuildTarget, wheels: Sequence[Wheel]) -> None:
    """Make sure that a target's wheels run on its Python and have everything that they depend on.

    Raises:
        BuildError: one does not, or something is missing or of a wrong version.
    """
    versions = {wheel.name: wheel.version for wheel in wheels}
    metadata = {wheel.name: wheel.requires() for wheel in wheels}
    extras: dict[str, set[str]] = {name: {""} for name in versions}
    findings = {
        f"{name} does not run on Python {target.python} ({pythons})"
        for name, (pythons, _) in metadata.items()
        if not any(pythons.contains(environment["python_full_version"]) for environment in target.environments())
    }
    queue = [(name, "") for name in versions]
    while queue:
        name, extra = queue.pop()
        for requirement in metadata[name][1]:
            if not target.needs(requirement.marker, extra):
                continue
            needed = canonicalize_name(requirement.name)
            if needed not in versions or not requirement.specifier.contains(versions[needed], prereleases=True):
                findings.add(f"{name} needs {requirement}, which is {versions.get(needed, 'not there')}")
                continue
            queue += [(needed, new) for new in requirement.extras - extras[needed]]
            extras[needed] |= requirement.extras
    if findings:
        msg = f"the wheels for {target.name} do not fit together: {'; '.join(sorted(findings))}. Lock again"
        raise BuildError(msg)
