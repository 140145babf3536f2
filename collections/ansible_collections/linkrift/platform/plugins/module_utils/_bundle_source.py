# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a host gets the files of a bundle from: the bundle store, a directory or an archive.

Every source hands out files that were compared with SHA256SUMS on their way; what it hands out is either whole or an
error.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import io
import shutil
import ssl
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Protocol

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import (
    LARGEST_FILE,
    LARGEST_TEXT,
    SUMS,
    BundleError,
    check_digest,
    sha256_of,
)

AT_ONCE = 4
"""Files that are fetched side by side."""

ATTEMPTS = 3
"""A connection may break once or twice."""

STALLED = 30.0
"""Seconds without a byte after which a connection counts as broken."""

_CHUNK = 1 << 18


class Source(Protocol):
    """Something that holds the bundle of one release."""

    def text(self, path: str) -> bytes:
        """Return a small file.

        Raises:
            BundleError: it is not there, too large, or cannot be read.
        """

    def collect(self, paths: Sequence[str], digests: Mapping[str, str], into: Path) -> None:
        """Put files below a directory, under their own paths, each compared with its digest before it appears.

        Raises:
            BundleError: a file is not there, altered, or cannot be read.
        """


def open_source(location: str, release: str, ca_path: str | None, deadline: float) -> Source:
    """Return the source for a location.

    Args:
        location: `https://…` (the bundle store), or the path of a directory or an archive on this host.
        release: id of the release.
        ca_path: file with the certificates to trust; None for those of the system.
        deadline: seconds that everything fetched from the bundle store may take together.

    Raises:
        BundleError: there is nothing at the location, or it is of no known kind.
    """
    if location.startswith("https://"):
        return StoreSource(location, release, ca_path, deadline)
    if "://" in location:
        msg = f"{location} is no https:// address: bundles are fetched by HTTPS only"
        raise BundleError(msg)
    path = Path(location)
    if path.is_dir():
        return DirectorySource(path, release)
    if path.is_file():
        return ArchiveSource(path, release)
    msg = f"there is no bundle at {location} on this host: copy it there, or name the bundle store (https://…)"
    raise BundleError(msg)


def save(release: str, path: str, content: IO[bytes], digests: Mapping[str, str], into: Path) -> None:
    """Write one file of a bundle; it appears only when it is whole.

    Raises:
        BundleError: it is altered or too large.
    """
    destination = into / path
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f"{destination.name}.part")
    digest = hashlib.sha256()
    size = 0
    try:
        with partial.open("wb") as stream:
            while chunk := content.read(_CHUNK):
                size += len(chunk)
                if size > LARGEST_FILE:
                    msg = f"{path} of release {release} is larger than {LARGEST_FILE} bytes: that is no bundle of ours"
                    raise BundleError(msg)
                digest.update(chunk)
                stream.write(chunk)
        check_digest(release, path, digest.hexdigest(), digests)
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)


def missing_of(paths: Sequence[str], digests: Mapping[str, str], into: Path) -> list[str]:
    """Return the paths that are not yet below a directory, or not as they should be; those are removed."""
    missing = []
    for path in paths:
        file = into / path
        if file.is_file() and not file.is_symlink():
            if sha256_of(file) == digests[path]:
                continue
            file.unlink()
        missing.append(path)
    return missing


class DirectorySource:
    """An unpacked bundle on this host, or a directory of such bundles."""

    def __init__(self, directory: Path, release: str) -> None:
        self._release = release
        self._root = directory if (directory / SUMS).is_file() else directory / release

    def text(self, path: str) -> bytes:
        """See Source."""
        with self._open(path) as stream:
            return _bounded(stream, path, self._release)

    def collect(self, paths: Sequence[str], digests: Mapping[str, str], into: Path) -> None:
        """See Source."""
        for path in paths:
            with self._open(path) as stream:
                save(self._release, path, stream, digests, into)

    @contextlib.contextmanager
    def _open(self, path: str) -> Iterator[IO[bytes]]:
        try:
            stream = (self._root / path).open("rb")
        except OSError as error:
            msg = f"{path} of release {self._release} is missing in {self._root}: copy the whole bundle there"
            raise BundleError(msg) from error
        with stream:
            yield stream


