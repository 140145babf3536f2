# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where things lie on an application host, and how to change them so that a crash leaves the old or the new.

Nothing here knows about Ansible. Every path hangs off a `Layout`, so that tests use a directory of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICES = ("api", "redirect", "worker")
SLOTS = ("blue", "green")
PORTS = {
    "api": {"blue": 8080, "green": 8180},
    "redirect": {"blue": 8081, "green": 8181},
    "worker": {"blue": 8082, "green": 8182},
}
"""The ports of reference and, 100 above them, those of the green slots."""

RELEASE_RECORD = "release.json"
"""Written last into a release: a tree without it is incomplete."""

SLOT_LINES = "# The slot's own lines. They come last and win. Everything above is the rendered file, as it was gated."
"""Separates, in a pinned env file, what was rendered from what belongs to the slot."""

_RELEASE_ID = re.compile(r"(?P<version>[0-9][0-9A-Za-z.]{0,40})\+(?P<sums>[0-9a-f]{12})")


def check_release_id(text: str) -> str:
    """Return a release id that is safe to use as a file name.

    Raises:
        ValueError: it is not `<version>+<12 hex digits>`.
    """
    if not _RELEASE_ID.fullmatch(text):
        msg = f"{text!r} is no release id: expected <version>+<12 hexadecimal digits>, such as 1.4.0+3f9c2a71b0de"
        raise ValueError(msg)
    return text


def other_slot(slot: str) -> str:
    """Return the other one of the two slots."""
    return SLOTS[1 - SLOTS.index(slot)]


def unit_name(service: str, slot: str) -> str:
    """Return the systemd unit of a slot."""
    return f"linkrift-{service}@{slot}.service"


@dataclass(frozen=True)
class Layout:
    """The directories of a host; `root` is `/` but for tests."""

    root: Path = Path("/")

    @property
    def base(self) -> Path:
        """Programs: releases and the links of the slots."""
        return self.root / "opt/linkrift"

    @property
    def releases(self) -> Path:
        """One directory a release."""
        return self.base / "releases"

    @property
    def releases_lock(self) -> Path:
        """Whoever adds or removes a release holds this lock; whoever starts to use one may hold it, too."""
        return self.releases / ".lock"

    @property
    def ledgers(self) -> Path:
        """One append-only file a service."""
        return self.root / "var/lib/linkrift/ledger"

    @property
    def authorities(self) -> Path:
        """Certificates of who signs the platform's own, from the role base."""
        return self.root / "etc/linkrift/tls/ca.pem"

    def release(self, release: str) -> Path:
        """Return the tree of a release."""
        return self.releases / check_release_id(release)

    def release_record(self, release: str) -> Path:
        """Return the file that marks a release as complete."""
        return self.release(release) / RELEASE_RECORD

    def slot_link(self, service: str, slot: str) -> Path:
        """Return the symbolic link to the release a slot runs."""
        return self.base / service / slot

    def current_link(self, service: str) -> Path:
        """Return the symbolic link to the release of the live slot."""
        return self.base / service / "current"

    def rendered_env(self, service: str) -> Path:
        """Return the env file that the role (or Vault Agent) renders; no service reads it."""
        return self.root / "etc/linkrift" / f"{service}.env"

    def pinned_env(self, service: str, slot: str) -> Path:
        """Return the env file a slot runs on."""
        return self.root / "etc/linkrift" / service / f"{slot}.env"

    def admission_file(self, service: str, slot: str) -> Path:
        """Return the file whose presence admits a slot."""
        return self.root / "var/lib/linkrift" / service / f"{slot}.admitted"

    def ledger(self, service: str) -> Path:
        """Return the ledger of a service on this host."""
        return self.ledgers / f"{service}.jsonl"


def linked_release(link: Path) -> str | None:
    """Return the id of the release a link points to; None without a link, or when it points elsewhere."""
    try:
        name = link.readlink().name
    except OSError:
        return None
    return name if _RELEASE_ID.fullmatch(name) else None


def rendered_part(env: str) -> str:
    """Return what was rendered of an env file: all of it, or what stands above the slot's own lines."""
    return env.partition(SLOT_LINES)[0]


def write_atomically(path: Path, content: str, mode: int = 0o644) -> None:
    """Replace a file's content in one step; it survives a power cut once this returns.

    Raises:
        OSError: the directory is missing, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def is_ours(path: Path, mode: int) -> bool:
    """Tell whether a file or directory belongs to whoever runs this, with exactly this mode."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_mode & 0o7777 == mode and found.st_uid == os.geteuid()


def link_atomically(link: Path, target: Path) -> bool:
    """Point a symbolic link at a target in one step; tell whether that changed anything."""
    with contextlib.suppress(OSError):
        if link.readlink() == target:
            return False
    temporary = link.with_name(f".{link.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(link.parent)
    return True


def sync_directory(path: Path) -> None:
    """Make a rename or a removal in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_ledger(path: Path, entry: dict[str, Any]) -> None:
    """Add one entry to a ledger. A torn last line, left by a crash, is closed first and stays as it is."""
    line = json.dumps(entry, sort_keys=True, ensure_ascii=False) + "\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "rb+", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        torn = bool(size) and os.pread(stream.fileno(), 1, size - 1) != b"\n"
        stream.write((b"\n" if torn else b"") + line.encode())
        os.fsync(stream.fileno())


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """Return a ledger's entries, oldest first; without a ledger, none. Torn lines are left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                entries.append(entry)
    return entries


@contextlib.contextmanager
def exclusive(path: Path, deadline: float, *, inherited: bool = False) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends.

    Args:
        path: the lock file; it is made when missing (its directory is not) and stays.
        deadline: seconds to wait for another holder.
        inherited: programs that are started with `close_fds=False` hold the lock, too: it ends with the last of them.

    Raises:
        TimeoutError: another process held it all that time.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.set_inheritable(descriptor, inherited)
        end = time.monotonic() + deadline
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    msg = f"another process has held {path} for {deadline:.0f} s; look for it with: fuser -v {path}"
                    raise TimeoutError(msg) from None
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)
