# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Small bundles, and hosts whose programs only pretend, for the tests of releases."""

from __future__ import annotations

import base64
import ensurepip
import gzip
import hashlib
import json
import platform
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import (
    MANIFEST,
    SUMS,
    BundleError,
    Manifest,
    Target,
    release_id,
    render_sums,
    sha256_of,
    target_name,
    tree_files,
)
from ansible_collections.linkrift.platform.plugins.module_utils._paths import (
    RELEASE_RECORD,
    Layout,
    append_ledger,
    link_atomically,
)

HERE = target_name(platform.python_version(), platform.machine())
"""The target of the machine that runs the tests."""


class Crash(BaseException):
    """Stands for a kill: no handler of ordinary errors sees it."""


@dataclass(frozen=True)
class TinyBundle:
    """A bundle with one wheel."""

    release: str
    tree: Path
    digest: str

    def archive(self, path: Path, inside: str | None = None) -> Path:
        """Pack the tree, below the release's id or another directory."""
        prefix = self.release if inside is None else inside
        with (
            path.open("wb") as raw,
            gzip.GzipFile("", "wb", 0, raw, 0) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as tar,
        ):
            for name in tree_files(self.tree):
                tar.add(self.tree / name, f"{prefix}/{name}" if prefix else name)
        return path


def write_wheel(directory: Path, version: str = "1.0", marker: str = "") -> Path:
    """Write a wheel of the project `linkrift` by hand."""
    info = f"linkrift-{version}.dist-info"
    files = {
        "linkrift/__init__.py": f"MARKER = {marker!r}\n",
        "linkrift/cli.py": "import linkrift\n\n\ndef main():\n    print('hello', linkrift.MARKER)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: linkrift\nVersion: {version}\nRequires-Python: >=3.10\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nlinkrift-api = linkrift.cli:main\n",
    }
    record = "".join(f"{name},{_record_digest(text)},{len(text.encode())}\n" for name, text in files.items())
    path = directory / f"linkrift-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)
    return path


def _record_digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def real_pip() -> Path:
    """Return the pip wheel that Python itself brings; Debian keeps it elsewhere."""
    places = (Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels"))
    return next(path for place in places for path in sorted(place.glob("pip-*.whl")))


def tiny_bundle(
    directory: Path,
    marker: str = "",
    *,
    targets: Sequence[str] = (HERE,),
    pip: Path | None = None,
    installed_bytes: int = 4096,
) -> TinyBundle:
    """Write an unpacked bundle; another marker gives another release."""
    tree = directory / f"bundle-{marker}"
    for name in ("wheels", "requirements", "migrations/postgresql"):
        (tree / name).mkdir(parents=True)
    wheel = write_wheel(tree / "wheels", marker=marker)
    installer = tree / "wheels" / (pip.name if pip else "pip-1.0-py3-none-any.whl")
    installer.write_bytes(pip.read_bytes() if pip else b"no real installer")
    (tree / "migrations/postgresql/000001_start.up.sql").write_text("-- linkrift: expand\nSELECT 1;\n")
    for target in targets:
        text = f"linkrift==1.0 --hash=sha256:{sha256_of(wheel)}\n"
        (tree / "requirements" / f"{target}.txt").write_text(text)
    manifest = Manifest(
        name="linkrift",
        version="1.0",
        commit="c0ffee",
        branch="main",
        commit_time="2026-01-01T00:00:00Z",
        dirty=False,
        schema_level=1,
        schema_floor=0,
        installer=f"wheels/{installer.name}",
        targets={
            target: Target(f"requirements/{target}.txt", (f"wheels/{wheel.name}",), installed_bytes)
            for target in targets
        },
    )
    (tree / MANIFEST).write_bytes(manifest.render())
    return sealed(tree)


def sealed(tree: Path) -> TinyBundle:
    """Write SHA256SUMS for a tree as it is."""
    (tree / SUMS).unlink(missing_ok=True)
    sums = render_sums({name: sha256_of(tree / name) for name in tree_files(tree)})
    (tree / SUMS).write_bytes(sums)
    version = json.loads((tree / MANIFEST).read_bytes())["version"]
    return TinyBundle(release_id(version, sums), tree, hashlib.sha256(sums).hexdigest())


class FakePrograms:
    """Stands for Python and pip: does what an installation needs of them, and counts."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.fail_on = ""

    def __call__(self, command: Sequence[str], variables: dict[str, str]) -> str:
        words = list(command)
        self.commands.append(words)
        if "venv" in words:
            venv = Path(words[-1])
            (venv / "bin").mkdir(parents=True)
            (venv / "lib/python3/site-packages").mkdir(parents=True)
            (venv / "lib64").symlink_to("lib")
            (venv / "bin/python").symlink_to(sys.executable)
        if "install" in words:
            site = Path(words[0]).parent.parent / "lib/python3/site-packages"
            (site / "linkrift.py").write_text("")
            script = Path(words[0]).with_name("linkrift-api")
            script.write_text("#!/bin/sh\n")
            script.chmod(0o775)
        if self.fail_on and self.fail_on in words:
            msg = f"{self.fail_on} failed"
            raise BundleError(msg)
        if words[-1].lstrip().startswith("import json, platform"):
            return json.dumps(
                {
                    "version": platform.python_version(),
                    "machine": platform.machine(),
                    "wide": True,
                    "implementation": "cpython",
                    "libc": ["glibc", "2.36"],
                }
            )
        return ""


def pretend_installed(layout: Layout, release: str, *, complete: bool = True) -> None:
    """Put a release on a host without a bundle."""
    layout.release(release).mkdir(parents=True)
    if complete:
        layout.release_record(release).write_text(json.dumps({"id": release, "target": HERE}))


def use(layout: Layout, service: str, name: str, release: str) -> None:
    """Point a slot or `current` at a release."""
    link = layout.base / service / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link_atomically(link, layout.release(release))


def went_live(layout: Layout, release: str, time: str, service: str = "api", **more: Any) -> None:
    """Write into a ledger that a release became live."""
    layout.ledgers.mkdir(parents=True, exist_ok=True)
    entry = {"time": time, "service": service, "slot": "blue", "release": release, "action": "live", "passed": []}
    append_ledger(layout.ledger(service), {**entry, **more})


def fake_process(layout: Layout, number: int, **traces: str) -> None:
    """Add a process to the host's /proc: `cwd` and `exe` as links, `cmdline` and `maps` as files."""
    home = layout.root / "proc" / str(number)
    home.mkdir(parents=True)
    for name, content in traces.items():
        if name in ("cwd", "exe", "root"):
            (home / name).symlink_to(content)
        else:
            (home / name).write_text(content)


def mode_bits(root: Path) -> set[int]:
    """Return the permissions that occur below a directory, links left out."""
    return {path.stat().st_mode & 0o7777 for path in root.rglob("*") if not path.is_symlink()}


def ids(layout: Layout) -> list[str]:
    """Return the complete releases on a host."""
    return sorted(path.parent.name for path in layout.releases.glob(f"*/{RELEASE_RECORD}"))
