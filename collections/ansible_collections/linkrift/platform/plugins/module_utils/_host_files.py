# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files and directories of a host: what they should be, what they are, and how to get from one to the other.

Nothing here knows about Ansible.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import sync_directory
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed, Runner

_DEADLINE = 120.0


class HostFileError(Exception):
    """A file cannot be what is wished; the message names it."""


@dataclass(frozen=True)
class Owner:
    """Who a path belongs to and who may do what with it."""

    user: str
    group: str
    mode: int

    def uid(self) -> int | None:
        """Return the user's number, None while there is no such user."""
        try:
            return pwd.getpwnam(self.user).pw_uid
        except KeyError:
            return None

    def gid(self) -> int | None:
        """Return the group's number, None while there is no such group."""
        try:
            return grp.getgrnam(self.group).gr_gid
        except KeyError:
            return None

    def matches(self, found: os.stat_result) -> bool:
        """Tell whether a path is already like this."""
        return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (self.uid(), self.gid(), self.mode)

    def describe(self) -> str:
        """Return it as a line of a diff."""
        return f"{self.user}:{self.group} {self.mode:04o}"


def parse_owner(entry: Mapping[str, Any]) -> Owner:
    """Read `owner`, `group` and `mode` (octal digits) of a module's parameter.

    Raises:
        HostFileError: the mode is no octal number; the message names the path.
    """
    try:
        mode = int(str(entry["mode"]), 8)
    except ValueError as error:
        raise HostFileError(f"{entry['path']}: the mode {entry['mode']!r} is not octal, such as '0644'") from error
    return Owner(str(entry["owner"]), str(entry["group"]), mode)


def describe(found: os.stat_result) -> str:
    """Return a path's owner, group and mode as a line of a diff; numbers where a name is not known."""
    try:
        user = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        user = str(found.st_uid)
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = str(found.st_gid)
    return f"{user}:{group} {stat.S_IMODE(found.st_mode):04o}"


# -- directories, and the modes of what is there ---------------------------------------------------------------------


@dataclass(frozen=True)
class PathChange:
    """What is done to one path."""

    path: Path
    owner: Owner
    make: bool
    before: str

    @property
    def after(self) -> str:
        """The path as it will be, as a line of a diff."""
        return self.owner.describe()


def compare_path(path: Path, owner: Owner, *, make: bool) -> PathChange | None:
    """Return what has to be done to a path, None when nothing.

    Args:
        path: a directory, or with `make` off anything.
        owner: how it should be.
        make: make a directory where there is none; otherwise what is not there is left so.

    Raises:
        HostFileError: it is a symbolic link, or not the directory it should be.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return PathChange(path, owner, make=True, before="absent") if make else None
    if stat.S_ISLNK(found.st_mode):
        if not make:
            return None
        raise HostFileError(f"{path} is a symbolic link; a directory is wanted there")
    if make and not stat.S_ISDIR(found.st_mode):
        raise HostFileError(f"{path} is not a directory")
    return None if owner.matches(found) else PathChange(path, owner, make=False, before=describe(found))


def apply_path(change: PathChange) -> None:
    """Do what `compare_path` found.

    Raises:
        HostFileError: the user or group is missing, or the parent directory.
    """
    uid, gid = change.owner.uid(), change.owner.gid()
    if uid is None or gid is None:
        raise HostFileError(f"{change.path}: there is no user {change.owner.user} or no group {change.owner.group}")
    try:
        if change.make:
            change.path.mkdir(mode=0o700)
        # Nobody can put a link in its place in between: what is opened is what is changed.
        descriptor = os.open(change.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, change.owner.mode)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostFileError(f"{change.path}: {error.strerror}") from error


# -- files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileSpec:
    """One file as it should be.

    Attributes:
        path: where it is.
        content: its text, or the text of a block in it.
        owner: owner, group and mode.
        block: name of the block; None for the whole file.
        validate: a command that must accept the text; `%s` is a file with it.
        after: a command to run once it has changed.
    """

    path: Path
    content: str
    owner: Owner
    block: str | None = None
    validate: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileChange:
    """A file that is not as it should be."""

    spec: FileSpec
    before: str | None
    after: str
    found: os.stat_result | None
    owner_before: str

    @property
    def diff(self) -> dict[str, str]:
        """The change for Ansible's diff."""
        return {
            "before_header": f"{self.spec.path} ({self.owner_before})",
            "after_header": f"{self.spec.path} ({self.spec.owner.describe()})",
            "before": self.before or "",
            "after": self.after,
        }


@dataclass
class Outcome:
    """What `apply_files` did."""

    written: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)


def read_exactly(path: Path) -> str:
    """Return a file's text; `put` makes the same bytes of it again, whatever its line ends and its encoding are."""
    return path.read_bytes().decode("utf-8", "surrogateescape")


