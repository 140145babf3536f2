"""Tests the application's wheel before it goes into a bundle.

What the manifest says of it depends on the commit alone, so that the same commit gives the same bytes everywhere: a
wheel whose tests fail goes into no bundle, and how long they took, where, and when, is nowhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import Proven, sha256_of
from tools.bundle import BuildError
from tools.bundle.project import Commit
from tools.bundle.wheels import Say, Wheel

SUITE: Final = "app/tests/unit"
_SETTINGS = ("conftest.py", "pyproject.toml")
_LAST_LINES = 40


class Proof:
    """Runs the unit tests of a checkout against a wheel, once for each wheel and set of tests."""

    def __init__(self, checkout: Path, cache: Path, say: Say) -> None:
        """Prepare.

        Args:
            checkout: directory that holds `app`.
            cache: directory where it is noted what passed.
            say: gets one line for each step.
        """
        self._checkout = checkout
        self._cache = cache / "tested"
        self._say = say

    def __call__(self, wheel: Wheel, commit: Commit) -> Proven:
        """Return what was tested.

        Raises:
            BuildError: a test fails, is skipped, or cannot be run.
        """
        note = self._cache / f"{self._key(wheel)}.json"
        try:
            count = int(json.loads(note.read_text(encoding="utf-8"))["count"])
        except (OSError, ValueError, KeyError, TypeError):
            count = self._run(wheel)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps({"count": count}) + "\n", encoding="utf-8")
        self._say(f"{count} tests of {SUITE} passed with it")
        return Proven(SUITE, commit.sha, "passed", count)

    def _key(self, wheel: Wheel) -> str:
        """Return a name for what a result depends on."""
        files = [path for path in (self._checkout / SUITE).rglob("*") if path.suffix != ".pyc" and path.is_file()]
        files += [path for name in _SETTINGS if (path := self._checkout / name).is_file()]
        parts = [sys.version, wheel.digest]
        parts += [f"{path.relative_to(self._checkout)} {sha256_of(path)}" for path in sorted(files)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _run(self, wheel: Wheel) -> int:
        """Run the tests; return how many passed."""
        self._say(f"testing it ({SUITE})")
        with tempfile.TemporaryDirectory(prefix="linkrift-tested-") as name:
            package = Path(name) / "package"
            with zipfile.ZipFile(wheel.path) as archive:
                archive.extractall(package)
            command = [
                *(sys.executable, "-B", "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider"),
                *("-m", "not servers", "-o", f"pythonpath=. {package} collections", SUITE),
            ]
            environment = os.environ | {"HYPOTHESIS_STORAGE_DIRECTORY": str(Path(name) / "hypothesis")}
            done = subprocess.run(
                command,
                cwd=self._checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        lines = (done.stdout + done.stderr).splitlines()
        # How many are skipped depends on the machine, and the bundle would, too.
        passed = re.fullmatch(r"(\d+) passed in .*", done.stdout.splitlines()[-1]) if done.returncode == 0 else None
        if not passed:
            end = "\n".join(lines[-_LAST_LINES:])
            msg = f"not all tests of {SUITE} pass here, so there is no bundle (--untested makes one):\n{end}"
            raise BuildError(msg)
        return int(passed[1])
