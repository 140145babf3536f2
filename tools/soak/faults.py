"""Everything that is known to go wrong, through deploy.yml and under load; then all is as it was, or has gone live."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tools.bench.bundles import Bundle, build
from tools.bench.fleet import Look, look, wrong_with_hosts, wrong_with_visits
from tools.bench.lab import command
from tools.bench.moments import Task
from tools.bench.releases import set_faults
from tools.bench.runs import Ended
from tools.bench.visitors import CANARY, Visit, Visitors
from tools.lab import ROOT, LabToolError
from tools.lab.material import lab_hosts
from tools.soak.cases import BALANCERS, CASES, SECOND, Act, Case
from tools.soak.lab import FAST, Platform, bundles, sound
from tools.soak.rounds import Rounds, Row, say, table
from tools.testing.outages.hosts import Hosts, reached
from tools.testing.outages.owner import Owner
from tools.testing.outages.run import SETTLED_SECONDS, stored, waiting_in_redis

# Version and flags of each kind of bundle, for tools/testing/faulty.
KINDS = {
    "faulty": ("1.0.3",),
    "fresh": ("1.0.4", "--good"),
    "truncated": ("1.0.5", "--good", "--truncated"),
    "altered": ("1.0.6", "--good", "--altered"),
    # No host of the lab runs that Python.
    "foreign": ("1.0.7", "--good", "--only-target", "cp312-x86_64"),
    "migration": ("1.0.8", "--good", "--failing-migration"),
}
_BESIDE_SECONDS = 600.0


def run(platform: Platform, rounds: Rounds, names: Sequence[str], rate: float) -> None:
    """Run the cases, all of them whichever failed, and print the table.

    Args:
        platform: Where.
        rounds: Those that are done are passed over.
        names: Parts of the names of the cases that are wanted; none: all.
        rate: Requests a second.

    Raises:
        LabToolError: A case did not end as it should have.
    """
    wanted = {case.name: case for case in CASES if not names or any(name in case.name for name in names)}
    kinds = {case.bundle for case in wanted.values()} & KINDS.keys()
    say(f"{len(wanted)} faults; bundles of the kinds {', '.join(sorted(kinds)) or 'that are there'}")
    made = {kind: build(bundles(), *KINDS[kind]) for kind in sorted(kinds)}
    rounds.go(wanted, lambda name: fault(platform, wanted[name], made, rate), patient=True)
    print(table([{"fault": name, **rounds.done[name]} for name in wanted if name in rounds.done]))
    if rounds.failed:
        raise LabToolError(f"not as it should be: {'; '.join(rounds.failed)}")


def fault(platform: Platform, case: Case, made: dict[str, Bundle], rate: float) -> Row:
    """Let one thing go wrong.

    Raises:
        LabToolError: It did not end as it should have.
    """
    with ExitStack() as stack:
        clicked = Clicked(stack.enter_context(reached(platform.lab))) if case.clicked else None
        return _fault(platform, case, made, rate, clicked)


def _fault(platform: Platform, case: Case, made: dict[str, Bundle], rate: float, clicked: Clicked | None) -> Row:
    log = f"fault-{case.name.replace(' ', '-').replace(chr(39), '')}"
    before = look(platform.lab)
    bundle = made.get(case.bundle) or platform.other(before)
    began = time.time()
    with (
        Visitors(platform.lab, rate, codes=clicked.codes if clicked else CANARY) as visitors,
        wrong_world(platform, case, before),
        Beside(platform, case) as beside,
    ):
        settings = {**FAST, "batch": 1, "services": case.services, **case.settings}
        ended = platform.deploy(bundle, log, settings, beside.watch)
    visit = visitors.seen()
    after = look(platform.lab, began)
    wrong = wrong_with_run(case, ended) + beside.wrong
    if case.fails and after.serving() != before.serving():
        wrong.append(f"it served {before.serving()}, and now {after.serving()}")
    if case.fails and before.recorded("redirect") != after.recorded("redirect"):
        wrong.append(f"the fleet record says {after.recorded('redirect')}")
    if not case.noticed:
        wrong += wrong_with_visits(visit, before, after, restarted=case.restarted)
    wrong += clicked.wrong_with(visit) if clicked else []
    sound(wrong + bring_back(platform, case, bundle, after, log))
    return {
        "ended": "refused" if case.fails else "live",
        "seconds": f"{ended.seconds:.1f}",
        "requests": visit.requests,
        "failed": visit.failed,
    }


class Clicked:
    """A link of somebody's, which visitors follow."""

    def __init__(self, hosts: Hosts) -> None:
        """Make it."""
        self._hosts = hosts
        self.codes = Owner(hosts).links(1)

    def wrong_with(self, visit: Visit) -> list[str]:
        """Say whether all its clicks are counted, once those are that lie with a worker that is gone."""
        (redis,), (clickhouse,) = self._hosts.of("redis_hosts"), self._hosts.of("clickhouse_hosts")
        end = time.monotonic() + SETTLED_SECONDS
        while waiting_in_redis(self._hosts, redis) and time.monotonic() < end:
            time.sleep(1.0)  # between two looks, until a deadline
        (code,) = self.codes
        followed, counted = visit.report["paths"].get(f"/{code}", 0), stored(self._hosts, clickhouse).get(code, 0)
        return [] if followed and followed == counted else [f"of {followed} clicks {counted} are counted"]


