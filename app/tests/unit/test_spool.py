"""Clicks on disk: what a file survives, and whose it is."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import pytest

from linkrift.redirect import spool as spool_module
from linkrift.redirect.merged import MergedClicks, Run, decode_runs, encode_runs
from linkrift.redirect.spool import Kind, Record, Spool

MIB = 1024 * 1024


def records(count: int, size: int = 20) -> list[Record]:
    return [Record(Kind.ENTRY, f"{number:0{size}}", 3) for number in range(count)]


def adopted(directory: Path) -> list[Record]:
    """Take everything over that nobody holds."""
    spool = Spool(directory, MIB)
    found: list[Record] = []
    while (file := spool.adopt()) is not None:
        found += file.records
        file.finish()
    return found


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    written = [*records(3), Record(Kind.MERGED, "ä\udcff".encode("utf-8", "replace").decode(), 2**31)]
    assert spool.append(written) == 4
    assert spool.size() > 0
    spool.release()
    assert adopted(tmp_path) == written
    assert spool.size() == 0
    assert spool.adopt() is None


def test_a_file_has_one_owner(tmp_path: Path) -> None:
    writer = Spool(tmp_path, MIB)
    writer.append(records(1))
    assert Spool(tmp_path, MIB).adopt() is None, "it is still written"
    assert writer.adopt() is None, "not even by the one who writes it"
    writer.release()
    first = Spool(tmp_path, MIB).adopt()
    assert first is not None
    assert Spool(tmp_path, MIB).adopt() is None, "another one sends it"
    first.leave()
    assert adopted(tmp_path) == records(1), "it was left to others"


def test_one_that_was_removed_meanwhile_is_nobodys(tmp_path: Path) -> None:
    writer = Spool(tmp_path, MIB)
    writer.append(records(1))
    writer.release()
    (path,) = tmp_path.iterdir()
    descriptor = os.open(path, os.O_RDONLY)
    path.unlink()
    assert not spool_module._locked(descriptor)


@pytest.mark.parametrize("kept", range(0, 150, 7))
def test_a_torn_end_costs_what_was_torn(tmp_path: Path, kept: int) -> None:
    spool = Spool(tmp_path, MIB)
    spool.append(records(3))
    spool.release()
    (path,) = tmp_path.iterdir()
    whole = path.stat().st_size // 3
    os.truncate(path, min(kept, path.stat().st_size))
    assert adopted(tmp_path) == records(min(3, kept // whole))
    assert list(tmp_path.iterdir()) == []


def test_something_else_in_the_file_ends_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    spool.append(records(1))
    spool.release()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + b"x" * 1000)
    file = spool.adopt()
    assert file is not None
    assert (file.records, file.damaged) == (records(1), 0)
    file.leave()


def test_it_is_bounded_for_all_processes_together(tmp_path: Path) -> None:
    limit = 64 * 1024
    spools = [Spool(tmp_path, limit) for _ in range(2)]
    written = sum(spool.append(records(1000, 200)) for spool in spools)
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert limit * 0.7 < total <= limit + 2 * 300
    assert written < 2000
    assert spools[0].append(records(1, 200)) == 0
    assert spools[0].append(records(1, 200), beyond_limit=True) == 1, "the last words of a process"
    for spool in spools:
        spool.release()
    assert len(adopted(tmp_path)) == written + 1
    assert spools[0].append(records(1, 200)) == 1, "there is room again"


def test_a_full_disk_takes_whole_records_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room = 100
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, bytes(data)[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", full)
    spool = Spool(tmp_path, MIB)
    assert spool.append(records(10)) == 2, "so many are whole, and come no more"
    for _ in range(3):
        assert spool.append(records(10)[2:]) == 0
    assert len(list(tmp_path.iterdir())) == 1, "no file is left behind by a try"
    assert spool.failing
    assert caplog.text.count("cannot be written") == 1
    monkeypatch.setattr(os, "write", write)
    assert spool.append(records(1)) == 1, "it is tried again"
    spool.release()
    # What was written before the disk was full is whole, and nothing is half.
    file = Spool(tmp_path, MIB).adopt()
    assert file is not None
    assert (file.records, file.damaged) == (records(2), 0)
    file.leave()
    assert adopted(tmp_path) == [*records(2), *records(1)]


def test_what_could_not_be_synced_is_not_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        spool = Spool(tmp_path, MIB)
        assert spool.append(records(2)) == 0
    assert spool.append(records(2)) == 2
    spool.release()
    assert adopted(tmp_path) == [*records(2), *records(2)]


def test_a_file_whose_name_cannot_be_kept_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    spool = Spool(tmp_path, MIB)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert spool.append(records(2)) == 0
    assert (len(list(Path("/proc/self/fd").iterdir())), list(tmp_path.iterdir())) == (before, [])


def test_files_are_looked_for_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(20):
        spool = Spool(tmp_path, MIB)
        spool.append(records(1))
        spool.release()
    looked = 0
    files = Spool._files

    def count(spool: Spool) -> list[Path]:
        nonlocal looked
        looked += 1
        return files(spool)

    monkeypatch.setattr(Spool, "_files", count)
    assert len(adopted(tmp_path)) == 20
    assert looked == 2


@pytest.mark.parametrize(("place", "new"), [(3, b"2"), (4, b"\x07")])
def test_what_a_later_release_wrote_is_left_to_it(tmp_path: Path, place: int, new: bytes) -> None:
    spool = Spool(tmp_path, MIB)
    spool.append(records(2))
    spool.release()
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[place : place + 1] = new
    payload = records(1)[0].content.encode()
    data[13:17] = struct.pack("<I", zlib.crc32(payload, data[4] ^ 3))
    path.write_bytes(bytes(data))
    assert adopted(tmp_path) == []
    assert path.read_bytes() == bytes(data)


def test_what_broke_in_the_middle_is_kept_for_a_person_to_look_at(tmp_path: Path) -> None:
    for _ in range(spool_module.DAMAGED_FILES + 2):
        spool = Spool(tmp_path, MIB)
        spool.append(records(3))
        spool.release()
    for path in tmp_path.iterdir():
        whole = path.stat().st_size // 3
        data = bytearray(path.read_bytes())
        data[whole : whole + 4] = b"\0\0\0\0"
        path.write_bytes(bytes(data))
    assert adopted(tmp_path) == records(1) * (spool_module.DAMAGED_FILES + 2)
    assert [path.suffix for path in tmp_path.iterdir()] == [".damaged"] * spool_module.DAMAGED_FILES


def test_one_that_cannot_be_removed_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    spool = Spool(tmp_path, MIB)
    spool.append(records(1))
    spool.release()
    file = spool.adopt()
    assert file is not None
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", fail)
        file.finish()
    assert adopted(tmp_path) == records(1)


def test_a_file_has_a_bounded_number_of_clicks(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    assert spool.append([Record(Kind.MERGED, "[]", 30_000)] * 6) == 6
    assert len(list(tmp_path.iterdir())) == 3


def test_whether_it_can_be_written_is_known_before_it_must(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path, MIB)
    assert spool.probe()
    assert (list(tmp_path.iterdir()), spool.failing) == ([], False)
    missing = Spool(tmp_path / "missing", MIB)
    assert not missing.probe()
    assert missing.failing
    assert "cannot be written" in caplog.text


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "missing", MIB)
    assert (spool.append(records(1)), spool.size(), spool.adopt()) == (0, 0, None)


def test_merged_clicks_are_counted_by_link_and_minute() -> None:
    merged = MergedClicks(keys=2)
    for code, moment, kept in (("a", 60_001, True), ("a", 119_999, True), ("a", 120_000, True), ("b", 60_000, False)):
        assert merged.add(code, moment) is kept
    assert merged.clicks == 3
    taken = [merged.take(1) for _ in range(4)]
    assert sorted(each for each in taken if each) == [("a", 60_000, 1), ("a", 60_000, 1), ("a", 120_000, 1)]
    assert (taken[3], merged.clicks) == (None, 0)
    assert merged.add("b", 60_000)


def test_a_run_is_the_same_events_each_time() -> None:
    run = Run("a", 60_000, 3, "01234567-89ab-8cde-8123", 254)
    (read,) = decode_runs(encode_runs([run]))
    assert list(read.events()) == list(run.events())
    assert [event[:44] for event in run.events()] == [
        f'{{"id":"01234567-89ab-8cde-8123-{number:012x}"' for number in (254, 255, 256)
    ]