class ArchiveSource:
    """A packed bundle on this host."""

    def __init__(self, archive: Path, release: str) -> None:
        self._archive = archive
        self._release = release

    def text(self, path: str) -> bytes:
        """See Source."""
        with self._readable():
            for name, stream in self._members():
                if name == path:
                    return _bounded(stream, path, self._release)
        raise self._missing([path])

    def collect(self, paths: Sequence[str], digests: Mapping[str, str], into: Path) -> None:
        """See Source."""
        wanted = set(paths)
        with self._readable():
            for name, stream in self._members():
                if name in wanted:
                    save(self._release, name, stream, digests, into)
                    wanted.remove(name)
        if wanted:
            raise self._missing(sorted(wanted))

    def _members(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield the regular files, by their paths inside the bundle, in the order of the archive."""
        with tarfile.open(self._archive, mode="r:gz") as tar:
            for entry in tar:
                stream = tar.extractfile(entry) if entry.isreg() else None
                if stream is not None:
                    yield entry.name.removeprefix("./").removeprefix(f"{self._release}/"), stream

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            msg = f"{self._archive} cannot be read ({error}): copy the bundle again"
            raise BundleError(msg) from error

    def _missing(self, paths: Sequence[str]) -> BundleError:
        return BundleError(f"{', '.join(paths)} of release {self._release} missing in {self._archive}: build it again")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The bundle store has no reason to send a host elsewhere."""

    def redirect_request(self, *_: object) -> None:
        """Return no request: the answer becomes an error."""
        return


class StoreSource:
    """The bundle store."""

    def __init__(self, base: str, release: str, ca_path: str | None, deadline: float) -> None:
        try:
            context = ssl.create_default_context(cafile=ca_path)
        except OSError as error:
            msg = f"the certificates in {ca_path} cannot be used ({error}): correct ca_path"
            raise BundleError(msg) from error
        self._base = f"{base.rstrip('/')}/{urllib.parse.quote(release, safe='+')}"
        self._release = release
        self._end = time.monotonic() + deadline
        self._deadline = deadline
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect())

    def text(self, path: str) -> bytes:
        """See Source."""
        for attempt in range(1, ATTEMPTS + 1):
            with self._errors(path, attempt), self._open(path) as stream:
                return _bounded(stream, path, self._release)
        raise AssertionError(path)

    def collect(self, paths: Sequence[str], digests: Mapping[str, str], into: Path) -> None:
        """See Source."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running = [pool.submit(self._save, path, digests, into) for path in paths]
            try:
                for future in running:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _save(self, path: str, digests: Mapping[str, str], into: Path) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            with self._errors(path, attempt):
                with self._open(path) as stream:
                    save(self._release, path, stream, digests, into)
                return

    @contextlib.contextmanager
    def _open(self, path: str) -> Iterator[IO[bytes]]:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        url = f"{self._base}/{urllib.parse.quote(path, safe='/+')}"
        request = urllib.request.Request(url)  # noqa: S310 - open_source lets nothing but https:// come here
        with self._opener.open(request, timeout=min(left, STALLED)) as response:
            yield io.BufferedReader(_Whole(response, self._end))

    @contextlib.contextmanager
    def _errors(self, path: str, attempt: int) -> Iterator[None]:
        """Turn what can go wrong into one message; a broken connection is an error only the last time."""
        url = f"{self._base}/{path}"
        try:
            yield
        except urllib.error.HTTPError as error:
            error.close()
            hint = "publish this release first (role bundle_store)" if error.code == 404 else "look at its log"
            msg = f"{url}: the bundle store answers {error.code} {error.reason}: {hint}"
            raise BundleError(msg) from error
        except (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            late = time.monotonic() >= self._end
            if late or attempt == ATTEMPTS or isinstance(reason, ssl.SSLCertVerificationError):
                detail = f"not finished after {self._deadline:.0f} s" if late else f"{type(reason).__name__}: {reason}"
                msg = (
                    f"{url} cannot be fetched ({detail}). Check that the bundle store runs, that this host reaches it "
                    "and that ca_path holds its certificate authority. What came is kept for the next attempt"
                )
                raise BundleError(msg) from error
            # A store that is being reloaded or replaced is back in a moment; the deadline above bounds all attempts.
            time.sleep(0.2 * attempt)


class _Whole(io.RawIOBase):
    """A response that ends with an error, not quietly, when the connection breaks or the time is over."""

    def __init__(self, response: http.client.HTTPResponse, end: float) -> None:
        self._response = response
        self._end = end

    def readable(self) -> bool:
        """Let BufferedReader read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what came."""
        if time.monotonic() >= self._end:
            raise TimeoutError
        count = self._response.readinto(buffer)
        if count == 0 and self._response.length:
            raise http.client.IncompleteRead(b"", self._response.length)
        return count


def _bounded(stream: IO[bytes], path: str, release: str) -> bytes:
    content = stream.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:
        msg = f"{path} of release {release} is larger than {LARGEST_TEXT} bytes: that is no bundle of ours"
        raise BundleError(msg)
    return content


def copy_files(paths: Sequence[str], source: Path, destination: Path) -> None:
    """Copy files that were verified before, under their own paths."""
    for path in paths:
        (destination / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, destination / path)
