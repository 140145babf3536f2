"""Lets things go away and come back, and writes down what was seen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tools.bench.lab import Lab, playbook
from tools.bench.visitors import CLIENT, RATE, Visitors
from tools.lab.material import lab_hosts
from tools.soak.rounds import say
from tools.testing.outages.cases import CLICKHOUSE, CLICKHOUSE_HUNG, POSTGRESQL, REDIS, Case
from tools.testing.outages.hosts import PLACE, Hosts, reached
from tools.testing.outages.owner import TIMES, Owner

LINKS = 4
SWAP = "molecule/default/outages/swap.yml"
LIMITS = "molecule/default/outages/limits.yml"
# Before the first outage, so that each process has the links in its memory.
WARM_SECONDS = 1.5
# Until a store that came back is asked again, and until all that was clicked is counted.
BACK_SECONDS = 60.0
SETTLED_SECONDS = 180.0
_POLL_SECONDS = 0.3
# For this long nothing happens at the end of a part.
QUIET_SECONDS = 1.0
# How long a change takes to reach everybody at the most, and for how long it is looked after that.
CHANGE_SECONDS = 1.0
WATCH_SECONDS = 1.5
HOSTILE_CONNECTIONS = 200
# By then balancers have closed a connection that says nothing (haproxy_timeout_client, 30 s).
HOSTILE_SECONDS = 45.0
UNKNOWN_CODES = 10_000
UNKNOWN_CODES_LONG = 1_000_000
SCAN_RATE = 2500.0

BREAKERS = {name: f'linkrift_breaker_state{{dependency="{name}"}}' for name in ("redis", "postgresql")}
FIGURES = {
    **BREAKERS,
    "spooled": "linkrift_clicks_spooled_total",
    "dropped": "linkrift_clicks_dropped_total",
    "waiting": "linkrift_click_buffer",
    "spool_bytes": "linkrift_click_spool_bytes",
    "memory": "process_resident_memory_bytes",
}


@dataclass
class World:
    """What all parts need.

    Attributes:
        hosts: The lab's.
        owner: Of the links.
        long: Whether outages last as long as in `make soak`.
        rate: Visitors a second.
        results: What was seen, by part.
    """

    hosts: Hosts
    owner: Owner
    long: bool
    rate: float
    results: dict[str, Any]

    def redirects(self) -> Sequence[str]:
        """Return the hosts that serve visitors."""
        return self.hosts.of("redirect_hosts")

    def figures(self) -> dict[str, dict[str, float]]:
        """Return by host what the redirect service says of itself."""
        arguments = {host: [self.hosts.address(host), "redirect", *FIGURES.values()] for host in self.redirects()}
        said = self.hosts.at_once(self.redirects(), "figures", arguments)
        return {
            host: {name: found[series] for name, series in FIGURES.items()}
            for host, found in ((host, json.loads(text)) for host, text in said.items())
        }

    def until(self, fine: Callable[[dict[str, dict[str, float]]], bool], seconds: float) -> dict[str, dict[str, float]]:
        """Return the figures once they are fine, or as they are when the time is over."""
        end = time.monotonic() + seconds
        while not fine(found := self.figures()) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)  # between two looks, until a deadline
        return found


def run(lab: Lab, parts: Sequence[str] = (), *, long: bool = False, rate: float = RATE) -> dict[str, Any]:
    """Run the parts, write what was seen into the lab's directory, and return it.

    Args:
        lab: One that serves.
        parts: Names of PARTS; none: all.
        long: Outages last as long as in `make soak`.
        rate: Visitors a second.

    Raises:
        LabToolError: Something could not be done at all. What was seen is there to be judged otherwise.
    """
    with reached(lab) as hosts:
        world = World(hosts, Owner(hosts), long, rate, {"rate": rate, "long": long})
        for name in parts or PARTS:
            began = time.monotonic()
            visits(world, name, PARTS[name])
            say(f"{name}: {time.monotonic() - began:.0f} s")
        settle(world, parts or tuple(PARTS))
    (lab.directory / "outages.json").write_text(json.dumps(world.results, indent=1), encoding="utf-8")
    return world.results


def visits(world: World, name: str, happen: Callable[[World, str], dict[str, Any]]) -> None:
    """Let a part happen while visitors come, and note what they saw of it."""
    codes = world.owner.links(LINKS)
    with Visitors(world.hosts, world.rate, codes=codes) as visitors:
        time.sleep(WARM_SECONDS)  # visitors come evenly: all links are asked for meanwhile
        seen = happen(world, codes[0])
        time.sleep(QUIET_SECONDS)  # visitors go on coming, when all is well again
    visit = visitors.seen()
    for found in seen.get("cases", {}).values():
        part = visit.between(found["began"], found["ended"])
        found["visits"] = {"requests": part.requests, "failed": part.failed}
    world.results[name] = {"codes": codes, "report": visit.report, **seen}


# --- Stores ---------------------------------------------------------------------------------------------------------


@contextmanager
def away(world: World, case: Case, known: str) -> Iterator[dict[str, Any]]:
    """Have a store away for the time of the `with` block, and for as long as the case wants at least.

    Yields:
        What was seen, which is complete afterwards.
    """
    say(case.name)
    (host,) = world.hosts.of(case.group)
    unread = world.owner.links(TIMES)
    seen: dict[str, Any] = {"before": world.figures(), "began": time.time()}
    try:
        world.hosts.as_root(host, case.begin)
        until = time.monotonic() + case.lasts(long=world.long)
        seen["answers"] = world.owner.questions(known, unread)
        yield seen
        time.sleep(max(0.0, until - time.monotonic()))  # the outage lasts as long as the case says
        seen["during"] = world.figures()
    finally:
        world.hosts.as_root(host, case.end)
    seen["after"] = world.until(lambda found: all(is_back(figures) for figures in found.values()), BACK_SECONDS)
    seen["again"] = asked_again(world, known, case.again)
    seen["ended"] = time.time()


def is_back(figures: Mapping[str, float]) -> bool:
    """Tell whether a process asks all its stores, and has sent what waited."""
    return not any(figures[name] for name in (*BREAKERS, "spool_bytes"))


def asked_again(world: World, known: str, wanted: Mapping[str, int]) -> dict[str, int]:
    """Return what the API answers to the questions that are named, once it is what is wanted or it took too long."""
    end = time.monotonic() + BACK_SECONDS
    requests: dict[str, tuple[str, str, object]] = {
        "read": ("GET", "/links?limit=1", None),
        "write": ("POST", "/links", {"url": "https://example.org/again"}),
        "stats": ("GET", f"/links/{known}/stats", None),
    }
    while True:
        found = {name: world.owner.api(*requests[name]).status for name in wanted}
        if found == wanted or time.monotonic() > end:
            return found
        time.sleep(_POLL_SECONDS)  # between two looks, until a deadline


def stores(world: World, known: str) -> dict[str, Any]:
    """ClickHouse away for minutes, in which all else happens: that takes no longer, and still no click may be lost.

    Redis, then PostgreSQL, in every way; a scan, links that change; a slot that is swapped without Redis; and hostile
    clients beside. When ClickHouse is back, a worker is killed.
    """
    found: dict[str, Any] = {"cases": {}}
    with ThreadPoolExecutor(3) as pool:
        with away(world, CLICKHOUSE, known) as found["cases"][CLICKHOUSE.name]:
            ill = pool.submit(hostile, world)
            for case in (*REDIS, *POSTGRESQL):
                with away(world, case, known) as found["cases"][case.name]:
                    pass
            scanned, changed = pool.submit(scan, world), pool.submit(changes, world)
            found |= {"scan": scanned.result(), "changes": changed.result()}
            say("a slot swapped without Redis")
            playbook(SWAP, "-i", world.hosts.inventory)
            found["swapped"] = world.until(lambda seen: all(map(is_back, seen.values())), BACK_SECONDS)
            found["hostile"] = ill.result()
        if world.long:
            with away(world, CLICKHOUSE_HUNG, known) as found["cases"][CLICKHOUSE_HUNG.name]:
                pass
    return {**found, "worker": killed(world, "worker")}


# --- Those who mean ill, or change their minds ----------------------------------------------------------------------


def hostile(world: World) -> dict[str, Any]:
    """Have clients that mean ill, at the address that visitors come to."""
    address = lab_hosts(world.hosts.directory).visitors()[0]
    # The visitors have it.
    authority = "/run/linkrift-measured/ca.pem"
    words = (address, world.owner.go, authority, HOSTILE_SECONDS, HOSTILE_CONNECTIONS)
    return dict(json.loads(world.hosts.program(CLIENT, "hostile", *words)))


def changes(world: World) -> dict[str, Any]:
    """Change a link, disable one, delete one, and note what each host said of them, and when."""
    changed, disabled, deleted = codes = world.owner.links(3)
    file = f"{PLACE}/watching"
    arguments = {host: [world.hosts.address(host), world.owner.go, file, *codes] for host in world.redirects()}
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(world.hosts.at_once, world.redirects(), "watch", arguments)
        for host in world.redirects():
            world.hosts.as_root(host, f"for _ in $(seq 300); do test -e {file} && exit; sleep 0.1; done; exit 1")
        requests = {
            "changed": ("PATCH", changed, {"url": "https://example.org/changed"}),
            "disabled": ("PATCH", disabled, {"is_active": False}),
            "deleted": ("DELETE", deleted, None),
        }
        answers = {
            name: world.owner.api(method, f"/links/{code}", body) for name, (method, code, body) in requests.items()
        }
        time.sleep(CHANGE_SECONDS + WATCH_SECONDS)  # hosts are watched for so long
        for host in world.redirects():
            world.hosts.as_root(host, f"rm -f {file}")
        said = {host: json.loads(text) for host, text in watching.result().items()}
    return {
        name: {
            "status": answers[name].status,
            "at": answers[name].at,
            "hosts": {host: found[requests[name][1]] for host, found in said.items()},
        }
        for name in requests
    }


def scan(world: World) -> dict[str, Any]:
    """Have codes asked for that nobody made, in the name of many, and see what that does to memory."""
    count = UNKNOWN_CODES_LONG if world.long else UNKNOWN_CODES
    say(f"{count} unknown codes")
    places = [f"{world.hosts.address(host)}:{port_of(world, host)}" for host in world.redirects()]
    before = world.figures()
    began = time.monotonic()
    balancer = world.hosts.of("balancers")[0]
    said = json.loads(world.hosts.program(balancer, "scan", world.owner.go, count, SCAN_RATE, *places))
    return {
        "count": count,
        "statuses": said,
        "seconds": round(time.monotonic() - began, 1),
        "before": {host: figures["memory"] for host, figures in before.items()},
        "after": {host: figures["memory"] for host, figures in world.figures().items()},
    }


def port_of(world: World, host: str) -> int:
    """Return the port of the slot that serves visitors on a host."""
    live = world.hosts.on_host(host, "readlink /opt/linkrift/redirect/live").strip()
    return 8181 if live.endswith("green") else 8081


# --- Processes ------------------------------------------------------------------------------------------------------


def killed(world: World, service: str) -> dict[str, Any]:
    """Kill a service's processes on the second host; their parent starts them anew. Say who they were, and are."""
    host = world.redirects()[min(1, len(world.redirects()) - 1)]
    say(f"{service} killed on {host}")
    family = (
        f"slot=$(basename $(readlink /opt/linkrift/{service}/live))\n"
        f"main=$(systemctl show --property=MainPID --value linkrift-{service}@$slot)\n"
        "children=$(cat /proc/$main/task/$main/children)\n"
        "echo $children\n"
    )
    before = world.hosts.as_root(host, f"{family}kill -KILL $children").split()
    end = time.monotonic() + BACK_SECONDS
    while True:
        after = world.hosts.as_root(host, family).split()
        if (len(after) == len(before) and not set(after) & set(before)) or time.monotonic() > end:
            return {"host": host, "before": before, "after": after}


