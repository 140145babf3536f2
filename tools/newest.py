"""Runs the collection's tests with the newest ansible-core, where the machine has a Python that it needs.

The lock has two ends: ansible-core 2.19 for Python 3.11, which Debian 12 brings, and the newest for Python 3.12 and
later. This makes a second virtual environment from the same lock and runs the sanity and unit tests in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".ansible" / "venv-newest"
LOCK = ROOT / "requirements.lock"
# NEWER_PYTHON names one that is not on the PATH.
PYTHONS = (os.environ.get("NEWER_PYTHON", "python3.14"), "python3.13", "python3.12")
COLLECTION = "collections/ansible_collections/linkrift/platform"


def newer_python() -> str | None:
    """Return the newest Python above 3.11 that starts (a version manager's shim may exist and not start)."""
    for name in PYTHONS:
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    return None


def prepare(python: str) -> None:
    """Make the virtual environment anew, unless it was finished from this very lock."""
    digest = hashlib.sha256(LOCK.read_bytes() + python.encode()).hexdigest()
    mark = ENVIRONMENT / "lock.sha256"
    if mark.exists() and mark.read_text() == digest:
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([python, "-m", "venv", ENVIRONMENT], check=True)
    pip = [str(ENVIRONMENT / "bin" / "pip"), "install", "--quiet", "--require-hashes", "-r", str(LOCK)]
    subprocess.run(pip, check=True)
    mark.write_text(digest)


def main() -> int:
    """Run sanity and unit tests; exit 0 with a word when there is no newer Python."""
    python = newer_python()
    if python is None:
        print(f"no {' or '.join(PYTHONS)} on this machine: the newest ansible-core was not tried")
        return 0
    prepare(python)
    own = str(ENVIRONMENT / "bin" / "python")
    for command in (
        [str(Path(own).with_name("ansible")), "--version"],
        [own, "-m", "tools.sanity"],
        [own, "-m", "pytest", "-q", f"{COLLECTION}/tests/unit"],
        [
            str(Path(own).with_name("ansible-playbook")),
            "--syntax-check",
            "-i",
            "inventories/production",
            "playbooks/site.yml",
        ],
    ):
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
