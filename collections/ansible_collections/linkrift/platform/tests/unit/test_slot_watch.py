# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _slot
from ansible_collections.linkrift.platform.plugins.module_utils._gate import Answer
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import SlotError
from ansible_collections.linkrift.platform.plugins.module_utils._slot_watch import (
    Patience,
    Watched,
    begin,
    judge_work,
    refuse,
    watch,
)
from ansible_collections.linkrift.platform.plugins.modules import slot_watch as module
from ansible_collections.linkrift.platform.tests.unit.slot_fakes import NEW, OLD, SECRET, FakeHost, facts, make_host

MINUTE = Patience(seconds=60, interval=1)
Run = Callable[..., dict[str, Any]]


def bring_up(host: FakeHost) -> None:
    slot = _slot.candidate(host, OLD).slot
    _slot.admitted(host, slot)
    _slot.live(host, slot)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = make_host(tmp_path, "redirect", (0, 0))
    bring_up(host)
    return host


def at_look(host: FakeHost, number: int, action: Callable[[], object]) -> None:
    """Have something happen when health is asked for at a look."""
    host.when_asked[host.asked + number] = lambda: action() and None


def turn(host: FakeHost, behaviour: str, slot: str = "blue") -> Callable[[], object]:
    return lambda: setattr(host.system.processes[host.unit(slot)], "behaviour", behaviour)


def seen(host: FakeHost, patience: Patience = MINUTE, slot: str | None = None) -> Watched:
    watched = begin(host, slot, patience)
    assert watched is not None
    watch([watched], patience)
    return watched


def test_a_slot_that_stays_well_is_watched_to_the_end(host: FakeHost) -> None:
    before, began = facts(host), host.clock.time()
    at_look(host, 30, lambda: host.system.use_memory(host.unit("blue"), 300))
    at_look(host, 31, lambda: host.system.use_memory(host.unit("blue"), 200))
    found = seen(host)
    refuse([found])
    assert host.clock.time() - began == 60
    assert found.as_dict() == {
        "slot": "blue",
        "release": OLD,
        "looks": 61,
        "wrong": 0,
        "memory": {"first_mib": 100.0, "mib": 300.0, "processes": 2, "bound_mib": 921.6},
        "errors": {"lines": 0, "allowed": 0.0, "minutes": 1.0},
        "smoke": "asked",
        "reason": "",
    }
    assert facts(host) == before


def test_looking_once_takes_no_time(host: FakeHost) -> None:
    began = host.clock.time()
    assert seen(host, Patience()).looks == 1
    assert host.clock.time() == began


@pytest.mark.parametrize(
    ("behaviour", "reason", "looks"),
    [
        ("answers 500", r"/ping answers 500, not 302 \(2 times in a row\)", 6),
        ("never healthy", r"/health answers 503, not 200 \(2 times in a row\)", 6),
        ("wrong version", r"release 9\.9\.9\+999999999999 answers, not 1\.0\.0", 5),
        ("silent", r"/health answers ConnectionRefusedError.*, not 200", 6),
    ],
)
def test_a_slot_that_turns_bad_is_told_at_once(host: FakeHost, behaviour: str, reason: str, looks: int) -> None:
    at_look(host, 5, turn(host, behaviour))
    found = seen(host)
    assert found.looks == looks
    with pytest.raises(SlotError, match=rf"redirect in blue \(1\.0\.0\+aaaaaaaaaaaa\): {reason}") as failure:
        refuse([found])
    assert failure.value.evidence["services"] == {"redirect": found.as_dict()}
    evidence: Any = failure.value.evidence["evidence"]
    assert evidence["redirect"]["journal"] == ["started", "connecting with password ********"]
    assert SECRET not in json.dumps(failure.value.evidence)


def test_one_wrong_answer_is_counted_and_forgiven_unless_it_is_the_last(host: FakeHost) -> None:
    at_look(host, 5, turn(host, "never healthy"))
    at_look(host, 6, turn(host, "good"))
    found = seen(host)
    assert (found.wrong, found.reason) == (1, "")
    turn(host, "never healthy")()
    assert "answers 503" in seen(host, Patience()).reason


def test_memory_that_grows_beyond_the_bound_ends_the_watch(host: FakeHost) -> None:
    at_look(host, 20, lambda: host.system.use_memory(host.unit("blue"), 1000))
    found = seen(host)
    assert (found.looks, found.most_mib) == (20, 1000.0)
    assert found.reason == "its 2 processes have 1000 MiB in use, of 922 MiB at most"


def test_errors_end_the_watch_within_seconds(host: FakeHost) -> None:
    at_look(host, 10, lambda: host.system.complain("cannot do this", at=host.clock.time()))
    found = seen(host)
    assert 10 <= found.looks <= 15
    assert found.reason.startswith("1 lines of level error or worse")
    with pytest.raises(SlotError) as failure:
        refuse([found])
    evidence: Any = failure.value.evidence["evidence"]
    assert "cannot do this" in evidence["redirect"]["errors"][0]


def test_errors_below_the_rate_are_counted(host: FakeHost) -> None:
    host.gates = dataclasses.replace(host.gates, error_rate=1)
    at_look(host, 10, lambda: host.system.complain("cannot do this", at=host.clock.time()))
    found = seen(host)
    assert (found.reason, found.errors.figures["lines"]) == ("", 1)


@pytest.mark.parametrize(
    ("patience", "lines"),
    [(MINUTE, 0), (Patience(), 1), (Patience(since=1050.0), 0), (Patience(since=1001.0), 1)],
)
def test_from_when_on_errors_count(host: FakeHost, patience: Patience, lines: int) -> None:
    host.system.complain("cannot do this", at=1040.0)
    host.clock.now = 1090.0
    assert seen(host, patience).errors.figures["lines"] == lines


