"""Rollouts under paced load: what visitors wait for, how long each takes, and a plain script beside it."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bench.bundles import Bundle, build
from tools.bench.fleet import Look, look
from tools.bench.lab import Lab
from tools.bench.moments import Task, named, span
from tools.bench.results import Result, say
from tools.bench.runs import Ended, operate
from tools.bench.visitors import Visit, Visitors
from tools.lab import ROOT, LabToolError
from tools.lab.material import lab_hosts

PLACE = ROOT / ".bench"
COMMAND = "python -m tools.bench releases"
PLAIN, PLAIN_UNDO = (Path(__file__).with_name(f"plain_{name}.sh") for name in ("deploy", "undo"))

# Tasks of role rollout that the figures are about; a test sees that they are there.
CANDIDATES = "Start and gate the candidates"
SWITCH = "Send visitors to them"
SWITCH_BACK = "Send visitors back to it"
COMMIT = "Commit"
UNDONE = "Remember that it is back"

# Visitors come for so long before and after what is measured.
REST_SECONDS = 5.0
GATE_SECONDS = 8
AT_ONCE = {"stabilisation": 0, "rollout_watch": 0}
# Bad releases that are put out by us and by the plain script: by name, what they do.
BAD: Mapping[str, Mapping[str, object]] = {
    "answers_500": {"fault": "answers_500"},
    "never_ready": {"fault": "slow_start", "seconds": 600.0},
}
SATURATED_CONNECTIONS = 32


@dataclass(frozen=True)
class Figures:
    """One run under load.

    Attributes:
        run: The playbook's.
        visit: All that the visitors saw.
        masked: Retries, redispatches and errors that the balancers counted, whether or not a visitor saw one.
    """

    run: Ended
    visit: Visit
    masked: int = 0

    def p99_ms(self, began: float, ended: float) -> float:
        """Return within how many milliseconds 99 % of the answers came in a stretch of time."""
        return self.visit.between(began, ended).percentile_ms(0.99)


class Bench:
    """The lab with its releases."""

    def __init__(self, lab: Lab) -> None:
        """Build the releases: two good ones to move between, two that no host has yet, bad ones."""
        say("releases to move between")
        directory = PLACE / "bundles"
        for left in (directory, PLACE / "logs"):
            shutil.rmtree(left, ignore_errors=True)
        self.lab = lab
        self.pair = [build(directory, f"1.0.{number}", "--good") for number in (1, 2)]
        self.ours, self.plain = (build(directory, f"1.0.{number}", "--good") for number in (3, 4))
        self.faulty = build(directory, "1.0.5")
        self.bad = {name: build(directory, f"1.0.{number}") for number, name in enumerate(BAD, start=6)}
        self.hosts = lab_hosts(lab.directory).of("redirect_hosts")
        self._published: set[str] = set()
        self._runs = 0

    def run(self, name: str, variables: Mapping[str, object]) -> Ended:
        """Run a playbook; it may fail."""
        self._runs += 1
        return operate(self.lab, name, variables, PLACE / "logs" / f"{self._runs:02d}-{Path(name).stem}.log")

    def deploy(self, bundle: Bundle, **variables: object) -> Ended:
        """Take a release live; the bundle store gets it the first time.

        Raises:
            LabToolError: That fails.
        """
        release = bundle.id if bundle.id in self._published else bundle.path
        self._published.add(bundle.id)
        return self.run("deploy", {"release": release, **AT_ONCE, **variables}).fine(f"the deploy of {bundle.id}")

    def turn(self) -> Bundle:
        """Return the good release that is not live."""
        self.pair.reverse()
        return self.pair[0]


def measure(lab: Lab, repeat: int) -> list[Result]:
    """Measure all of it on a lab that serves.

    Args:
        lab: The lab.
        repeat: Of how many runs a median is taken.
    """
    bench = Bench(lab)
    say("a release that no host has yet, as an operator takes it live")
    before = look(lab)
    with Visitors(lab) as visitors:
        fresh = bench.deploy(bench.ours, services="redirect", batch=1, warm=0)
    ours = Figures(fresh, visitors.seen(), masked(before, look(lab)))
    # Both are on the hosts from now on: what follows is about switches.
    for _ in bench.pair:
        bench.deploy(bench.turn(), warm=0)
    return [
        *measure_switch(bench, repeat),
        *measure_rolling(bench, repeat),
        *measure_rollback(bench, repeat),
        *measure_undone(bench),
        *measure_saturated(bench),
        *measure_size(bench.deploy(bench.turn(), batch=1, warm=0), bench.hosts),
        *measure_plain(bench, ours),
        *(result for name in BAD for result in measure_bad(bench, name)),
    ]


def measure_switch(bench: Bench, repeat: int) -> list[Result]:
    """p99 from the candidates' start to the commit, beside the same candidates without a switch."""
    alone, during, switch, rest = [], [], [], []
    for number in range(repeat):
        say(f"p99 during a switch, and without one: {number + 1} of {repeat}")
        bundle = bench.turn()
        with Visitors(bench.lab) as visitors:
            time.sleep(REST_SECONDS)
            run = bench.run(str(Path(__file__).with_name("candidates.yml")), {"candidates_release": bundle.id})
        without = Figures(run.fine("starting candidates"), visitors.seen())
        began, ended = span(run.tasks, CANDIDATES, CANDIDATES)
        alone.append(without.p99_ms(began, ended))
        rest.append(without.p99_ms(run.began - REST_SECONDS, run.began))
        with Visitors(bench.lab) as visitors:
            run = bench.deploy(bundle, services="redirect", strategy="blue_green", warm=0)
            time.sleep(REST_SECONDS)
        figures = Figures(run, visitors.seen())
        unnoticed(figures.visit, "a switch")
        during.append(figures.p99_ms(*span(run.tasks, CANDIDATES, COMMIT)))
        switch.append(figures.p99_ms(*span(run.tasks, SWITCH, SWITCH)))
    baseline = statistics.median(alone)
    return [
        Result("p99_with_switch_ms", statistics.median(during), "ms", baseline, COMMAND),
        Result("p99_in_the_switch_ms", statistics.median(switch), "ms", baseline, COMMAND),
        Result("p99_of_candidates_alone_ms", baseline, "ms", statistics.median(rest), COMMAND),
    ]


