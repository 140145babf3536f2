"""Figures of rollouts: from tasks' moments, visitors' requests, and what the balancers counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.bench import releases
from tools.bench.fleet import Look, wrong_with_hosts, wrong_with_visits
from tools.bench.lab import Lab
from tools.bench.moments import Reader, Result, Task, named, span
from tools.bench.runs import Ended, at_task, operate
from tools.bench.visitors import Sample, Visit, parse_samples
from tools.lab import ROOT, LabToolError
from tools.testing.faulty.switchable_faults import read_fault

# --- Moments ----------------------------------------------------------------------------------------------------------


def task(number: int, name: str, began: float, ended: float, status: str = "ok") -> Task:
    return Task(number, name, "", began, [Result("app1", status, True, ended)])


def test_a_growing_file_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "moments"
    reader = Reader(file)
    assert list(reader.look()) == []
    begun = json.dumps({"event": "task", "number": 0, "name": "Look", "role": "r", "at": 1.0})
    done = json.dumps({"event": "result", "number": 0, "host": "h", "status": "ok", "changed": True, "at": 3.5})
    file.write_text(f"{begun}\n{done[:20]}")
    assert [(found.name, found.results) for found in reader.look()] == [("Look", [])]
    with file.open("a") as stream:
        stream.write(f"{done[20:]}\n")
    assert [(found.seconds, found.ran) for found in reader.look()] == [(2.5, True)]


def test_a_stretch_goes_from_the_first_to_the_last_that_did_something() -> None:
    tasks = [
        task(0, "a", 1, 2, "skipped"),
        task(1, "a", 3, 4),
        task(2, "b", 5, 6),
        task(3, "b", 7, 9),
        task(4, "b", 10, 11, "skipped"),
    ]
    assert span(tasks, "a", "b") == (3, 9)
    with pytest.raises(LabToolError, match="no task 'c' ran"):
        named(tasks, "c")


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: First
      ansible.builtin.command: "true"
    - name: Left out
      ansible.builtin.command: "true"
      when: false
    - name: Second
      ansible.builtin.command: sleep {{ pause }}
    - name: In steps
      stepping:
    - name: Third
      ansible.builtin.command: "false"
"""


@pytest.fixture
def playbook(tmp_path: Path) -> str:
    path = tmp_path / "playbook.yml"
    path.write_text(PLAYBOOK)
    # A module that says which steps it took.
    module = tmp_path / "library" / "stepping"
    module.parent.mkdir()
    module.write_text("""#!/bin/sh\necho '{"steps": [{"at": 0.2}, {"at": 0.7}, {"at": "later"}, 1]}'\n""")
    return str(path)


def test_a_run_tells_when_each_task_was_at_work(playbook: str, tmp_path: Path) -> None:
    ended = operate(Lab("none"), playbook, {"pause": 0.3}, tmp_path / "logs" / "run.log")
    assert ended.rc == 2
    assert [(found.name, [(result.host, result.status) for result in found.results]) for found in ended.tasks] == [
        ("First", [("localhost", "ok")]),
        ("Left out", [("localhost", "skipped")]),
        ("Second", [("localhost", "ok")]),
        ("In steps", [("localhost", "ok")]),
        ("Third", [("localhost", "failed")]),
    ]
    assert 0.3 <= named(ended.tasks, "Second")[0].seconds < ended.seconds
    assert [named(ended.tasks, name)[0].results[0].worked for name in ("Second", "In steps")] == [None, 0.7]
    with pytest.raises(LabToolError, match="the run ended with 2"):
        ended.fine("the run")


def test_a_run_is_killed_in_the_middle_of_a_task(playbook: str, tmp_path: Path) -> None:
    ended = operate(Lab("none"), playbook, {"pause": 60}, tmp_path / "run.log", at_task(2, 0.2))
    assert ended.rc is None
    assert [found.name for found in ended.tasks] == ["First", "Left out", "Second"]
    assert ended.tasks[-1].results == []
    assert ended.seconds < 30


# --- Visitors ---------------------------------------------------------------------------------------------------------


