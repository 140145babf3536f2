# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which releases a host still needs, and the removal of the others."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._ledger import good_entries
from ansible_collections.linkrift.platform.plugins.module_utils._paths import (
    SERVICES,
    SLOTS,
    Layout,
    check_release_id,
    linked_release,
    read_ledger,
    sync_directory,
)


def read_record(layout: Layout, release: str) -> dict[str, Any] | None:
    """Return what `release.json` says; None when the release is not there or incomplete."""
    try:
        record = json.loads(layout.release_record(release).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("id") == release else None


def releases_on(layout: Layout) -> list[str]:
    """Return the ids of all trees, complete or not, sorted. Other things in the directory are nobody's business."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in layout.releases.iterdir():
            with contextlib.suppress(ValueError):
                found.append(check_release_id(path.name))
    return sorted(found)


def links_to(layout: Layout) -> dict[str, list[str]]:
    """Return the slots and `current` links of each release that has any, as `<service>/<name>`."""
    users: dict[str, list[str]] = {}
    for service in SERVICES:
        links = {slot: layout.slot_link(service, slot) for slot in SLOTS}
        links["current"] = layout.current_link(service)
        for name, link in links.items():
            release = linked_release(link)
            if release:
                users.setdefault(release, []).append(f"{service}/{name}")
    return users


def processes_of(layout: Layout) -> dict[str, list[int]]:
    """Return the processes that run each release, by what they have mapped, opened as their directory or were called.

    The program of such a process is the system's Python, whose path tells nothing: its libraries and its script do.
    """
    pattern = re.compile(re.escape(os.fsencode(layout.releases)) + rb"/([^/\s\0]+)")
    users: dict[str, list[int]] = {}
    for process in _processes(layout.root / "proc"):
        names = {os.fsdecode(match[1]) for text in _traces(process) for match in pattern.finditer(text)}
        for name in names:
            users.setdefault(name, []).append(int(process.name))
    return users


def _processes(directory: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        for path in directory.iterdir():
            if path.name.isdecimal() and int(path.name) != os.getpid():
                yield path


def _traces(process: Path) -> Iterator[bytes]:
    """Yield what shows the files of a process; one that ends meanwhile shows nothing."""
    for name in ("cwd", "exe", "root"):
        with contextlib.suppress(OSError):
            yield os.fsencode((process / name).readlink())
    for name in ("cmdline", "maps"):
        with contextlib.suppress(OSError):
            yield (process / name).read_bytes()


def users_of(layout: Layout) -> dict[str, list[str]]:
    """Return who uses each release, in words: slots, `current` links and processes."""
    users = {release: list(names) for release, names in links_to(layout).items()}
    for release, processes in processes_of(layout).items():
        users.setdefault(release, []).extend(f"process {number}" for number in sorted(processes))
    return users


def good_releases(layout: Layout) -> list[str]:
    """Return the releases that were live here, passed and were not undone; the one that became live last first.

    The order is that of the ledgers' entries, by their time: never that of files.
    """
    live = [
        (str(entry.get("time", "")), str(entry["release"]))
        for service in SERVICES
        for entry in good_entries(read_ledger(layout.ledger(service)))
    ]
    newest: dict[str, str] = {}
    for time, release in live:
        newest[release] = max(newest.get(release, ""), time)
    return sorted(newest, key=lambda release: (newest[release], release), reverse=True)


def removable(layout: Layout, keep: int, kept: Iterable[str]) -> list[str]:
    """Return the releases that nobody needs any more, sorted.

    Args:
        layout: the host.
        keep: how many good ones to keep, those in use included.
        kept: ids to keep in any case.
    """
    present = releases_on(layout)
    good = [release for release in good_releases(layout) if read_record(layout, release)]
    needed = {*kept, *good[:keep], *users_of(layout)}
    return [release for release in present if release not in needed]


def remove_release(layout: Layout, release: str) -> None:
    """Remove a release; interrupted, it is left incomplete rather than damaged."""
    layout.release_record(release).unlink(missing_ok=True)
    shutil.rmtree(layout.release(release))
    sync_directory(layout.releases)


def fetched_parts(layout: Layout) -> Path:
    """Return the directory of what was fetched and not yet installed, one directory a release."""
    return layout.releases / ".parts"


def remove_parts(layout: Layout, kept: Iterable[str] = ()) -> None:
    """Remove what was fetched for releases whose installation was never finished."""
    with contextlib.suppress(FileNotFoundError):
        for path in fetched_parts(layout).iterdir():
            if path.name not in set(kept):
                shutil.rmtree(path)