def unnoticed(visit: Visit, what: str) -> None:
    """See that no request failed.

    Raises:
        LabToolError: One did: what was measured is no figure of a release that nobody notices.
    """
    if visit.failed:
        raise LabToolError(f"{visit.failed} of {visit.requests} requests failed during {what}: {visit.report}")


def measure_rolling(bench: Bench, repeat: int) -> list[Result]:
    """Host after host: from the first change to the last one drained, and the switch of one host."""
    seconds, switches, work = [], [], []
    for number in range(repeat):
        say(f"host after host: {number + 1} of {repeat}")
        with Visitors(bench.lab) as visitors:
            run = bench.deploy(bench.turn(), services="redirect", batch=1, warm=0)
        unnoticed(visitors.seen(), "a rolling deploy")
        began, ended = span(run.tasks, CANDIDATES, SWITCH)
        seconds.append(ended - began)
        switches += [task.seconds for task in named(run.tasks, SWITCH)]
        work += [max(result.worked or 0.0 for result in task.results) for task in named(run.tasks, SWITCH)]
    hosts = len(bench.hosts)
    return [
        Result(f"rolling_{hosts}_hosts_seconds", median(seconds), "s", command=COMMAND),
        Result("switch_of_one_host_seconds", median(switches), "s", command=COMMAND),
        Result("switch_of_one_host_slowest_seconds", round(max(switches), 2), "s", command=COMMAND),
        # What the balancers do of it: the rest is the way there and back.
        Result("switch_of_one_host_on_balancers_seconds", median(work), "s", median(switches), COMMAND),
    ]


def measure_rollback(bench: Bench, repeat: int) -> list[Result]:
    """A rollback where what served before is still warm: from its first task to the last balancer."""
    seconds, whole = [], []
    for number in range(repeat):
        say(f"rollback to warm slots: {number + 1} of {repeat}")
        bench.deploy(bench.turn(), services="api,redirect", strategy="blue_green", warm=600)
        with Visitors(bench.lab) as visitors:
            # By name: of two that alternate, the later one counts as a way back, and a rollback leads further back.
            wish = {"release": bench.pair[1].id, "services": "api,redirect", "warm": 0}
            run = bench.run("rollback", wish).fine("the rollback")
        unnoticed(visitors.seen(), "a rollback")
        # It is the other one of the two that is live now.
        bench.turn()
        seconds.append(named(run.tasks, SWITCH_BACK)[-1].ended - run.tasks[0].began)
        whole.append(run.seconds)
    return [
        Result("rollback_warm_seconds", median(seconds), "s", median(whole), COMMAND),
    ]


