"""Remembers on a lab host what it compiled of the modules that Ansible sends: sources, the same in every step.

Every image has this as part of its Python (docs/lab.md). It works only where the directory `CACHE` is, which belongs to
root, and only for root. A kept file is named for its content, so none is ever out of date.
"""

import _imp
import os
import zipimport
from importlib.machinery import SourceFileLoader
from types import CodeType

CACHE = "/var/cache/linkrift-lab-modules"


def _remembered(path: str, source: bytes) -> CodeType:
    """Return the code of a file in an archive, which has been compiled before if it has been seen before."""
    from pathlib import Path  # Every Python starts with this file; only modules get here, and they have it anyway.

    kept = Path(CACHE) / f"m{_imp.source_hash(len(source), source).hex()}.py"
    try:
        if not kept.exists():
            part = kept.with_suffix(f".{os.getpid()}")
            part.write_bytes(source)
            part.replace(kept)
        code = SourceFileLoader(kept.stem, str(kept)).get_code(kept.stem)
    except OSError:
        code = None
    return code or compile(source, path, "exec", dont_inherit=True)


def start() -> None:
    """Have archives' sources compiled once."""
    vars(zipimport)["_compile_source"] = _remembered


if os.geteuid() == 0 and os.access(CACHE, os.W_OK):
    start()
