"""Packs a bundle so that the same content gives the same bytes, and reads one back."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from pathlib import Path
from typing import IO

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import (
    LARGEST_TEXT,
    MANIFEST,
    SUMS,
    BundleError,
    Manifest,
    check_identity,
    check_manifest,
    release_id,
    tree_files,
)


def pack(tree: Path, name: str, time: int, archive: Path) -> None:
    """Write a tar.gz of a tree below one directory; it depends on names, content and time alone.

    Wheels are compressed already: gzip only frames the tar (level 0), which is also the same with every zlib.

    Args:
        tree: unpacked bundle.
        name: directory in the archive.
        time: seconds since the epoch, for everything in it.
        archive: file to write.
    """
    temporary = archive.with_name(f".{archive.name}.new")
    try:
        with (
            temporary.open("wb") as raw,
            gzip.GzipFile(filename="", mode="wb", compresslevel=0, fileobj=raw, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            directories = {parent for path in tree_files(tree) for parent in Path(path).parents}
            for entry in sorted([*(item.as_posix() for item in directories), *tree_files(tree)]):
                tar_name = name if entry == "." else f"{name}/{entry}"
                information = tarfile.TarInfo(tar_name)
                information.mtime = time
                source = tree / entry
                if source.is_dir():
                    information.type = tarfile.DIRTYPE
                    information.mode = 0o755
                    tar.addfile(information)
                else:
                    information.size = source.stat().st_size
                    information.mode = 0o644
                    with source.open("rb") as content:
                        tar.addfile(information, content)
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)


def verify_archive(archive: Path) -> tuple[str, Manifest]:
    """Check every file of a packed bundle, without unpacking it, and return its id and manifest.

    Raises:
        BundleError: the archive cannot be read, or a file is altered, missing or extra.
    """
    found: dict[str, str] = {}
    texts: dict[str, bytes] = {}
    roots: set[str] = set()
    try:
        with tarfile.open(archive, mode="r:gz") as tar:
            for entry in tar:
                root, _, path = entry.name.partition("/")
                roots.add(root)
                content = tar.extractfile(entry) if entry.isfile() else None
                if content is None:
                    continue
                if path in (SUMS, MANIFEST):
                    texts[path] = content.read(LARGEST_TEXT)
                    found[path] = hashlib.sha256(texts[path]).hexdigest()
                else:
                    found[path] = _digest_of(content)
    except (OSError, EOFError, tarfile.TarError) as error:
        msg = f"{archive} cannot be read ({error}): build it again"
        raise BundleError(msg) from error
    return _check(archive, found, texts, roots)


def _digest_of(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _check(archive: Path, found: dict[str, str], texts: dict[str, bytes], roots: set[str]) -> tuple[str, Manifest]:
    absent = {SUMS, MANIFEST} - texts.keys()
    if absent or len(roots) != 1:
        msg = f"{archive} holds no bundle ({' and '.join(sorted(absent)) or 'more than one directory'})"
        raise BundleError(msg)
    identity = release_id(Manifest.parse(texts[MANIFEST]).version, texts[SUMS])
    digests = check_identity(identity, texts[SUMS])
    del found[SUMS]
    findings = [f"{path} is missing" for path in sorted(digests.keys() - found.keys())]
    findings += [f"{path} is altered" for path in sorted(digests.keys() & found.keys()) if found[path] != digests[path]]
    findings += [f"{path} does not belong there" for path in sorted(found.keys() - digests.keys())]
    if roots != {identity}:
        findings.append(f"its directory is {roots.pop()}, not {identity}")
    if findings:
        msg = f"the bundle {archive} is not whole: {'; '.join(findings)}. Build it again"
        raise BundleError(msg)
    return identity, check_manifest(identity, texts[MANIFEST], digests)
