"""The sweeps: which moments they choose, what they remember, what they look for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tools.bench.moments import Result, Task
from tools.bench.redirect import wrk
from tools.bench.runs import Ended
from tools.lab import LabToolError
from tools.soak import __main__ as command_line
from tools.soak import clicks, faults
from tools.soak.cases import BALANCERS, CASES, SECOND, STORE, Act, Case
from tools.soak.faults import KINDS, wrong_with_run
from tools.soak.install import LONGEST_SECONDS, moment
from tools.soak.kills import Movement, chosen, delay, parse_range
from tools.soak.rounds import Rounds, Row, table
from tools.testing.faulty.switchable_faults import read_fault

# --- Moments ----------------------------------------------------------------------------------------------------------


def test_a_seed_repeats_its_moment_and_others_have_other_ones() -> None:
    moments = [moment(seed) for seed in range(50)]
    assert moments == [moment(seed) for seed in range(50)]
    assert len(set(moments)) == 50
    assert all(5.0 <= found <= LONGEST_SECONDS for found in moments)


def test_a_task_is_hit_while_it_is_at_work() -> None:
    task = Task(7, "Commit", "rollout", 100.0, [Result("app1", "ok", True, 104.0)])
    delays = [delay(task, seed) for seed in range(50)]
    assert all(0 <= found <= 4.0 for found in delays)
    assert max(delays) - min(delays) > 2
    assert delays == [delay(task, seed) for seed in range(50)]


def test_where_nothing_has_changed_since_a_kill_is_the_same_kill() -> None:
    changes = [False, True, False, False, True, True, False]
    tasks = [
        Task(number, "any", "", 0.0, [Result("app1", "ok", False, 1.0), Result("app2", "ok", changed, 1.0)])
        for number, changed in enumerate(changes)
    ]
    assert chosen(tasks, range(100), changing=True) == [1, 2, 4, 5, 6]
    assert chosen(tasks, range(3, 100), changing=True) == [4, 5, 6]
    assert chosen(tasks, range(2, 100), changing=False) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [("3", [3], [2, 4]), ("3-5", [3, 5], [2, 6]), ("3-", [3, 999], [2]), ("0-", [0, 999], [])],
)
def test_tasks_are_chosen_by_number(text: str, inside: list[int], outside: list[int]) -> None:
    found = parse_range(text)
    assert all(number in found for number in inside)
    assert not any(number in found for number in outside)


# --- Rounds -----------------------------------------------------------------------------------------------------------


def run_rounds(file: Path, names: Sequence[str], *, resume: bool = False, stop: str = "") -> list[str]:
    ran = []

    def one(name: str) -> Row:
        if name == stop:
            raise LabToolError("on purpose")
        ran.append(name)
        return {"figure": len(name)}

    Rounds(file, resume=resume).go(names, one)
    return ran


def test_a_sweep_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "soak" / "rounds.jsonl"
    with pytest.raises(LabToolError):
        run_rounds(file, ["a", "b", "c"], stop="b")
    assert run_rounds(file, ["a", "b", "c"], resume=True) == ["b", "c"]
    assert run_rounds(file, ["a", "b", "c"], resume=True) == []
    assert run_rounds(file, ["a", "b", "c"]) == ["a", "b", "c"]


def test_a_patient_sweep_goes_on_after_a_failure(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path / "rounds.jsonl", resume=False)

    def one(name: str) -> Row:
        if name == "b":
            raise LabToolError("on purpose")
        return {}

    rounds.go(["a", "b", "c"], one, patient=True)
    assert (list(rounds.done), rounds.failed) == (["a", "c"], ["b"])


def test_a_table_has_a_column_for_each_key() -> None:
    lines = table([{"a": 1, "bee": "x"}, {"a": 22}]).splitlines()
    assert [line.split() for line in lines] == [["a", "bee"], ["1", "x"], ["22"]]


# --- Faults -----------------------------------------------------------------------------------------------------------


def ended(rc: int | None, output: str) -> Ended:
    return Ended(rc, output, 0.0, 1.0, [])


@pytest.mark.parametrize(
    ("case", "rc", "output", "wrong"),
    [
        (Case("bad", words=["no good"]), 2, "this is no\n    good", 0),
        (Case("bad", words=["no good"]), 2, "something else", 1),
        (Case("bad"), 0, "", 1),
        (Case("good", fails=False), 0, "", 0),
        (Case("good", fails=False), 2, "", 1),
        (Case("good", fails=False), None, "", 1),
    ],
)
def test_a_run_has_to_end_as_its_case_says(case: Case, rc: int | None, output: str, wrong: int) -> None:
    assert len(wrong_with_run(case, ended(rc, output))) == wrong


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases_are_what_the_faulty_release_and_the_lab_know(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text(json.dumps(case.faults))
    for service in ("api", "redirect", "worker"):
        assert bool(read_fault(service, file).name) == (service in case.faults)
    assert set(case.faults) <= set(case.services.split(","))
    assert case.bundle in {*KINDS, "good"}
    assert bool(case.faults) == (case.bundle == "faulty")
    for act in (*case.before, *case.after, *case.during.values()):
        assert act.where in {SECOND, BALANCERS, STORE}
        act.command.format(idle_port=1, address="x")
    assert bool(case.before) == bool(case.after)


def test_what_happens_in_the_middle_happens_once_and_is_missed_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    acts: list[str] = []
    monkeypatch.setattr(faults, "carry_out", lambda _platform, act: acts.append(act.command))
    case = Case("x", during={"Commit": Act(BALANCERS, "reload"), "Never": Act(BALANCERS, "restart")})
    begun = [Task(number, name, "", 0.0) for number, name in enumerate(["Look", "Commit", "Commit"])]
    with faults.Beside(cast("Any", None), case) as beside:
        assert not any(beside.watch(begun[:count], 0.0) for count in range(4))
    assert acts == ["reload"]
    assert beside.wrong == ["the task 'Never' never began"]


def test_a_movement_that_is_to_fail_has_to() -> None:
    good, bad = (Movement("deploy", {}, "1+a", "1+b", fails=fails) for fails in (False, True))
    assert good.wrong_with_end(ended(0, "")) == bad.wrong_with_end(ended(2, "")) == []
    assert good.wrong_with_end(ended(2, ""))
    assert bad.wrong_with_end(ended(0, ""))


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


# --- Command line -----------------------------------------------------------------------------------------------------


def test_parts_are_named() -> None:
    options = command_line.parse_arguments(["rollouts", "--count", "3"])
    assert (options.part, options.count) == (["rollouts"], 3)
    assert command_line.parse_arguments([]).part == []


@pytest.mark.parametrize("wrong", [["nonsense"], ["rollouts", "--count", "0"], ["kills", "--every", "0"]])
def test_what_makes_no_sense_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.parse_arguments(wrong)


# --- Clicks -----------------------------------------------------------------------------------------------------------


def clicks_load(statuses: dict[int, int], **errors: int) -> wrk.Load:
    return wrk.Load(sum(statuses.values()), 10.0, 1.0, 2.0, 3.0, errors, statuses)


def test_clicks_that_all_arrived_are_fine() -> None:
    # What is asked at the end is nobody's, and asked too often.
    load = clicks_load({302: 1000, 404: 20, 429: 5}, status=25, read=0)
    assert clicks.wrong_with_load(load, 1000) == []
    assert clicks.wrong_with_counts(1000, 1000) == []


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (clicks_load({302: 999, 404: 20}), "of 1000 clicks, 999"),
        (clicks_load({302: 1001, 404: 20}), "of 1000 clicks, 1001"),
        (clicks_load({302: 1000, 503: 1}), "503"),
        (clicks_load({302: 1000}, timeout=2), "timeout"),
    ],
)
def test_clicks_that_visitors_missed_are_found(load: wrk.Load, words: str) -> None:
    assert words in "; ".join(clicks.wrong_with_load(load, 1000))


def test_clicks_that_are_lost_or_counted_twice_are_found() -> None:
    assert clicks.wrong_with_counts(1000, 998) == ["of 1000 clicks, 2 were not counted"]
    assert clicks.wrong_with_counts(1000, 1003) == ["3 clicks more were counted than the 1000 that were sent"]


def test_a_worker_and_redis_are_hit_while_clicks_come() -> None:
    hit = {leg.group: leg.command for leg in clicks.LEGS if leg.command}
    assert "KILL" in hit["worker_hosts"]
    assert "restart redis-server" in hit["redis_hosts"]


def test_parts_count_what_is_theirs() -> None:
    assert command_line.parse_arguments(["clicks"]).count is None
    assert command_line.parse_arguments(["clicks", "--count", "1000"]).count == 1000
    with pytest.raises(SystemExit):
        command_line.parse_arguments(["clicks", "--count", "0"])