def test_what_was_said_before_the_slot_was_started_never_counts(host: FakeHost) -> None:
    host.clock.now = 1010.0
    host.system.complain("cannot do this", at=999.0)
    assert seen(host, Patience(since=0.0)).reason == ""


def test_a_process_that_was_started_again_is_not_well(host: FakeHost) -> None:
    watched = begin(host, None, MINUTE)
    assert watched is not None
    watched.pid = 41
    watch([watched], MINUTE)
    assert "ended, or was started again, while it was watched: it is active (running)" in watched.reason


def test_a_slot_that_does_not_run_is_not_well(host: FakeHost) -> None:
    host.system.crash_process(host.unit("blue"))
    found = seen(host)
    assert (found.looks, found.reason.partition(":")[0]) == (0, "linkrift-redirect@blue.service does not run")


def test_a_slot_that_crashes_meanwhile_is_not_well(host: FakeHost) -> None:
    at_look(host, 3, lambda: host.system.crash_process(host.unit("blue")))
    assert "ended, or was started again" in seen(host).reason


def test_a_drained_host_is_well_as_a_standby(host: FakeHost) -> None:
    _slot.drained(host)
    assert seen(host, Patience()).reason == ""


def test_another_slot_than_the_live_one(host: FakeHost) -> None:
    _slot.candidate(host, NEW)
    assert seen(host, Patience(), "green").view.release == NEW


def test_a_worker_that_is_admitted_works(tmp_path: Path) -> None:
    worker = make_host(tmp_path, "worker", (0, 0))
    bring_up(worker)
    assert seen(worker, Patience()).reason == ""
    process = worker.system.processes[worker.unit("blue")]
    process.variables["LINKRIFT_ADMISSION_FILE"] = str(tmp_path / "none")
    turn(worker, "never pauses")()
    assert seen(worker, Patience()).reason == "/health answers 404, not 200"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"paused": False, "overdue_seconds": 15.0}, ""),
        ({"paused": False}, ""),
        ({"paused": True}, "the worker is paused, though it is admitted"),
        (
            {"overdue_seconds": 15.1},
            "the worker has had clicks to store for 15.1 s, of 15 s at most: its journal says why",
        ),
        ({"overdue_seconds": "long"}, "/health has overdue_seconds 'long', which is no number"),
    ],
)
def test_what_a_worker_that_is_admitted_must_do(answer: dict[str, Any], reason: str) -> None:
    assert judge_work(Answer(200, answer), 15.0).reason == reason


def test_a_worker_that_stores_nothing_is_not_well(tmp_path: Path) -> None:
    worker = make_host(tmp_path, "worker", (0, 0))
    bring_up(worker)
    turn(worker, "stores nothing")()
    assert "clicks to store for 15.1 s, of 15 s at most" in seen(worker, Patience()).reason
    worker.gates = dataclasses.replace(worker.gates, overdue=20.0)
    assert seen(worker, Patience()).reason == ""
    # On a drained host it is no worker that stores.
    worker.gates = dataclasses.replace(worker.gates, overdue=15.0)
    worker.layout.admission_file("worker", "blue").unlink()
    assert seen(worker, Patience()).reason == ""


def test_a_release_that_is_older_than_the_canary_gets_no_real_requests(host: FakeHost) -> None:
    host.layout.release_record(OLD).write_text(json.dumps({"id": OLD, "schema_level": 3}))
    turn(host, "no canary")()
    found = seen(host, Patience())
    assert found.reason == ""
    assert found.as_dict()["smoke"].startswith("skipped: release 1.0.0+aaaaaaaaaaaa has schema level 3")


# --- the module ---


@pytest.fixture
def run(host: FakeHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module on a host where redirect is live, and return its result."""
    other = make_host(host.layout.root / "other", "api", (0, 0))

    def host_of(service: str, params: dict[str, Any]) -> FakeHost:
        if service == "redirect":
            return host
        return dataclasses.replace(other, service=service)

    monkeypatch.setattr(module, "host_of", host_of)

    def start(**arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return start


def test_module_watches_what_is_live(run: Run, host: FakeHost) -> None:
    began = host.clock.time()
    result = run(seconds=10)
    assert (result["changed"], list(result["services"])) == (False, ["redirect"])
    assert host.clock.time() - began == 10
    assert result["msg"] == "all is well: redirect"


def test_module_in_check_mode_looks_once(run: Run) -> None:
    assert run(seconds=10, _ansible_check_mode=True)["services"]["redirect"]["looks"] == 1


def test_module_fails_with_evidence(run: Run, host: FakeHost) -> None:
    turn(host, "answers 500")()
    result = run(services=["redirect"])
    assert result["failed"]
    assert result["evidence"]["redirect"]["answer"]["status"] == 500
    assert result["services"]["redirect"]["wrong"] == 1
    assert SECRET not in json.dumps(result)


def test_module_refuses_a_service_that_is_not_live(run: Run) -> None:
    assert "nothing of api, worker is live on this host" in run(services=["redirect", "api", "worker"])["msg"]


def test_module_takes_ports_and_bounds() -> None:
    params = {
        **{name: argument.get("default") for name, argument in module.ARGUMENTS.items()},
        "ports": {"api": {"blue": "9080"}},
        "memory_bound": 10.0,
        "overdue": 20.0,
    }
    host = module.host_of("api", params)
    assert (host.port("blue"), host.port("green")) == (9080, 8180)
    assert (host.gates.memory_bound, host.gates.overdue) == (10.0, 20.0)