def measure_undone(bench: Bench) -> list[Result]:
    """A release that never gets ready: from the gate's deadline until everything is as it was."""
    say("a release that fails its gate")
    set_faults(bench.lab, bench.hosts, '{"redirect": {"fault": "never_ready"}}')
    try:
        with Visitors(bench.lab) as visitors:
            run = bench.run(
                "deploy",
                {
                    "release": bench.faulty.path,
                    "services": "redirect",
                    "strategy": "blue_green",
                    "rollout_gate_deadline": GATE_SECONDS,
                    **AT_ONCE,
                },
            )
    finally:
        set_faults(bench.lab, bench.hosts, "{}")
    if run.rc == 0:
        raise LabToolError("a release that is never ready was taken live")
    unnoticed(visitors.seen(), "a release that failed")
    return [Result("undone_after_the_deadline_seconds", round(after_deadline(run.tasks), 2), "s", command=COMMAND)]


def after_deadline(tasks: Sequence[Task]) -> float:
    """Return how long after the gate's deadline the last step back ended; it runs from the begin of the task on."""
    return named(tasks, UNDONE)[-1].ended - (named(tasks, CANDIDATES)[0].began + GATE_SECONDS)


def set_faults(lab: Lab, hosts: Sequence[str], faults: str) -> None:
    """Say on hosts what goes wrong there with the faulty release (JSON)."""
    for host in hosts:
        lab.on_host(host, "sudo tee /etc/linkrift-faults.json >/dev/null", faults.encode())


def measure_saturated(bench: Bench) -> list[Result]:
    """As many requests as get through, while a release goes live host after host."""
    say("a deploy under as much load as gets through")
    with Visitors(bench.lab, rate=0, connections=SATURATED_CONNECTIONS) as visitors:
        time.sleep(2 * REST_SECONDS)
        run = bench.deploy(bench.turn(), services="redirect", batch=1, warm=0)
    visit = visitors.seen()
    began, ended = span(run.tasks, CANDIDATES, SWITCH)
    before = visit.between(run.began - REST_SECONDS, run.began)
    during = visit.between(began, ended)
    return [
        Result("saturated_failed", visit.failed, f"of {visit.requests}", command=COMMAND),
        Result(
            "saturated_requests_per_second",
            round(during.requests / (ended - began)),
            "1/s",
            round(before.requests / REST_SECONDS),
            COMMAND,
        ),
        Result("saturated_p99_ms", during.percentile_ms(0.99), "ms", before.percentile_ms(0.99), COMMAND),
    ]


def measure_size(run: Ended, hosts: Sequence[str]) -> list[Result]:
    """What a deploy of all services takes for each of its hosts."""
    own = [
        result for task in run.tasks for result in task.results if result.host in hosts and result.status != "skipped"
    ]
    count = len(hosts)
    return [
        Result(f"deploy_executions_per_host_{count}_hosts", round(len(own) / count, 1), "tasks", command=COMMAND),
        Result(f"deploy_seconds_per_host_{count}_hosts", round(run.seconds / count, 2), "s", command=COMMAND),
        Result(f"deploy_seconds_{count}_hosts", round(run.seconds, 1), "s", command=COMMAND),
    ]


