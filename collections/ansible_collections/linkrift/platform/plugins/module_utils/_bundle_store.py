# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tree that the bundle store serves: one directory for each release, and a list of them.

A bundle appears by a rename, when all of it was verified: nobody ever fetches from half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import (
    INDEX,
    MANIFEST,
    SUMS,
    BundleError,
    Manifest,
    check_identity,
    check_tree,
    tree_files,
)
from ansible_collections.linkrift.platform.plugins.module_utils._bundle_source import ArchiveSource
from ansible_collections.linkrift.platform.plugins.module_utils._paths import (
    check_release_id,
    exclusive,
    sync_directory,
    write_atomically,
)

SPARE = 256 * 1024 * 1024
"""Bytes that stay free on the disk."""


@dataclass
class Published:
    """What publishing came to."""

    release: str
    path: Path
    before: list[str]
    after: list[str]
    published: bool = False
    """The bundle is there, whole."""
    copied: bool = False
    """It was put there by this run, or would be."""
    indexed: bool = False
    """The list of bundles was written, or would be."""
    reason: str = ""
    pruned: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Something is different, or would be."""
        return self.copied or self.indexed or bool(self.pruned)


@dataclass(frozen=True)
class Store:
    """The store's directory and what stays in it."""

    root: Path
    keep: int = 5
    protected: tuple[str, ...] = ()
    lock_timeout: float = 300

    def bundle(self, release: str) -> Path:
        """Return the directory of a bundle."""
        return self.root / check_release_id(release)

    def present(self) -> list[str]:
        """Return the ids of the bundles, sorted."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.root.iterdir():
                with contextlib.suppress(ValueError):
                    found.append(check_release_id(path.name))
        return sorted(found)

    def look(self, release: str) -> Published:
        """Tell whether a bundle is in the store, whole. Every file of it is read."""
        present = self.present()
        result = Published(release, self.bundle(release), present, present)
        if release not in present:
            result.reason = f"release {release} is not in {self.root}"
            return result
        try:
            check_tree(self.bundle(release), release)
        except BundleError as error:
            result.reason = str(error)
        result.published = not result.reason
        return result

    def publish(
        self, release: str, archive: Path | None, *, check: bool = False, step: Callable[[str], None] | None = None
    ) -> Published:
        """Put a bundle into the store, remove old ones, and write the list.

        Args:
            release: id that the archive must have.
            archive: the packed bundle; None to put nothing there, and to tidy up only when the bundle is there already.
            check: change nothing, tell what would be done.
            step: called with the name of each step before it is done.

        Raises:
            BundleError: the archive is missing, of another release, altered or incomplete, or the disk is full.
            TimeoutError: another run holds the store's lock.
            OSError: a file cannot be written.
        """
        check_release_id(release)
        if check or (archive is None and not self.root.is_dir()):
            return self._publish(release, archive, check=True, step=step or (lambda _name: None))
        former = os.umask(0o022)
        try:
            self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
            with exclusive(self.root / ".lock", self.lock_timeout):
                return self._publish(release, archive, check=False, step=step or (lambda _name: None))
        finally:
            os.umask(former)

    def _publish(self, release: str, archive: Path | None, *, check: bool, step: Callable[[str], None]) -> Published:
        result = self.look(release)
        if not result.published:
            if archive is None:
                return result
            result.copied = True
            result.after = sorted({*result.before, release})
            if not check:
                self._unpack(release, archive, step)
                result.published = True
        index = self._index(result.after, release)
        kept = [entry["id"] for entry in index if entry["id"] != release][: max(self.keep - 1, 0)]
        needed = {release, *self.protected, *kept}
        result.pruned = [name for name in result.after if name not in needed]
        result.after = [name for name in result.after if name in needed]
        content = json.dumps([entry for entry in index if entry["id"] in needed], indent=2) + "\n"
        result.indexed = self._read_index_text() != content
        if check:
            return result
        step("index")
        if result.indexed:
            write_atomically(self.root / INDEX, content)
        step("prune")
        for name in result.pruned:
            self._remove(self.bundle(name))
        self._clear_leftovers()
        return result

    def _unpack(self, release: str, archive: Path, step: Callable[[str], None]) -> None:
        """Verify an archive's files on their way to a directory beside the final one, then rename it."""
        if not archive.is_file():
            msg = f"{archive} is not there: copy the bundle of release {release} to this host first"
            raise BundleError(msg)
        self._clear_leftovers()
        disk = os.statvfs(self.root)
        free, needed = disk.f_bavail * disk.f_frsize, archive.stat().st_size + SPARE
        if free < needed:
            msg = f"{self.root} needs {needed / 1e6:.0f} MB for release {release}, and {free / 1e6:.0f} MB are free"
            raise BundleError(msg)
        source = ArchiveSource(archive, release)
        step("unpack")
        sums = source.text(SUMS)
        digests = check_identity(release, sums)
        incoming = self.root / f".incoming-{release}"
        incoming.mkdir(mode=0o755)
        source.collect(sorted(digests), digests, incoming)
        (incoming / SUMS).write_bytes(sums)
        step("check")
        check_tree(incoming, release)
        for path in tree_files(incoming):
            (incoming / path).chmod(0o644)
        os.sync()
        step("place")
        if self.bundle(release).exists():
            self._remove(self.bundle(release))
        incoming.rename(self.bundle(release))
        sync_directory(self.root)

    def _remove(self, path: Path) -> None:
        """Take a bundle out of sight in one step, then remove it."""
        aside = path.with_name(f".removed-{path.name}")
        path.rename(aside)
        shutil.rmtree(aside)

    def _clear_leftovers(self) -> None:
        for pattern in (".incoming-*", ".removed-*"):
            for path in self.root.glob(pattern):
                shutil.rmtree(path)

    def _read_index_text(self) -> str:
        try:
            return (self.root / INDEX).read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            return ""

    def _index(self, releases: Iterable[str], fresh: str) -> list[dict[str, Any]]:
        """Return what the list says of each bundle, the one published last first.

        When a bundle was published is told by the list itself, never by the time of a file.
        """
        try:
            known = {entry["id"]: str(entry["published_at"]) for entry in json.loads(self._read_index_text() or "[]")}
        except (ValueError, KeyError, TypeError):
            known = {}
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        entries = []
        for release in releases:
            entry = self._describe(release)
            # One of unknown age counts as old, unless it is the one that is being published.
            published_at = known.get(release) or (now if release == fresh else entry.get("commit_time", ""))
            entries.append({"id": release, "published_at": published_at, **entry})
        return sorted(entries, key=lambda entry: (entry["published_at"], entry["id"]), reverse=True)

    def _describe(self, release: str) -> dict[str, Any]:
        tree = self.bundle(release)
        try:
            manifest = Manifest.parse((tree / MANIFEST).read_bytes())
            digest = hashlib.sha256((tree / SUMS).read_bytes()).hexdigest()
        except (OSError, BundleError):
            return {}
        return {
            "digest": digest,
            "version": manifest.version,
            "commit": manifest.commit,
            "branch": manifest.branch,
            "commit_time": manifest.commit_time,
            "dirty": manifest.dirty,
            "schema_level": manifest.schema_level,
            "schema_floor": manifest.schema_floor,
        }
