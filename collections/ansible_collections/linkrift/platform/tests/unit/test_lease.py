# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The fleet's lease: who gets it, who is refused, and what is left of a dead run's."""

from __future__ import annotations

import dataclasses
import datetime
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _lease as leases
from ansible_collections.linkrift.platform.plugins.module_utils._paths import exclusive
from ansible_collections.linkrift.platform.plugins.modules import fleet_lock, fleet_lock_info

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc)
CONTROL = leases.Control("5f1d7a84c0b2e963", 4711, "1180034")
ALICE = leases.Wish("20260131T120000Z-aaaaaa", "alice@control", CONTROL, "deploy", 900)
BOB = leases.Wish("20260131T120500Z-bbbbbb", "bob@other", leases.Control(), "patch", 600)
Run = Callable[..., dict[str, Any]]


def after(seconds: float) -> datetime.datetime:
    return NOON + datetime.timedelta(seconds=seconds)


def hold(path: Path, wish: leases.Wish, seconds: float = 0, *, write: bool = True) -> leases.Outcome:
    return leases.hold(path, wish, write=write, clock=lambda: after(seconds))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new/lock.json"


def test_the_first_one_gets_it_and_others_are_told_everything(path: Path) -> None:
    assert leases.read(path) is None
    taken = hold(path, ALICE)
    assert (taken.before, taken.taken_over, taken.warning) == (None, None, "")
    assert leases.read(path) == taken.after
    assert path.stat().st_mode & 0o777 == 0o644
    assert json.loads(path.read_text()) == {
        "format": 1,
        "id": ALICE.id,
        "purpose": "deploy",
        "by": "alice@control",
        "control": {"host": "5f1d7a84c0b2e963", "process": 4711, "started": "1180034"},
        "since": "2026-01-31T12:00:00Z",
        "until": "2026-01-31T12:15:00Z",
    }
    with pytest.raises(leases.LeaseHeldError) as refused:
        hold(path, BOB, 300)
    for told in (
        "deploy 20260131T120000Z-aaaaaa by alice@control, since 2026-01-31T12:00:00Z",
        "until 2026-01-31T12:15:00Z",
        "in 600 s",
        "take_over=20260131T120000Z-aaaaaa",
    ):
        assert told in str(refused.value)
    assert refused.value.lease == taken.after, "so that it can be seen whether that run is dead"
    assert leases.read(path) == taken.after, "refusing changes nothing"


def test_renewing_writes_only_what_is_worth_it(path: Path) -> None:
    first = hold(path, ALICE)
    assert hold(path, ALICE, 90).after == first.after
    renewed = hold(path, ALICE, 91)
    assert renewed.before == first.after
    assert renewed.after is not None
    assert (renewed.after.since, renewed.after.until) == (NOON, after(991))
    assert leases.read(path) == renewed.after
    assert hold(path, dataclasses.replace(ALICE, seconds=60), 100).after == renewed.after, "never made shorter"


def test_a_run_goes_on_with_a_lease_that_ended_while_nobody_wanted_it(path: Path) -> None:
    hold(path, ALICE)
    late = hold(path, dataclasses.replace(ALICE, renew=True), 5000)
    assert late.taken_over is None
    assert late.after is not None
    assert late.after.until == after(5900)


def test_what_a_run_says_of_itself_is_written_anew_when_it_changes(path: Path) -> None:
    first = hold(path, ALICE).after
    resumed = leases.Control(CONTROL.host, 4712, "99")
    again = hold(path, dataclasses.replace(ALICE, control=resumed, purpose="rollback"), 10).after
    assert first is not None
    assert again == dataclasses.replace(first, control=resumed, purpose="rollback", until=after(910))
    assert leases.read(path) == again


@pytest.mark.parametrize(
    ("changes", "seconds", "reason"),
    [
        ({}, 900, "it ended at 2026-01-31T12:15:00Z"),
        ({"abandoned": ["x", ALICE.id]}, 1, "its process is gone"),
        ({"take_over": ALICE.id}, 1, "as take_over asks for"),
    ],
)
def test_what_is_over_is_taken_over(path: Path, changes: dict[str, Any], seconds: float, reason: str) -> None:
    first = hold(path, ALICE).after
    taken = hold(path, dataclasses.replace(BOB, **changes), seconds)
    assert taken.taken_over == taken.before == first
    assert reason in taken.warning
    assert "alice@control" in taken.warning
    assert leases.read(path) == taken.after
    assert taken.after is not None
    assert taken.after.by == "bob@other"