def test_visits_of_a_stretch() -> None:
    visit = Visit({}, parse_samples("1.000 4.000 1\n2.000 8.000 1\n3.000 900.000 0\n4.000 2.000 1\n"))
    assert visit.samples[0] == Sample(1.0, 4.0, fine=True)
    part = visit.between(1.5, 3.5)
    assert (part.requests, part.failed, part.percentile_ms(0.99)) == (2, 1, 8.0)
    with pytest.raises(LabToolError):
        visit.between(5, 6).percentile_ms(0.5)


# --- Fleet ------------------------------------------------------------------------------------------------------------


def balancer(pid: int, **counters: int) -> dict[str, Any]:
    known = dict.fromkeys(("econ", "eresp", "wretr", "wredis", "hrsp_5xx"), 0) | counters
    return {"pid": pid, "rotation": {"redirect": {"servers": {"app1-blue": {"counters": known}}}}}


def seen(pid: int = 1, requests: int = 100, retried: int = 0, **counters: int) -> Look:
    return Look(
        hosts={"app1": {"redirect": {"live": "blue", "current": "1+a", "answers": "1+a"}}},
        balancers={"lb1": balancer(pid, **counters)},
        fleet={
            "lb1": {"redirect": {"release": "1+a", "since": "2026-01-01"}},
            "lb2": {"redirect": {"release": "1+b", "since": "2026-01-02"}},
        },
        logged={"lb1": {"requests": requests, "failed": 0, "retried": retried, "aborted": 0}},
    )


def visit(failed: int = 0, requests: int = 100) -> Visit:
    return Visit({"requests": requests, "failed": failed, "failures": {}}, [])


def test_nothing_is_wrong_where_nobody_noticed() -> None:
    assert wrong_with_visits(visit(), seen(wretr=5), seen(wretr=5)) == []
    assert wrong_with_visits(visit(), seen(pid=1, wretr=5), seen(pid=2), restarted=True) == []


@pytest.mark.parametrize(
    ("visited", "after", "words"),
    [
        (visit(failed=2), seen(), "2 of 100 requests failed"),
        (visit(requests=0), seen(), "no visitors"),
        (visit(), seen(retried=1), "'retried': 1"),
        (visit(), seen(requests=80), "logged less"),
        (visit(), seen(wredis=1), "'wredis': 1"),
        (visit(), seen(hrsp_5xx=3), "'hrsp_5xx': 3"),
        (visit(), seen(pid=2), "began anew"),
    ],
)
def test_what_was_noticed_or_hidden_is_told(visited: Visit, after: Look, words: str) -> None:
    wrong = wrong_with_visits(visited, seen(), after)
    assert len(wrong) == 1
    assert words in wrong[0]


def test_hosts_serve_what_they_should() -> None:
    assert wrong_with_hosts(seen(), ["app1"], ["1+a"]) == []
    assert "runs 1+a, not 1+b" in wrong_with_hosts(seen(), ["app1"], ["1+b"])[0]
    assert wrong_with_hosts(seen(), ["app1", "app2"], ["1+a"]) == ["app2 could not be looked at"]
    broken = Look({"app1": {"api": {"live": "blue", "current": "1+a", "answers": "refused"}}}, {}, {}, {})
    assert "answers refused" in wrong_with_hosts(broken, ["app1"], ["1+a"])[0]


def test_the_newest_record_counts() -> None:
    assert seen().recorded("redirect") == "1+b"
    assert seen().recorded("api") == ""


# --- Releases ---------------------------------------------------------------------------------------------------------


def names_in(content: object) -> set[str]:
    """Return the names of all tasks of a file, those in blocks, too."""
    if isinstance(content, list):
        return set().union(*map(names_in, content))
    if not isinstance(content, dict):
        return set()
    inner = set().union(*(names_in(value) for value in content.values() if isinstance(value, list)))
    return {str(content["name"]), *inner} if "name" in content else inner