def bring_back(platform: Platform, case: Case, bundle: Bundle, after: Look, log: str) -> list[str]:
    """Have a good release live where a faulty one is, or go on with what a refused one left; say what is wrong then."""
    if case.fails:
        platform.settled(f"{log}-status")
        return []
    wrong = []
    wanted = set(case.services.split(","))
    for (host, service), (_slot, _current, answers) in after.serving().items():
        if service in wanted and answers != bundle.id:
            wrong.append(f"{host} {service}: it went live, and {answers} answers")
    good = platform.other(after)
    platform.converge(good, f"{log}-back", {**FAST, "strategy": "blue_green"})
    return wrong + wrong_with_hosts(look(platform.lab), platform.hosts, [good.id])


def wrong_with_run(case: Case, ended: Ended) -> list[str]:
    """Say what the run itself did other than it should, as sentences."""
    wrong = []
    if (ended.rc == 0) == case.fails:
        wrong.append(f"it ended with {ended.rc}: {ended.output[-1500:]}")
    wrong += [f"it did not say {words!r}" for words in case.words if words not in ended.words]
    return wrong


@contextmanager
def wrong_world(platform: Platform, case: Case, before: Look) -> Iterator[None]:
    """Have the faults where they are to be, and take them away again, whatever happens."""
    set_faults(platform.lab, [platform.hosts[1]], json.dumps(case.faults))
    try:
        for act in case.before:
            carry_out(platform, act, before)
        yield
    finally:
        set_faults(platform.lab, platform.hosts, "{}")
        for act in case.after:
            carry_out(platform, act, before)


def carry_out(platform: Platform, act: Act, before: Look | None = None) -> None:
    """Do something to hosts."""
    known = lab_hosts(platform.lab.directory)
    second = platform.hosts[1]
    places = {SECOND: [second], BALANCERS: known.of("balancers")}.get(act.where, known.of("bundle_stores"))
    live = before.hosts[second]["redirect"]["live"] if before else "blue"
    words = {"idle_port": 8181 if live == "blue" else 8081, "address": known.addresses[second][0]}
    for host in places:
        platform.lab.on_host(host, act.command.format(**words))


class Beside:
    """What happens beside a deploy, when its tasks begin."""

    def __init__(self, platform: Platform, case: Case) -> None:
        """Prepare it."""
        self._platform = platform
        self._acts = dict(case.during)
        self._playbooks = dict(case.alongside)
        self._running: list[subprocess.Popen[str]] = []
        self.wrong: list[str] = []

    def watch(self, tasks: Sequence[Task], now: float) -> bool:
        """Do what is due; nothing is killed."""
        del now
        if tasks:
            name = tasks[-1].name
            act = self._acts.pop(name, None)
            if act:
                carry_out(self._platform, act)
            playbook = self._playbooks.pop(name, None)
            if playbook:
                words = command(f"playbooks/{playbook}.yml", "-i", self._platform.lab.inventory)
                self._running.append(
                    subprocess.Popen(
                        words,
                        cwd=ROOT,
                        text=True,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                    )
                )
        return False

    def __enter__(self) -> Beside:
        """Nothing happens yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what runs beside."""
        for process in self._running:
            said, _none = process.communicate(timeout=_BESIDE_SECONDS)
            if process.returncode:
                self.wrong.append(f"what ran beside it ended with {process.returncode}: {said[-1500:]}")
        self.wrong += [f"the task {name!r} never began" for name in (*self._acts, *self._playbooks)]