def test_what_is_not_over_is_not(path: Path) -> None:
    hold(path, ALICE)
    for changes in ({"abandoned": ["x"]}, {"take_over": "x"}, {"take_over": "", "abandoned": []}):
        with pytest.raises(leases.LeaseHeldError):
            hold(path, dataclasses.replace(BOB, **changes), 899)


def test_a_run_that_slept_does_not_take_anew_what_it_had(path: Path) -> None:
    awake = dataclasses.replace(ALICE, renew=True, take_over=BOB.id)
    with pytest.raises(leases.LeaseLostError, match="nobody holds it now"):
        hold(path, awake)
    hold(path, BOB)
    with pytest.raises(leases.LeaseLostError, match=f"held by patch {BOB.id} by bob@other"):
        hold(path, awake, 5000)


def test_only_ones_own_is_freed(path: Path) -> None:
    assert leases.free(path, ALICE.id, write=True) == leases.Outcome(None, None)
    assert not path.parent.exists(), "nothing to free, nothing to make"
    held = hold(path, BOB).after
    kept = leases.free(path, ALICE.id, write=True)
    assert (kept.before, kept.after) == (held, held)
    assert "bob@other" in kept.warning
    foreseen = leases.free(path, BOB.id, write=False)
    assert leases.read(path) == held, "check mode"
    assert leases.free(path, BOB.id, write=True) == foreseen == leases.Outcome(held, None)
    assert leases.read(path) is None


def test_check_mode_writes_nothing_and_refuses_as_well(path: Path) -> None:
    assert hold(path, ALICE, write=False).after is not None
    assert not path.parent.exists()
    hold(path, ALICE)
    with pytest.raises(leases.LeaseHeldError):
        hold(path, BOB, write=False)


def test_of_many_at_once_one_gets_it(path: Path) -> None:
    outcomes: list[bool] = []
    gate = threading.Barrier(8)

    def start(number: int) -> None:
        gate.wait()
        try:
            hold(path, dataclasses.replace(BOB, id=f"run{number}"))
        except leases.LeaseHeldError:
            outcomes.append(False)
        else:
            outcomes.append(True)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]


def test_one_decides_after_the_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(path, ALICE)
    monkeypatch.setattr(leases, "LOCK_DEADLINE", 0.0)
    with exclusive(path.with_name("lock.json.lock"), 0):
        with pytest.raises(leases.LeaseError, match="another process has held"):
            hold(path, ALICE, 500)
        with pytest.raises(leases.LeaseError, match="another process has held"):
            leases.free(path, ALICE.id, write=True)


