"""One rollout after the other, while visitors come all the time: rolling and blue-green, between two good releases."""

from __future__ import annotations

import time

from tools.bench.fleet import look, wrong_with_hosts, wrong_with_visits
from tools.bench.visitors import Visitors
from tools.soak.lab import Platform, sound
from tools.soak.rounds import Rounds, Row, say, table

# Two of each in turn, so that each release goes live both ways.
STRATEGIES = ("rolling", "rolling", "blue_green", "blue_green")
SETTINGS = {"stabilisation": 1, "rollout_watch": 1, "warm": 300}


def run(platform: Platform, rounds: Rounds, count: int, rate: float) -> None:
    """Run the rounds and print the table.

    Raises:
        LabToolError: A visitor noticed, a host did not serve what it should, or a second run changed something.
    """
    names = [f"{number:02d} {STRATEGIES[number % len(STRATEGIES)]}" for number in range(count)]
    rounds.go(names, lambda name: rollout(platform, name, rate))
    rows = [rounds.done[name] for name in names]
    print(table([{"rollout": name, **row} for name, row in zip(names, rows, strict=True)]))
    requests = sum(int(str(row["requests"])) for row in rows)
    say(f"{count} rollouts, {requests} requests, none failed, none retried, nothing masked")


def rollout(platform: Platform, name: str, rate: float) -> Row:
    """One rollout of all services.

    Raises:
        LabToolError: See `run`.
    """
    number, strategy = name.split()
    wish = {**SETTINGS, "strategy": strategy}
    before = look(platform.lab)
    bundle = platform.other(before)
    began = time.time()
    with Visitors(platform.lab, rate) as visitors:
        first = platform.converge(bundle, f"rollout-{number}", wish)
        second = platform.converge(bundle, f"rollout-{number}-again", wish)
    visit = visitors.seen()
    after = look(platform.lab, began)
    wrong = wrong_with_hosts(after, platform.hosts, [bundle.id]) + wrong_with_visits(visit, before, after)
    if second.recap.changed or "nothing to do" not in second.words:
        wrong.append(f"the second run changed {second.recap.changed} things")
    sound(wrong)
    return {
        "release": bundle.id,
        "seconds": f"{first.seconds:.1f}",
        "requests": visit.requests,
        "failed": visit.failed,
        "retried": sum(int(logged["retried"]) for logged in after.logged.values()),
        "p50_ms": f"{visit.percentile_ms(0.5):.1f}",
        "p99_ms": f"{visit.between(first.began, first.ended).percentile_ms(0.99):.1f}",
        "max_ms": f"{visit.percentile_ms(1.0):.0f}",
    }
