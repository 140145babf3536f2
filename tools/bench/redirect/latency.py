"""How long one visitor waits when there are 200 a second: from memory, from Redis, from PostgreSQL."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tools.bench.redirect import servers
from tools.bench.redirect.place import Place
from tools.bench.redirect.requests import Links
from tools.bench.redirect.worker import COMMAND
from tools.bench.results import Result, say
from tools.lab import LabToolError

RATE = 200.0
TIERS = "linkrift_cache_hits_total"
# Of the links that were to be found in a place, so many must have been.
ENOUGH = 0.98

Report = dict[str, Any]


def middle(reports: Sequence[Report], figure: str) -> float:
    """Return the median of a figure of several reports."""
    return round(statistics.median(float(report[figure]) for report in reports), 3)


def measure_paced(place: Place, hits: Links, repeat: int, count: int) -> list[Result]:
    """200 evenly spaced requests a second over one connection, beside the bare handler, and nginx."""
    own, bare, nginx = [], [], []
    places = {port: f"{place.address}:{port}" for port in servers.OTHERS.values()}
    for number in range(repeat):
        say(f"200 requests a second: {number + 1} of {repeat}")
        own.append(place.paced(place.port("redirect"), hits.codes(), rate=RATE, count=count))
        bare.append(place.paced(places[servers.BARE], hits.codes(), rate=RATE, count=count))
        nginx.append(place.paced(places[servers.NGINX], hits.codes(), rate=RATE, count=count))
    return [
        Result("redirect_paced_p50_ms", middle(own, "p50_ms"), "ms", middle(bare, "p50_ms"), COMMAND),
        Result("redirect_paced_p99_ms", middle(own, "p99_ms"), "ms", middle(bare, "p99_ms"), COMMAND),
        Result("redirect_paced_p99_vs_nginx_ms", middle(own, "p99_ms"), "ms", middle(nginx, "p99_ms"), COMMAND),
    ]


def found_in(place: Place, tier: str, ask: Callable[[], Report]) -> Report:
    """Ask, and see that the links were found where they were to be found.

    Raises:
        LabToolError: They were not: it is no figure of that.
    """
    before = place.metrics(place.port("redirect")).sum(TIERS, tier=tier)
    report = ask()
    found = place.metrics(place.port("redirect")).sum(TIERS, tier=tier) - before
    if found < report["requests"] * ENOUGH:
        raise LabToolError(f"of {report['requests']} links only {found:.0f} were found in {tier}")
    return report


def parts(codes: Sequence[str], count: int) -> list[Sequence[str]]:
    """Return codes in so many parts of one size; what is left over is in none."""
    size = len(codes) // count
    return [codes[number * size : (number + 1) * size] for number in range(count)]


def measure_misses(place: Place, in_redis: Links, in_postgresql: Links, hits: Links, repeat: int) -> list[Result]:
    """Links that the process has never been asked for, beside links that it has in memory.

    Args:
        place: Where; the other slot runs.
        in_redis: Links that nobody has asked for yet: the other slot is asked first, which leaves them in Redis.
        in_postgresql: Links that nobody has asked for yet.
        hits: Links in memory.
        repeat: Rounds of which a median is taken; each has its part of the links.
    """
    say("links that are in Redis, and in PostgreSQL only")
    own = place.port("redirect")
    place.ask(place.other_port("redirect"), in_redis.prefix, connections=8, seconds=60, limit=in_redis.count)

    def ask(codes: Sequence[str]) -> Report:
        return place.paced(own, codes, rate=RATE, count=len(codes))

    redis, postgresql, memory = [], [], []
    rounds = zip(parts(in_redis.codes(), repeat), parts(in_postgresql.codes(), repeat), strict=True)
    for in_one, in_other in rounds:
        redis.append(found_in(place, "redis", partial(ask, in_one)))
        postgresql.append(found_in(place, "postgresql", partial(ask, in_other)))
        memory.append(found_in(place, "memory", partial(ask, hits.codes()[: len(in_one)])))
    return [
        Result(f"redirect_l1_miss_{store}_{figure}", middle(reports, figure), "ms", middle(memory, figure), COMMAND)
        for store, reports in (("redis", redis), ("postgresql", postgresql))
        for figure in ("p50_ms", "p99_ms")
    ]