LEASE = {"format": 1, "id": "x", "purpose": "p", "by": "b", "control": {}, "since": "2026-01-31T12:00:00Z"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is damaged"),
        ("[]", "is damaged"),
        (json.dumps(LEASE), "is damaged"),
        (json.dumps({**LEASE, "until": "tomorrow"}), "is damaged"),
        (json.dumps({**LEASE, "until": "2026-01-31T12:00:00Z", "control": "me"}), "is damaged"),
        (json.dumps({**LEASE, "until": "2026-01-31T12:00:00Z", "id": "../x"}), "no id of a run"),
        ('{"format": 2}', "has format 2"),
    ],
)
def test_a_damaged_lease_is_not_none(path: Path, text: str, complaint: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(leases.LeaseError, match=complaint):
        hold(path, ALICE)
    with pytest.raises(leases.LeaseError, match=complaint):
        leases.free(path, ALICE.id, write=True)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"id": "a b"}, "no id of a run"),
        ({"id": ""}, "no id of a run"),
        ({"purpose": " \n"}, "purpose is empty"),
        ({"by": ""}, "owner.by is empty"),
        ({"seconds": 0}, "0 s is none"),
    ],
)
def test_nonsense_is_refused(path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(leases.LeaseError, match=complaint):
        hold(path, dataclasses.replace(ALICE, **changes))
    assert not path.parent.exists()
    with pytest.raises(leases.LeaseError, match="no id of a run"):
        leases.free(path, "../x", write=True)


def test_what_others_are_told_is_one_line(path: Path) -> None:
    taken = hold(path, dataclasses.replace(ALICE, by="alice\n@control", purpose="a\tdeploy")).after
    assert taken is not None
    assert str(taken).startswith(f"a deploy {ALICE.id} by alice @control")


# -- the modules -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def start(module: Any, **arguments: Any) -> dict[str, Any]:
        given = {"path": str(path)} | arguments
        with patch_module_args(given), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return start


def owner(wish: leases.Wish) -> dict[str, Any]:
    return {"id": wish.id, "by": wish.by, "control": dataclasses.asdict(wish.control), "signed": "deploy"}


def test_modules(run: Run, path: Path) -> None:
    free = run(fleet_lock_info)
    assert (free["changed"], free["lease"], free["held"], free["seconds_left"]) == (False, None, False, 0)
    wish = {"owner": owner(ALICE), "purpose": "deploy"}
    foreseen = run(fleet_lock, _ansible_check_mode=True, **wish)
    assert (foreseen["changed"], foreseen["diff"]["before"], path.exists()) == (True, "", False)
    taken = run(fleet_lock, **wish)
    assert (taken["changed"], taken["taken_over"]) == (True, None)
    assert taken["diff"]["after"] == path.read_text()
    assert not run(fleet_lock, **wish)["changed"], "a second run"
    assert taken["lease"]["control"] == owner(ALICE)["control"]
    info = run(fleet_lock_info)
    assert (info["held"], info["lease"]) == (True, taken["lease"])
    assert 880 < info["seconds_left"] <= 900

    refused = run(fleet_lock, owner=owner(BOB), purpose="patch")
    assert refused["failed"]
    assert "deploy" in refused["msg"]
    assert "has lost" in run(fleet_lock, owner=owner(BOB), purpose="patch", renew=True)["msg"]
    assert run(fleet_lock, owner=owner(BOB))["msg"].endswith("purpose")
    over = run(fleet_lock, owner=owner(BOB), purpose="patch", abandoned=[ALICE.id])
    assert (over["taken_over"], over["lease"]["by"]) == (taken["lease"], "bob@other")
    assert "process is gone" in str(over["warnings"])
    kept = run(fleet_lock, owner=owner(ALICE), state="free")
    assert (kept["changed"], kept["lease"]) == (False, over["lease"])
    assert "stays" in str(kept["warnings"])
    back = run(fleet_lock, purpose="deploy", owner=owner(ALICE), take_over=BOB.id, seconds=60)
    assert back["taken_over"] == over["lease"]
    assert run(fleet_lock_info)["seconds_left"] <= 60
    freed = run(fleet_lock, owner=owner(ALICE), state="free")
    assert (freed["changed"], freed["lease"], freed["diff"]["after"]) == (True, None, "")
    assert not run(fleet_lock, owner=owner(ALICE), state="free")["changed"]
    assert not path.exists()


def test_a_lease_that_ended_is_shown_and_not_held(run: Run, path: Path) -> None:
    ended = hold(path, ALICE).after
    assert ended is not None
    info = run(fleet_lock_info)
    assert (info["held"], info["seconds_left"], info["lease"]) == (False, 0, ended.as_dict())


def test_modules_tell_what_is_wrong(run: Run, path: Path) -> None:
    wrong = {**owner(ALICE), "control": {"process": "me"}}
    assert run(fleet_lock, owner=wrong, purpose="x")["msg"] == "the number of its process is 'me', which is none"
    path.parent.mkdir()
    path.write_text("{")
    assert "is damaged" in run(fleet_lock_info)["msg"]
    assert "is damaged" in run(fleet_lock, owner=owner(ALICE), purpose="x")["msg"]


def test_only_what_somebody_else_has_or_had_is_gone(run: Run, path: Path) -> None:
    """An undo goes on with a lease that cannot be written, and not with one that was taken."""
    assert "gone" not in run(fleet_lock, owner=owner(ALICE), purpose="x")
    assert run(fleet_lock, owner=owner(BOB), purpose="x")["gone"]
    path.unlink()
    assert run(fleet_lock, owner=owner(ALICE), purpose="x", renew=True)["gone"]
    path.write_text("{")
    assert "gone" not in run(fleet_lock, owner=owner(ALICE), purpose="x", renew=True)
