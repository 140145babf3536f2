"""Runs `ansible-test sanity` on the collection where only package registries can be reached.

ansible-test builds virtual environments without pip and fetches a bootstrap script for it from a site of its own.
Here the script it finds in its cache is a few lines that use Python's own `ensurepip`. The cache lies in the project,
not in the user's home.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = ROOT / "collections" / "ansible_collections" / "linkrift" / "platform"
HOME = ROOT / ".ansible" / "sanity-home"

BOOTSTRAP = """\
import ensurepip
import sys

if __name__ == "__main__":
    sys.exit(ensurepip.bootstrap() and 1)
"""


def pip_version() -> str:
    """Return the pip version whose bootstrap script this ansible-test asks for."""
    from ansible_test._internal.python_requirements import get_venv_packages

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # Only the attribute `version` is read there.
    return str(get_venv_packages(SimpleNamespace(version=version))["pip"])


def main() -> int:
    """Run every sanity test; further arguments go to ansible-test."""
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / f"get_pip_{pip_version().replace('.', '_')}.py").write_text(BOOTSTRAP)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    environment = os.environ | {"HOME": str(HOME), "LC_ALL": "C.UTF-8"}
    command = [str(Path(sys.executable).with_name("ansible-test")), "sanity", "--requirements", "--python", python]
    return subprocess.run([*command, *sys.argv[1:]], cwd=COLLECTION, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
