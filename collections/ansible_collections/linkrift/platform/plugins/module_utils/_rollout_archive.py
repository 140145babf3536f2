# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reports of rollouts, kept on a balancer: the newest ones, each as data and as a page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import write_atomically

PATH = Path("/var/lib/linkrift/rollouts")

# Ids begin with a time, so that their order is that of time.
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
_SUFFIXES = (".json", ".html")
# What services wrote is among the evidence: for those who may read logs anyhow.
_MODE = 0o640


@dataclass(frozen=True)
class Plan:
    """What is to be written and removed."""

    write: Mapping[Path, str]
    remove: tuple[Path, ...]


def plan(directory: Path, run: str, report: Mapping[str, Any], page: str, keep: int) -> Plan:
    """Return what keeping a report changes.

    Args:
        directory: Where reports are.
        run: Id of the rollout.
        report: Its report.
        page: The same for people; nothing is written of an empty one.
        keep: How many rollouts are kept, this one included. It is kept however old it is.

    Raises:
        ValueError: the id is none, or nothing would be kept.
        OSError: the directory cannot be read.
    """
    if not _ID.fullmatch(run):
        raise ValueError(f"{run!r} is no id of a rollout, such as 20260131T120000Z-0a1b2c")
    if keep < 1:
        raise ValueError("keep: it is 1 at least")
    wished = {directory / f"{run}.json": json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n"}
    if page:
        wished[directory / f"{run}.html"] = page
    write = {path: text for path, text in wished.items() if _read(path) != text}
    kept = [path for path in _reports(directory) if path.stem != run]
    others = sorted({path.stem for path in kept}, reverse=True)
    gone = set(others[keep - 1 :])
    return Plan(write, tuple(path for path in kept if path.stem in gone))


def apply(directory: Path, wished: Plan) -> None:
    """Write and remove what is planned.

    Raises:
        OSError: it cannot be written.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    for path, text in wished.write.items():
        write_atomically(path, text, _MODE)
    for path in wished.remove:
        path.unlink(missing_ok=True)


def _reports(directory: Path) -> list[Path]:
    """Return the files that are ours; without a directory, none."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.suffix in _SUFFIXES and _ID.fullmatch(path.stem))


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
