"""Clicks on disk, while Redis does not take them: files that whoever comes next sends.

A file belongs to whoever holds its lock (flock): the process that writes it, and afterwards the one that adopts it, of
the same slot or of the other. The kernel lets go of the lock when a process ends, however it ends. Everything in here
may wait for a disk, so it is called in a thread.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

LOG = logging.getLogger(__name__)

SUFFIX = ".clicks"
SEGMENT_BYTES = 4 * 1024 * 1024
# A file is sent as a whole, from the beginning whenever that fails: it has about so many clicks at most.
SEGMENT_CLICKS = 50_000
# Files that broke in the middle are kept for a person to look at, so many of them.
DAMAGED_SUFFIX = ".damaged"
DAMAGED_FILES = 8
# What a record may hold: a hundred events of the greatest length, each character escaped, are less.
RECORD_BYTES = 8 * 1024 * 1024

_HEADER = struct.Struct("<4sBIII")  # mark, kind, clicks, bytes, checksum
_MARK = b"LKC1"
_PROBE = ".probe"


class Kind(IntEnum):
    """What a record holds: an entry of the stream, or counts of clicks that were merged."""

    ENTRY = 1
    MERGED = 2


@dataclass(frozen=True)
class Record:
    """Something to send, and how many clicks it is."""

    kind: Kind
    content: str
    clicks: int

    def encode(self) -> bytes:
        """Return it as it stands in a file."""
        payload = self.content.encode()
        checksum = zlib.crc32(payload, self.kind ^ self.clicks)
        return _HEADER.pack(_MARK, self.kind, self.clicks, len(payload), checksum) + payload


class Adopted:
    """A file that is ours to send.

    Attributes:
        records: what can be read of it.
        damaged: clicks of records whose checksum is wrong or whose end is missing, as far as that can be told.
        broken: it ends in something else than a record, which may have been some.
        foreign: it holds what a later release wrote; this one cannot send it.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Read it; `descriptor` holds the lock."""
        self._path = path
        self._descriptor = descriptor
        self.damaged = 0
        self.broken = False
        self.foreign = False
        self.records = list(self._read(path.read_bytes()))

    def finish(self) -> None:
        """Remove the file: all of it was sent. What broke in the middle is kept under another name."""
        try:
            if self.broken and len(list(self._path.parent.glob(f"*{DAMAGED_SUFFIX}"))) < DAMAGED_FILES:
                self._path.rename(self._path.with_suffix(DAMAGED_SUFFIX))
            else:
                self._path.unlink()
        except OSError as error:
            LOG.error("a file of the spool was sent and cannot be removed: %s", error, extra={"file": self._path.name})
        finally:
            self.leave()

    def leave(self) -> None:
        """Let go of the file: another one may send it."""
        os.close(self._descriptor)

    def _read(self, data: bytes) -> Iterator[Record]:
        place = 0
        while place < len(data):
            if len(data) - place < _HEADER.size:
                LOG.warning("the spool's file ends within a record", extra={"file": self._path.name})
                return
            mark, kind, clicks, length, checksum = _HEADER.unpack_from(data, place)
            if place == 0 and mark != _MARK and mark.startswith(_MARK[:3]):
                self.foreign = True
                return
            if mark != _MARK or length > RECORD_BYTES:
                self.broken = True
                LOG.error("the spool's file is damaged", extra={"file": self._path.name, "at": place})
                return
            payload = data[place + _HEADER.size : place + _HEADER.size + length]
            place += _HEADER.size + length
            if zlib.crc32(payload, kind ^ clicks) != checksum:
                self.damaged += clicks
                LOG.error("a record of the spool is damaged", extra={"file": self._path.name, "clicks": clicks})
            elif kind in tuple(Kind):
                yield Record(Kind(kind), payload.decode(), clicks)
            else:
                self.foreign = True
                return


class Spool:
    """Keeps records in files of one directory, which all processes of a host share.

    What `append` has returned is on the disk (fdatasync), and survives the loss of power.

    Attributes:
        failing: what was tried last could not be written.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        """Prepare; nothing is opened yet.

        Args:
            directory: it exists and is ours.
            limit: bytes of all files together, at most; each process may exceed that by its last record, and by the
                merged clicks that it leaves when it ends.
        """
        self._directory = directory
        self._limit = limit
        self._segment = min(SEGMENT_BYTES, max(4096, limit // 8))
        self._descriptor: int | None = None
        self._path = directory
        self._written = 0
        self._clicks = 0
        self._found: list[Path] = []
        self.failing = False

    def append(self, records: Sequence[Record], *, beyond_limit: bool = False) -> int:
        """Write records.

        Args:
            records: what to write, the first first.
            beyond_limit: the bound does not hold for these: they are few, and nobody comes after them.

        Returns:
            How many were written; fewer than all when the bound is reached or the disk does not take more.
        """
        confirmed = written = 0
        try:
            for record in records:
                if self._is_full():
                    self._sync()
                    confirmed = written
                    self.release()
                if not self._have_room(beyond_limit):
                    break
                self._write(record)
                written += 1
            if written > confirmed:
                self._sync()
        except OSError as error:
            return self._give_up(error, confirmed, written)
        if written:
            self.failing = False
        return written

    def probe(self) -> bool:
        """Tell whether the disk takes anything, before it has to."""
        path = self._directory / f"{secrets.token_hex(8)}{_PROBE}"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, _MARK)
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
                path.unlink()
        except OSError as error:
            self._say(error)
            return False
        return True

    def release(self) -> None:
        """Let others send what was written; a file with nothing in it goes."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                if self._written == 0:
                    self._path.unlink()
            finally:
                os.close(descriptor)

    def adopt(self) -> Adopted | None:
        """Take over a file that nobody holds, the oldest first; None: there is none, or all were gone through."""
        # Looked for once for all of them: after a long outage there are many.
        self._found = self._found or self._files()[::-1]
        while self._found:
            with suppress(OSError):
                adopted = self._try_to_adopt(self._found.pop())
                if adopted is not None:
                    return adopted
        return None

    @staticmethod
    def _try_to_adopt(path: Path) -> Adopted | None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if not _locked(descriptor):
            return None
        try:
            adopted = Adopted(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if adopted.foreign:
            LOG.warning("a file of the spool is of another release, which may send it", extra={"file": path.name})
            adopted.leave()
            return None
        return adopted

    def size(self) -> int:
        """Return how many bytes the files have."""
        total = 0
        for path in self._files():
            with suppress(OSError):
                total += path.stat().st_size
        return total

    def _files(self) -> list[Path]:
        try:
            return sorted(self._directory.glob(f"*{SUFFIX}"))
        except OSError:
            return []

    def _have_room(self, beyond_limit: bool) -> bool:
        """Have a file open."""
        if self._descriptor is None:
            if not beyond_limit and self.size() + self._segment > self._limit:
                return False
            self._descriptor = self._open()
            self._written = self._clicks = 0
        return True

    def _is_full(self) -> bool:
        return self._descriptor is not None and (self._written >= self._segment or self._clicks >= SEGMENT_CLICKS)

    def _sync(self) -> None:
        """Have on the disk what was written; where that fails, nothing of the file can be relied on."""
        if self._descriptor is None:
            return
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
            raise

    def _open(self) -> int:
        """Make a file and lock it; one that an adopter got to first, and found empty, is made anew."""
        while True:
            path = self._directory / f"{time.time_ns():020d}-{secrets.token_hex(4)}{SUFFIX}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if not _locked(descriptor):
                continue
            try:
                self._remember(self._directory)
            except BaseException:
                with suppress(OSError):
                    path.unlink()
                os.close(descriptor)
                raise
            self._path = path
            return descriptor

    def _write(self, record: Record) -> None:
        """Write a record, or nothing of it."""
        if self._descriptor is None:
            raise OSError("no file is open")
        data = record.encode()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, self._written)
            os.lseek(self._descriptor, self._written, os.SEEK_SET)
            raise
        self._written += len(data)
        self._clicks += record.clicks

    def _give_up(self, error: OSError, confirmed: int, written: int) -> int:
        """Begin with a new file when it is tried again; returns how many records are on the disk all the same."""
        self._say(error)
        # What cannot be confirmed may be there, too; whoever sends both counts once.
        with suppress(OSError):
            if self._descriptor is not None:
                self._sync()
                confirmed = written
            self.release()
        return confirmed

    def _say(self, error: OSError) -> None:
        if not self.failing:
            LOG.error("the spool cannot be written: %s", error)
        self.failing = True

    @staticmethod
    def _remember(directory: Path) -> None:
        """Have the file's name on the disk, too."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Lock a file that nobody holds and that is still there; otherwise close it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return False
    return True