def processes(world: World, known: str) -> dict[str, Any]:
    """The only redirect process of a host is killed; elsewhere somebody asks the API more often than it lets."""
    del known
    before = world.figures()
    with ThreadPoolExecutor(1) as pool:
        limits = pool.submit(playbook, LIMITS, "-i", world.hosts.inventory)
        found = killed(world, "redirect")
        limits.result()
    return {"redirect": found, "before": before}


# --- What was counted -----------------------------------------------------------------------------------------------


def settle(world: World, parts: Sequence[str]) -> None:
    """Wait until no click is on its way any more, and note what was counted of each link."""
    say("until all is counted")
    began = time.monotonic()
    figures = world.until(lambda found: all(not one["waiting"] and is_back(one) for one in found.values()), 60.0)
    left, clicks = counted(world.hosts)
    for part in parts:
        codes = world.results[part]["codes"]
        told = world.owner.counted(codes)
        answered = world.results[part]["report"]["paths"]
        world.results[part]["links"] = {
            code: {
                "answered": answered.get(f"/{code}", 0),
                "stored": clicks.get(code, 0),
                "told": told[code],
            }
            for code in codes
        }
    world.results["settled"] = {"figures": figures, "left": left, "seconds": round(time.monotonic() - began, 1)}


def counted(hosts: Hosts) -> tuple[int, dict[str, int]]:
    """Wait until Redis has no clicks any more, within a time; return what it has then, and the clicks of each link."""
    (redis,), (clickhouse,) = hosts.of("redis_hosts"), hosts.of("clickhouse_hosts")
    end = time.monotonic() + SETTLED_SECONDS
    while (left := waiting_in_redis(hosts, redis)) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)  # between two looks, until a deadline
    return left, stored(hosts, clickhouse)


def stored(hosts: Hosts, host: str) -> dict[str, int]:
    """Return how many clicks ClickHouse has of each link, each once."""
    query = "SELECT code, uniqExact(toString(event_id)) FROM linkrift_analytics.clicks GROUP BY code"
    rows = hosts.as_root(host, f'clickhouse-client --query "{query}"').splitlines()
    return {code: int(count) for code, count in (row.split("\t") for row in rows)}


def waiting_in_redis(hosts: Hosts, host: str) -> int:
    """Return how many entries of clicks wait in Redis."""
    return int(
        hosts.as_root(
            host,
            "REDISCLI_AUTH=$(cat /root/.linkrift-redis-admin) redis-cli -e -s /run/redis/redis-server.sock"
            " --user linkrift_admin XLEN linkrift:clicks",
        )
    )


PARTS: Mapping[str, Callable[[World, str], dict[str, Any]]] = {"stores": stores, "processes": processes}
