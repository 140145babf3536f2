"""Which release this process runs."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Release:
    """The identity of a release; a field that is not known is empty.

    Attributes:
        id: the content-addressed release id, for example `1.4.0+3f9c2a71b0de`.
        version: the version of the application.
        commit: the source's commit.
        branch: the source's branch.
        commit_time: when the commit was made, ISO 8601.
    """

    id: str
    version: str
    commit: str = ""
    branch: str = ""
    commit_time: str = ""


def read_release(tree: Path | None = None) -> Release:
    """Read the identity from the release tree, `release.json` and the bundle's `manifest.json`.

    Args:
        tree: the release tree; by default the directory that holds this Python's virtual environment.

    Returns:
        The release; outside a release tree its id is `<version>+dev`.
    """
    tree = tree or Path(sys.prefix).resolve().parent
    try:
        version = importlib.metadata.version("linkrift")
    except importlib.metadata.PackageNotFoundError:
        version = "0"  # run from the source tree
    installed = _load(tree / "release.json")
    if not isinstance(installed.get("id"), str):
        return Release(f"{version}+dev", version)
    known = {**_load(tree / "manifest.json"), **installed}
    return Release(
        id=installed["id"],
        version=str(known.get("version", version)),
        commit=str(known.get("commit", "")),
        branch=str(known.get("branch", "")),
        commit_time=str(known.get("commit_time", "")),
    )


def _load(path: Path) -> dict[str, Any]:
    """Read a JSON object; a file that is missing or damaged is an empty one: it keeps no service from work."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