def with_block(text: str, name: str, content: str) -> str:
    """Return a text with its marked block replaced, or appended; an empty content takes the block away.

    All other lines stay as they are; a last one without a line end gets one.

    Raises:
        HostFileError: the marks are not one pair, so that nobody can tell which lines are the block's.
    """
    begin, end = f"# BEGIN {name}", f"# END {name}"
    lines = [f"{line}\n" for line in text.removesuffix("\n").split("\n")] if text else []
    block = [f"{line}\n" for line in (begin, *content.splitlines(), end)] if content.strip() else []
    marks = [(number, mark) for number, line in enumerate(lines) if (mark := line.rstrip("\r\n")) in (begin, end)]
    if not marks:
        return "".join(lines + block)
    if [mark for _number, mark in marks] != [begin, end]:
        where = ", ".join(f"{mark!r} in line {number + 1}" for number, mark in marks)
        raise HostFileError(f"the block's marks are not one pair: {where}; mend that by hand")
    lines[marks[0][0] : marks[1][0] + 1] = block
    return "".join(lines)


def compare_file(spec: FileSpec) -> FileChange | None:
    """Return what has to be done to a file, None when nothing.

    Raises:
        HostFileError: there is something else than a file, or its block cannot be told from the rest.
    """
    path = Path(os.path.realpath(spec.path))
    try:
        found: os.stat_result | None = path.stat()
    except FileNotFoundError:
        found = None
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise HostFileError(f"{spec.path} is not a file")
    before = read_exactly(path) if found is not None else None
    try:
        after = spec.content if spec.block is None else with_block(before or "", spec.block, spec.content)
    except HostFileError as error:
        raise HostFileError(f"{spec.path}: {error}") from error
    if found is None and spec.block is not None and not after:
        return None
    if before == after and found is not None and spec.owner.matches(found):
        return None
    return FileChange(spec, before, after, found, describe(found) if found is not None else "absent")


def check_file(change: FileChange, run: Runner) -> None:
    """Have a file's new text checked by the command that it names.

    Raises:
        HostFileError: the command refuses it; the message has what it said.
        OSError: there is no such command on this host.
    """
    if not change.spec.validate:
        return
    with tempfile.TemporaryDirectory(prefix="linkrift-") as directory:
        candidate = Path(directory) / change.spec.path.name
        candidate.write_text(change.after, encoding="utf-8", errors="surrogateescape")
        candidate.chmod(change.spec.owner.mode)
        done = run([word.replace("%s", str(candidate)) for word in change.spec.validate], _DEADLINE)
    if done.status != 0:
        raise HostFileError(f"{change.spec.path}: refused by {change.spec.validate[0]}: {said(done)}")


def said(done: Completed) -> str:
    """Return what a command said, on one line."""
    return " ".join((done.stderr.strip() or done.stdout.strip() or f"exit status {done.status}").split())


def put(path: Path, text: str, uid: int, gid: int, mode: int) -> None:
    """Replace a file in one step, with owner and mode; it survives a power cut once this returns.

    Raises:
        OSError: the directory is missing, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
            stream.flush()
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write(change: FileChange) -> None:
    """Bring a file to what it should be.

    Raises:
        HostFileError: the user or group is missing, the directory, or the space.
    """
    uid, gid = change.spec.owner.uid(), change.spec.owner.gid()
    if uid is None or gid is None:
        raise HostFileError(
            f"{change.spec.path}: there is no user {change.spec.owner.user} or no group {change.spec.owner.group}"
        )
    try:
        put(Path(os.path.realpath(change.spec.path)), change.after, uid, gid, change.spec.owner.mode)
    except OSError as error:
        raise HostFileError(f"{change.spec.path}: {error.strerror}") from error


def restore(change: FileChange) -> None:
    """Bring a file back to what it was before `write`."""
    path = Path(os.path.realpath(change.spec.path))
    if change.found is None or change.before is None:
        path.unlink(missing_ok=True)
    else:
        put(path, change.before, change.found.st_uid, change.found.st_gid, stat.S_IMODE(change.found.st_mode))


def apply_files(changes: Sequence[FileChange], run: Runner) -> Outcome:
    """Write files, then run each command that one of them names once, in the files' order.

    When a file cannot be written, all become again what they were. When a command fails, those that name it do, so that
    the next run tries again instead of finding nothing to do.

    Args:
        changes: what to do, already checked.
        run: runs a command.

    Raises:
        HostFileError: a file could not be written, or a command failed; the message says what was taken back.
    """
    outcome = Outcome()
    for number, change in enumerate(changes):
        try:
            write(change)
        except HostFileError as error:
            for earlier in changes[:number]:
                restore(earlier)
            raise HostFileError(f"{error}; nothing was changed") from error
        outcome.written.append(str(change.spec.path))
    for command in dict.fromkeys(change.spec.after for change in changes if change.spec.after):
        mine = [change for change in changes if change.spec.after == command]
        try:
            done = run(command, _DEADLINE)
        except (OSError, TimeoutError) as error:
            done = Completed(1, "", str(error))
        if done.status != 0:
            for change in mine:
                restore(change)
            paths = ", ".join(str(change.spec.path) for change in mine)
            raise HostFileError(f"{' '.join(command)}: {said(done)}; {paths} as before again")
        outcome.ran.append(" ".join(command))
    return outcome
