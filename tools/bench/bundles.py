"""Releases to take live and back: built from this checkout, good ones and bad ones."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.lab import ROOT, LabToolError


@dataclass(frozen=True)
class Bundle:
    """A bundle: its release id, and the archive."""

    id: str
    path: str


def build(directory: Path, version: str, *flags: str) -> Bundle:
    """Build a bundle of a version, as `python -m tools.testing.faulty` does with these flags.

    Raises:
        LabToolError: It cannot be built.
    """
    command = [sys.executable, "-m", "tools.testing.faulty", "--output", str(directory), "--version", version, "--json"]
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabToolError(f"the bundle {version} could not be built:\n{done.stderr[-2000:]}")
    made = json.loads(done.stdout)
    return Bundle(made["id"], made["path"])
