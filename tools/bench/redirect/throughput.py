"""As many redirects as one processor answers: beside others, without counting clicks, with a second process."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tools.bench.redirect import servers, worker
from tools.bench.redirect.place import Place
from tools.bench.redirect.worker import COMMAND
from tools.bench.redirect.wrk import Load
from tools.bench.results import Result, say

CONNECTIONS = 16
MANY_CONNECTIONS = 64
# Files of prepared requests: the mixture; the same, all GET; GET of links; of one link; of the link that gates follow.
MIX, PLAIN, GETS, ONE, CANARY = "mix", "plain", "gets", "one", "canary"
# The same by visitors who come again and again. Those of the others are new ones, which a click takes longer for.
MIX_AGAIN, ONE_AGAIN = "mix-again", "one-again"


@dataclass(frozen=True)
class Asked:
    """Somebody to measure: address and port, and the file of requests."""

    place: str
    file: str


def in_turn(place: Place, asked: Sequence[Asked], repeat: int, seconds: float, connections: int) -> list[list[Load]]:
    """Measure each of them in turn, again and again; return what was seen of each.

    What slows the machine down for a while slows all of them down. The worker takes the clicks between the rounds.
    """
    loads: list[list[Load]] = [[] for _ in asked]
    for number in range(repeat):
        say(f"  round {number + 1} of {repeat}")
        with worker.stopped(place):
            for one, found in zip(asked, loads, strict=True):
                found.append(place.ask(one.place, one.file, connections=connections, seconds=seconds))
    return loads


def median(loads: Sequence[Load]) -> float:
    """Return the median of requests a second."""
    return round(statistics.median(load.per_second for load in loads))


def p50(loads: Sequence[Load]) -> float:
    """Return the median of the milliseconds within which half of the answers came."""
    return round(statistics.median(load.p50_ms for load in loads), 3)


def p99(loads: Sequence[Load]) -> float:
    """Return the median of the milliseconds within which 99 % of the answers came."""
    return round(statistics.median(load.p99_ms for load in loads), 3)


def measure_beside_others(place: Place, repeat: int, seconds: float) -> list[Result]:
    """16 connections, and one, beside a bare handler, nginx and HAProxy; the others run for as long as this takes."""
    own = place.port("redirect")
    bare, nginx, haproxy = (f"{place.address}:{port}" for port in servers.OTHERS.values())
    say("redirects over 16 connections, beside bare aiohttp, nginx, HAProxy")
    asked = [
        Asked(own, MIX),
        Asked(own, MIX_AGAIN),
        Asked(bare, PLAIN),
        Asked(nginx, PLAIN),
        Asked(haproxy, PLAIN),
    ]
    ours, again, theirs, ceiling, mapped = in_turn(place, asked, repeat, seconds, CONNECTIONS)
    say("redirects over one connection")
    alone, bare_alone = in_turn(place, [Asked(own, GETS), Asked(bare, GETS)], repeat, seconds, 1)
    return [
        Result("redirect_hit_c16_vs_bare_aiohttp", median(ours), "1/s", median(theirs), COMMAND),
        Result("redirect_hit_c16_returning_vs_bare_aiohttp", median(again), "1/s", median(theirs), COMMAND),
        Result("redirect_hit_c16_vs_nginx", median(ours), "1/s", median(ceiling), COMMAND),
        Result("redirect_hit_c16_vs_haproxy_map", median(ours), "1/s", median(mapped), COMMAND),
        Result("redirect_hit_c16_p99_ms", p99(ours), "ms", p99(theirs), COMMAND),
        Result("redirect_c1_p50_ms", p50(alone), "ms", p50(bare_alone), COMMAND),
        Result("redirect_c1_p99_ms", p99(alone), "ms", p99(bare_alone), COMMAND),
    ]


def capture_cost(captured: float, without: float) -> float:
    """Return which percentage of the throughput capturing clicks takes."""
    return round((1 - captured / without) * 100, 2)


def median_cost(captured: Sequence[Load], without: Sequence[Load]) -> float:
    """Return the median of what capturing takes, round by round: both were measured in the same seconds."""
    pairs = zip(captured, without, strict=True)
    return round(statistics.median(capture_cost(one.per_second, none.per_second) for one, none in pairs), 2)


def measure_capture(place: Place, repeat: int, seconds: float) -> list[Result]:
    """One link whose clicks are captured, beside the one link whose clicks are not: the canary, which gates follow."""
    say("one link, and the canary, which counts no clicks")
    own = place.port("redirect")
    asked = [Asked(own, ONE), Asked(own, ONE_AGAIN), Asked(own, CANARY)]
    captured, again, without = in_turn(place, asked, repeat, seconds, CONNECTIONS)
    return [
        Result("click_capture_cost", median_cost(captured, without), "%", command=COMMAND),
        Result("click_capture_cost_returning", median_cost(again, without), "%", command=COMMAND),
        Result("redirect_one_link_c16_vs_canary", median(captured), "1/s", median(without), COMMAND),
    ]


def measure_two(place: Place, repeat: int, seconds: float) -> list[Result]:
    """Two processes on two processors (the other slot) beside one (the live slot)."""
    say("two processes beside one")
    asked = [Asked(place.other_port("redirect"), GETS), Asked(place.port("redirect"), GETS)]
    two, one = in_turn(place, asked, repeat, seconds, MANY_CONNECTIONS)
    return [Result("redirect_two_processes_vs_one", median(two), "1/s", median(one), COMMAND)]
