# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._paths import (
    SLOT_LINES,
    Layout,
    append_ledger,
    check_release_id,
    exclusive,
    link_atomically,
    linked_release,
    other_slot,
    read_ledger,
    rendered_part,
    unit_name,
    write_atomically,
)

RELEASE = "1.4.0+3f9c2a71b0de"


@pytest.mark.parametrize(
    "text", ["", "1.4.0", "1.4.0+3F9C2A71B0DE", "../1+3f9c2a71b0de", "1.4.0+3f9c2a71b0de/..", "+3f9c2a71b0de"]
)
def test_what_is_no_release_id_never_becomes_a_path(text: str) -> None:
    with pytest.raises(ValueError, match="is no release id"):
        Layout().release(text)


def test_names_and_paths(tmp_path: Path) -> None:
    assert check_release_id(RELEASE) == RELEASE
    assert [other_slot("blue"), other_slot("green")] == ["green", "blue"]
    assert unit_name("api", "blue") == "linkrift-api@blue.service"
    host = Layout()
    assert str(host.release_record(RELEASE)) == f"/opt/linkrift/releases/{RELEASE}/release.json"
    assert str(host.slot_link("api", "blue")) == "/opt/linkrift/api/blue"
    assert str(host.current_link("api")) == "/opt/linkrift/api/current"
    assert str(host.rendered_env("api")) == "/etc/linkrift/api.env"
    assert str(host.pinned_env("api", "blue")) == "/etc/linkrift/api/blue.env"
    assert str(host.admission_file("api", "blue")) == "/var/lib/linkrift/api/blue.admitted"
    assert str(host.ledger("api")) == "/var/lib/linkrift/ledger/api.jsonl"
    assert str(host.releases_lock) == "/opt/linkrift/releases/.lock"
    assert Layout(tmp_path).releases == tmp_path / "opt/linkrift/releases"


def test_a_link_is_read_by_the_release_it_leads_to(tmp_path: Path) -> None:
    link = tmp_path / "blue"
    assert linked_release(link) is None
    assert link_atomically(link, Path(f"/opt/linkrift/releases/{RELEASE}"))
    assert linked_release(link) == RELEASE
    assert not link_atomically(link, Path(f"/opt/linkrift/releases/{RELEASE}"))
    assert link_atomically(link, Path("/elsewhere"))
    assert linked_release(link) is None


def test_a_link_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "blue").mkdir()
    with pytest.raises(OSError, match="directory"):
        link_atomically(tmp_path / "blue", Path("/elsewhere"))
    assert [path.name for path in tmp_path.iterdir()] == ["blue"]


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_atomically(file, "one", mode=0o600)
    assert file.stat().st_mode & 0o777 == 0o600

    def full(dummy: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, "two")
    assert file.read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_ledger_survives_a_torn_line(tmp_path: Path) -> None:
    ledger = tmp_path / "api.jsonl"
    assert read_ledger(ledger) == []
    append_ledger(ledger, {"n": 1})
    with ledger.open("a") as stream:
        stream.write('{"n": 2, "rel')
    append_ledger(ledger, {"n": 3})
    assert [entry["n"] for entry in read_ledger(ledger)] == [1, 3]


def test_a_lock_names_itself_to_who_has_to_wait(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with exclusive(lock, 0), pytest.raises(TimeoutError, match="fuser -v"), exclusive(lock, 0.15):
        pass
    with exclusive(tmp_path / "lock", 0):
        pass


def test_a_lock_that_is_let_go_in_time_is_had(tmp_path: Path) -> None:
    held = exclusive(tmp_path / "lock", 0)
    held.__enter__()
    release = threading.Timer(0.2, held.__exit__, (None, None, None))
    release.start()
    with exclusive(tmp_path / "lock", 30):
        pass
    release.join()


def test_a_pinned_file_holds_the_rendered_one() -> None:
    assert rendered_part(f"A=1\n{SLOT_LINES}\nB=2\n") == "A=1\n"
    assert rendered_part("A=1\n") == "A=1\n"