def measure_growth(lab: Lab) -> list[Result]:
    """A deploy over many hosts, four at a time: as many batches as with a third of them."""
    bench = Bench(lab)
    bench.deploy(bench.turn(), strategy="blue_green", warm=0)
    # Now one is on the hosts that site.yml did not put there, as the other one will be.
    bench.deploy(bench.turn(), strategy="blue_green", warm=0)
    with Visitors(lab) as visitors:
        run = bench.deploy(bench.turn(), batch=max(1, len(bench.hosts) // 3), warm=0)
    unnoticed(visitors.seen(), "a deploy over many hosts")
    return measure_size(run, bench.hosts)


def measure_plain(bench: Bench, ours: Figures) -> list[Result]:
    """A plain script does what the first deploy did: its time and its visitors beside ours."""
    say("the same by a plain script")
    before = look(bench.lab)
    with Visitors(bench.lab) as visitors:
        began = time.time()
        plain(bench, PLAIN, bench.plain.path, bench.plain.id)
        seconds = time.time() - began
    hidden = masked(before, look(bench.lab))
    plain(bench, PLAIN_UNDO)
    theirs = visitors.seen()
    return [
        Result("deploy_vs_plain_script_seconds", round(ours.run.seconds, 1), "s", round(seconds, 1), COMMAND),
        Result("deploy_vs_plain_script_failed", ours.visit.failed, "requests", theirs.failed, COMMAND),
        Result("deploy_vs_plain_script_masked", ours.masked, "retries and errors", hidden, COMMAND),
        Result(
            "deploy_vs_plain_script_p99_ms",
            ours.visit.percentile_ms(0.99),
            "ms",
            theirs.percentile_ms(0.99),
            COMMAND,
        ),
        Result(
            "deploy_vs_plain_script_max_ms",
            ours.visit.percentile_ms(1.0),
            "ms",
            theirs.percentile_ms(1.0),
            COMMAND,
        ),
    ]


def measure_bad(bench: Bench, name: str) -> list[Result]:
    """A bad release, put out by us and by the plain script: who notices, and how long until everything is as it was.

    The script's own undoing begins the moment it ends: as if somebody had watched, and known what to do.
    """
    say(f"a bad release ({name}), and the same by a plain script")
    bundle = bench.bad[name]
    wish = {"release": bundle.path, "services": "redirect", "batch": 1, "rollout_gate_deadline": GATE_SECONDS}
    set_faults(bench.lab, bench.hosts, json.dumps({"redirect": BAD[name]}))
    try:
        with Visitors(bench.lab) as visitors:
            run = bench.run("deploy", {**wish, **AT_ONCE})
        if run.rc == 0:
            raise LabToolError(f"a release that is bad ({name}) was taken live")
        unnoticed(visitors.seen(), f"a bad release ({name})")
        with Visitors(bench.lab) as others:
            began = time.time()
            try:
                plain(bench, PLAIN, bundle.path, bundle.id, good=False)
            finally:
                plain(bench, PLAIN_UNDO)
            seconds = time.time() - began
    finally:
        set_faults(bench.lab, bench.hosts, "{}")
    return bad_results(name, Figures(run, visitors.seen()), others.seen(), seconds)


def bad_results(name: str, ours: Figures, theirs: Visit, seconds: float) -> list[Result]:
    """Return the figures of a bad release: ours, and those of the script, which took so many seconds."""
    undone = named(ours.run.tasks, UNDONE)[-1].ended - ours.run.began
    return [
        Result(f"bad_{name}_vs_plain_script_failed", ours.visit.failed, "requests", theirs.failed, COMMAND),
        Result(f"bad_{name}_vs_plain_script_undone_seconds", round(undone, 1), "s", round(seconds, 1), COMMAND),
    ]


def masked(before: Look, after: Look) -> int:
    """Return how many retries, redispatches and errors the balancers counted between two looks."""
    return (after.counters() - before.counters()).total()


def plain(bench: Bench, path: Path, *words: str, good: bool = True) -> None:
    """Run a plain script over all redirect hosts.

    Args:
        bench: Where.
        path: The script.
        words: What it takes between the hosts' settings and their names.
        good: What it does is to succeed. Otherwise it may fail, and waits no longer than our gate.

    Raises:
        LabToolError: It fails.
    """
    known = lab_hosts(bench.lab.directory)
    places = [f"{host}={known.addresses[host][0]}" for host in bench.hosts]
    command = [str(path), str(bench.lab.directory / "ssh_config"), *words, *places]
    script(command, good=good)


def script(command: Sequence[str], *, good: bool = True) -> None:
    """Run a script.

    Args:
        command: Its words.
        good: It is to succeed; otherwise it may fail, and has the patience of our gate.

    Raises:
        LabToolError: It fails.
    """
    patience = {} if good else {"PATIENCE": str(GATE_SECONDS)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **patience},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if good and done.returncode:
        raise LabToolError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"[-3000:])


def median(seconds: Sequence[float]) -> float:
    """Return the median, in hundredths of a second."""
    return round(statistics.median(seconds), 2)