def test_the_tasks_that_are_measured_are_in_the_role() -> None:
    role = ROOT / "collections/ansible_collections/linkrift/platform/roles/rollout/tasks"
    names = set().union(*(names_in(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in role.glob("*.yml")))
    wanted = {releases.CANDIDATES, releases.SWITCH, releases.SWITCH_BACK, releases.COMMIT, releases.UNDONE}
    assert wanted <= names


def test_the_baseline_starts_candidates_as_a_rollout_does() -> None:
    ours, theirs = (
        yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
        for path in (
            "collections/ansible_collections/linkrift/platform/roles/rollout/tasks/move.yml",
            "tools/bench/candidates.yml",
        )
    )
    rollout = next(found for found in ours if found["name"] == releases.CANDIDATES)["linkrift.platform.slot"]
    baseline = next(found for found in theirs[0]["tasks"] if found["name"] == releases.CANDIDATES)
    assert baseline["linkrift.platform.slot"]["replace"] == rollout["replace"]


def test_what_is_hidden_from_visitors_is_counted() -> None:
    assert releases.masked(seen(wretr=1), seen(wretr=4, econ=2)) == 5


def test_undoing_is_timed_from_the_gates_deadline() -> None:
    tasks = [task(0, releases.CANDIDATES, 100, 110), task(1, releases.UNDONE, 111, 112.5)]
    assert releases.after_deadline(tasks) == 112.5 - (100 + releases.GATE_SECONDS)


def test_a_bad_release_is_timed_until_it_is_undone() -> None:
    run = Ended(2, "", 90, 130, [task(0, releases.CANDIDATES, 100, 110), task(1, releases.UNDONE, 111, 112.5)])
    ours, theirs = (Visit({"requests": 100, "failed": failed}, []) for failed in (0, 7))
    figures = releases.bad_results("x", releases.Figures(run, ours), theirs, 31.04)
    assert [(result.name, result.value, result.baseline) for result in figures] == [
        ("bad_x_vs_plain_script_failed", 0, 7),
        ("bad_x_vs_plain_script_undone_seconds", 22.5, 31.0),
    ]


@pytest.mark.parametrize("name", releases.BAD)
def test_what_is_bad_is_what_the_faulty_release_knows(name: str, tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text(json.dumps({"redirect": releases.BAD[name]}))
    assert read_fault("redirect", file).name


def test_a_script_that_may_fail_has_our_gates_patience(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f'#!/bin/sh\necho "$PATIENCE" > {tmp_path}/seen\nexit 1\n')
    script.chmod(0o700)
    releases.script([str(script)], good=False)
    assert (tmp_path / "seen").read_text() == f"{releases.GATE_SECONDS}\n"
    with pytest.raises(LabToolError, match="ended with 1"):
        releases.script([str(script)])


def test_what_hosts_take_is_counted_without_what_is_skipped_and_without_others() -> None:
    tasks = [
        Task(0, "a", "", 0, [Result("app1", "ok", False, 1), Result("app2", "skipped", False, 1)]),
        Task(1, "b", "", 1, [Result("app2", "ok", False, 2), Result("lb1", "ok", False, 2)]),
    ]
    figures = {
        result.name: result.value for result in releases.measure_size(Ended(0, "", 10, 30, tasks), ["app1", "app2"])
    }
    assert figures == {
        "deploy_executions_per_host_2_hosts": 1.0,
        "deploy_seconds_per_host_2_hosts": 10.0,
        "deploy_seconds_2_hosts": 20.0,
    }


@pytest.mark.parametrize("path", [releases.PLAIN, releases.PLAIN_UNDO], ids=lambda path: path.name)
def test_scripts_are_understood(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    on_host = text.partition("<<'EOF'\n")[2].partition("\nEOF\n")[0]
    assert on_host
    for script in (text, on_host):
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert path.stat().st_mode & 0o111


def test_no_module_beside_the_playbooks_takes_the_place_of_pythons_own() -> None:
    # Ansible runs what is for the control node in the playbook's directory, where such a module would be found first.
    names = {path.stem for path in Path(releases.__file__).parent.glob("*.py")}
    assert names.isdisjoint(sys.stdlib_module_names)
