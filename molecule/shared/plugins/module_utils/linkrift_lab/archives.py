"""Packages that hosts downloaded, kept for the hosts of the next lab.

apt locks the directory that it downloads into, so hosts cannot share one. Instead what they downloaded becomes a
read-only layer below each new host's file system: `archives/<suite>-<generation>/var/cache/apt/archives/*.deb`. A layer
never changes once it has its name (a host may be using it); more packages make a new one, of hard links.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from .plan import BASE
from .run import locked

INSIDE = Path("var/cache/apt/archives")
MAX_BYTES = 3 * 1024**3


def _generation(layer: Path) -> int:
    return int(layer.name.rsplit("-", 1)[1])


def layers(suite: str, base: Path = BASE) -> list[Path]:
    """All complete layers of a suite, oldest first."""
    found = [path for path in (base / "archives").glob(f"{suite}-*") if path.name.rsplit("-", 1)[1].isdigit()]
    return sorted(found, key=_generation)


def current(suite: str, base: Path = BASE) -> Path | None:
    """The newest layer of a suite; None before anything was kept."""
    return next(reversed(layers(suite, base)), None)


def harvest(suite: str, uppers: Iterable[Path], base: Path = BASE) -> int:
    """Keep what hosts downloaded, in a new layer.

    Args:
        suite: Suite of the hosts.
        uppers: Directories that hold what the hosts wrote.
        base: Where the machine keeps images and archives.

    Returns:
        How many packages are new.
    """
    with locked(base / "archives.lock", seconds=120, busy=f"{base}/archives.lock is held by another process"):
        newest = current(suite, base)
        kept = {path.name: path for path in (newest / INSIDE).glob("*.deb")} if newest else {}
        fresh = {
            path.name: path
            for upper in uppers
            for path in (upper / INSIDE).glob("*.deb")
            if path.is_file() and path.name not in kept
        }
        if not fresh:
            return 0
        generation = _generation(newest) + 1 if newest else 1
        workshop = base / "archives" / f".{suite}.part"
        shutil.rmtree(workshop, ignore_errors=True)
        (workshop / INSIDE).mkdir(parents=True)
        for path in _within(MAX_BYTES, [*kept.values(), *fresh.values()]):
            os.link(path, workshop / INSIDE / path.name)
        workshop.rename(base / "archives" / f"{suite}-{generation}")
        return len(fresh)


def _within(limit: int, files: list[Path]) -> list[Path]:
    """The files that were downloaded last, as many as fit."""
    room = limit
    chosen = []
    for path in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        room -= path.stat().st_size
        if room < 0:
            break
        chosen.append(path)
    return chosen


def prune(used: Iterable[Path], *, base: Path = BASE) -> None:
    """Remove layers that no host uses, but for the newest two: a host may be about to start on the older one."""
    needed = {path.resolve() for path in used}
    with locked(base / "archives.lock", seconds=120, busy=f"{base}/archives.lock is held by another process"):
        suites = {path.name.rsplit("-", 1)[0] for path in (base / "archives").glob("[a-z]*-*")}
        for suite in suites:
            for layer in layers(suite, base)[:-2]:
                if layer.resolve() not in needed:
                    shutil.rmtree(layer)
