# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _ledger as ledger
from ansible_collections.linkrift.platform.plugins.module_utils._paths import Layout, read_ledger
from ansible_collections.linkrift.platform.plugins.module_utils._slot_lock import LockHeldError, only_run
from ansible_collections.linkrift.platform.tests.unit.slot_fakes import NEW, OLD

ENTRY = ledger.Entry(
    service="api", slot="blue", release=OLD, config_digest="0123", action="live", passed=["admitted"], by="ops"
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_entry_says_what_happened_when_and_by_whom(layout: Layout) -> None:
    ledger.record(layout, ENTRY)
    [entry] = read_ledger(layout.ledger("api"))
    time = entry.pop("time")
    assert time.endswith("Z")
    assert len(time) == len("2026-01-01T00:00:00.000Z")
    assert entry == {
        "service": "api",
        "slot": "blue",
        "release": OLD,
        "config_digest": "0123",
        "action": "live",
        "passed": ["admitted"],
        "by": "ops",
    }


def test_failure_is_told_only_where_there_is_one(layout: Layout) -> None:
    assert "failed" not in ENTRY.as_dict()
    assert dataclasses.replace(ENTRY, failed="not ready").as_dict()["failed"] == "not ready"


def test_entries_are_added_never_rewritten(layout: Layout) -> None:
    ledger.record(layout, ENTRY)
    first = layout.ledger("api").read_bytes()
    ledger.record(layout, dataclasses.replace(ENTRY, release=NEW))
    assert layout.ledger("api").read_bytes().startswith(first)
    assert [entry["release"] for entry in read_ledger(layout.ledger("api"))] == [OLD, NEW]


def test_torn_last_line_is_closed_and_left_out(layout: Layout) -> None:
    ledger.record(layout, ENTRY)
    path = layout.ledger("api")
    torn = path.read_bytes() + path.read_bytes()[:30]
    path.write_bytes(torn)
    assert len(read_ledger(path)) == 1
    ledger.record(layout, dataclasses.replace(ENTRY, release=NEW))
    assert path.read_bytes().startswith(torn + b"\n")
    assert [entry["release"] for entry in read_ledger(path)] == [OLD, NEW]


def test_newest_counts_and_failures_do_not(layout: Layout) -> None:
    assert ledger.newest(layout, "api", "live") is None
    for entry in (
        ENTRY,
        dataclasses.replace(ENTRY, slot="green", release=NEW),
        dataclasses.replace(ENTRY, release=NEW, failed="no"),
        dataclasses.replace(ENTRY, action="stopped"),
    ):
        ledger.record(layout, entry)
    newest = ledger.newest(layout, "api", "live")
    assert newest is not None
    assert (newest["slot"], newest["release"]) == ("green", NEW)
    of_blue = ledger.newest(layout, "api", "live", "blue")
    assert of_blue is not None
    assert of_blue["release"] == OLD


@pytest.mark.parametrize(("action", "recorded"), [("live", False), ("admitted", True)])
def test_only_one_slot_is_live_but_each_has_its_own_steps(layout: Layout, action: str, recorded: bool) -> None:
    blue = dataclasses.replace(ENTRY, action=action)
    green = dataclasses.replace(blue, slot="green", release=NEW)
    for entry in (blue, green):
        ledger.record(layout, entry)
    assert ledger.is_recorded(layout, green)
    assert ledger.is_recorded(layout, blue) is recorded
    assert not ledger.is_recorded(layout, dataclasses.replace(green, config_digest="4567"))


# --- what was good ---


def passed(release: str, slot: str, digest: str = "s1", action: str = "live", **more: str) -> dict[str, str]:
    return {"time": "t", "release": release, "slot": slot, "config_digest": digest, "action": action, **more}


def test_an_undone_release_is_not_good_though_it_was_live_before() -> None:
    first, second = passed(OLD, "blue"), passed(NEW, "green")
    again, undone = passed(NEW, "blue"), passed(NEW, "blue", action="undone", time="later")
    assert ledger.good_entries([first, second, again]) == [first, second, again]
    assert ledger.good_entries([first, second, again, undone]) == [first]
    assert ledger.undone_releases([first, second, again, undone]) == {NEW: "later"}


def test_undone_settings_leave_the_release_good() -> None:
    before, with_new = passed(OLD, "blue"), passed(OLD, "green", "s2")
    undone = passed(OLD, "green", "s2", action="undone")
    assert ledger.good_entries([before, with_new, undone]) == [before]
    assert ledger.undone_releases([before, with_new, undone]) == {}


def test_what_is_good_again_is_not_undone_any_more() -> None:
    undone, again = passed(NEW, "green", action="undone"), passed(NEW, "green")
    assert ledger.good_entries([passed(NEW, "green"), undone, again]) == [again]
    assert ledger.undone_releases([undone, again]) == {}


def test_what_failed_was_never_good() -> None:
    assert ledger.good_entries([passed(NEW, "green", failed="x"), passed(NEW, "green", action="candidate")]) == []


# --- the lock ---


def hold(path: Path, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with only_run(path, "state=candidate", "ops", 1):
        ready.set()
        done.wait(30)


def test_second_run_is_told_who_is_first(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(path, ready, done))
    process.start()
    try:
        assert ready.wait(10)
        held = rf"another run is at work .* state=candidate by ops, process {process.pid}, since 2"
        with pytest.raises(LockHeldError, match=held), only_run(path, "state=live", "other", 0.1):
            pass
    finally:
        done.set()
        process.join(10)
    with only_run(path, "state=live", "other", 0.1):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_lock_ends_with_its_holder_however_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(path, ready, done))
    process.start()
    assert ready.wait(10)
    process.kill()
    process.join(10)
    with only_run(path, "state=live", "other", 0):
        pass


def test_holder_that_cannot_be_read_is_looked_for_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with only_run(path, "state=live", "ops", 0):
        path.write_text("")
        with pytest.raises(LockHeldError, match="fuser -v"), only_run(path, "state=live", "other", 0):
            pass


def test_error_inside_is_not_taken_for_a_held_lock(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="mine"), only_run(tmp_path / "lock", "state=live", "ops", 0):
        raise TimeoutError("mine")
