# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""This collection's code where an operation can use it: Ansible removes its own copy when the module or SSH ends.

It lies in memory, in one directory for each content, and is compiled there once: later operations start the faster.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
import zipfile
import zipimport
from pathlib import Path

_PACKAGE = "ansible_collections/"
_UNUSED_FOR = 3600
"""Seconds after which other code is removed. No operation takes as long."""


def archive() -> Path | None:
    """Return the archive that this very code was loaded from; None where it was not, as in tests."""
    loader = globals().get("__loader__")
    return Path(loader.archive) if isinstance(loader, zipimport.zipimporter) else None


def unpacked(packed: Path, home: Path) -> Path:
    """Return a directory for `sys.path` that has the collection's code of an archive.

    Args:
        packed: the archive that Ansible sent.
        home: where such directories lie.

    Raises:
        OSError: it cannot be written.
    """
    with zipfile.ZipFile(packed) as source:
        names = sorted(name for name in source.namelist() if name.startswith(_PACKAGE) and not name.endswith("/"))
        digest = hashlib.sha256()
        for name in names:
            digest.update(name.encode() + b"\0" + hashlib.sha256(source.read(name)).digest())
        target = home / digest.hexdigest()[:32]
        if target.is_dir():
            os.utime(target)
            return target
        home.mkdir(mode=0o700, exist_ok=True)
        # In one step: whoever finds it, finds all of it.
        partial = Path(tempfile.mkdtemp(prefix=".", dir=home))
        source.extractall(partial, names)
    try:
        partial.rename(target)
    except OSError:
        # Another one was faster.
        shutil.rmtree(partial)
        if not target.is_dir():
            raise
    _prune(home, target)
    return target


def _prune(home: Path, used: Path) -> None:
    """Remove what was not used for long, such as the code of earlier versions, or what a killed run left."""
    oldest = time.time() - _UNUSED_FOR
    for path in home.iterdir():
        # Two may do this at once.
        with contextlib.suppress(FileNotFoundError):
            if path != used and path.stat().st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)
