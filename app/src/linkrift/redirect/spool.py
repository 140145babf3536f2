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
# What a record may hold: a hundred events of the greatest length, each character escaped, are less.
RECORD_BYTES = 8 * 1024 * 1024

_HEADER = struct.Struct("<4sBIII")  # mark, kind, clicks, bytes, checksum
_MARK = b"LKC1"


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
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Read it; `descriptor` holds the lock."""
        self._path = path
        self._descriptor = descriptor
        self.damaged = 0
        self.records = list(self._read(path.read_bytes()))

    def finish(self) -> None:
        """Remove the file: all of it was sent."""
        self._path.unlink()
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
            if mark != _MARK or length > RECORD_BYTES:
                LOG.error("the spool's file is damaged", extra={"file": self._path.name, "at": place})
                return
            payload = data[place + _HEADER.size : place + _HEADER.size + length]
            place += _HEADER.size + length
            if zlib.crc32(payload, kind ^ clicks) == checksum and kind in tuple(Kind):
                yield Record(Kind(kind), payload.decode(), clicks)
            else:
                self.damaged += clicks
                LOG.error("a record of the spool is damaged", extra={"file": self._path.name, "clicks": clicks})


class Spool:
    """Keeps records in files of one directory, which all processes of a host share.

    What `append` has returned is on the disk (fdatasync), and survives the loss of power.
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
        self._written = 0
        self._failing = False

    def append(self, records: Sequence[Record], *, beyond_limit: bool = False) -> int:
        """Write records.

        Args:
            records: what to write, the first first.
            beyond_limit: the bound does not hold for these: they are few, and nobody comes after them.

        Returns:
            How many were written; fewer than all when the bound is reached or the disk does not take more.
        """
        written = 0
        try:
            for record in records:
                if not self._have_room(beyond_limit):
                    break
                self._write(record.encode())
                written += 1
            if written and self._descriptor is not None:
                os.fdatasync(self._descriptor)
        except OSError as error:
            self._give_up(error)
            # What was not confirmed may be there all the same; whoever sends both counts once.
            return 0
        if written:
            self._failing = False
        return written

    def release(self) -> None:
        """Let others send what was written."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def adopt(self) -> Adopted | None:
        """Take over the oldest file that nobody holds; None: there is none."""
        for path in self._files():
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if not _locked(descriptor):
                    continue
                try:
                    return Adopted(path, descriptor)
                except BaseException:
                    os.close(descriptor)
                    raise
        return None

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
        """Have a file open with room for a record."""
        if self._descriptor is not None and self._written >= self._segment:
            os.fdatasync(self._descriptor)
            self.release()
        if self._descriptor is None:
            if not beyond_limit and self.size() + self._segment > self._limit:
                return False
            self._descriptor = self._open()
            self._written = 0
        return True

    def _open(self) -> int:
        """Make a file and lock it; one that an adopter got to first, and found empty, is made anew."""
        while True:
            path = self._directory / f"{time.time_ns():020d}-{secrets.token_hex(4)}{SUFFIX}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if _locked(descriptor):
                self._remember(self._directory)
                return descriptor

    def _write(self, data: bytes) -> None:
        """Write a record, or nothing of it."""
        if self._descriptor is None:
            raise OSError("no file is open")
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, self._written)
            os.lseek(self._descriptor, self._written, os.SEEK_SET)
            raise
        self._written += len(data)

    def _give_up(self, error: OSError) -> None:
        """Say once that the disk takes nothing, and begin with a new file when it is tried again."""
        if not self._failing:
            LOG.error("the spool cannot be written: %s", error)
        self._failing = True
        with suppress(OSError):
            self.release()
        self._descriptor = None

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
