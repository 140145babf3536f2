"""The release that a lab installs: the bundle built last, noted in `release.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tools.lab import LabToolError
from tools.lab.files import write_private


@dataclass(frozen=True)
class Bundle:
    """A built bundle.

    Attributes:
        id: Its release id.
        path: The archive.
        tree: The same, unpacked.
    """

    id: str
    path: Path
    tree: Path


def parse(output: str) -> Bundle:
    """Read what `python -m tools.bundle build --json` printed.

    Raises:
        LabToolError: It printed something else.
    """
    lines = output.strip().splitlines()
    try:
        result = json.loads(lines[-1])
        return Bundle(str(result["id"]), Path(result["path"]), Path(result["tree"]))
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise LabToolError(f"the bundle builder printed {lines[-1:]}, which names no bundle") from error


def note(directory: Path, bundle: Bundle) -> bool:
    """Write a bundle down as the one that the lab installs; tell whether that is news."""
    path = directory / "release.json"
    content = {"id": bundle.id, "path": str(bundle.path), "tree": str(bundle.tree)}
    text = json.dumps(content, indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    write_private(path, text.encode(), mode=0o644)
    return True
