"""All of part `redirect`: a lab of its own, links, and one figure after the other."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from tools.bench.lab import Lab, playbook
from tools.bench.redirect import api, latency, memory, servers, throughput, worker
from tools.bench.redirect.place import HERE, Place
from tools.bench.redirect.requests import Links, Request, each, ending, followed, mix, returning, shares
from tools.bench.redirect.throughput import CANARY, GETS, MIX, MIX_AGAIN, ONE, ONE_AGAIN, PLAIN
from tools.bench.results import Result, say
from tools.lab.material import lab_hosts

HOSTS = ("lb1", "app1", "data1", "ops1")
HITS = Links("hit", 10_000)
GONE = Links("gone", 100, gone=True)
REQUESTS = 20_000
# Visitors who are remembered: fewer than a process's cache of them keeps.
RETURNING = 1000
# Nobody has asked for them before it is their turn, in no earlier run either.
IN_REDIS, IN_POSTGRESQL = (Links(f"{prefix}-{secrets.token_hex(3)}-", 5000) for prefix in ("redis", "postgresql"))
MANY = Links("many", 100_000)
PACED = 2000
FEWEST_CLICKS = 1000
CREATED = 2000
UNLIMITED = {f"LINKRIFT_RATE_LIMIT_{what}": "1000000" for what in ("REQUESTS", "WRITES", "LOGINS")}
# What gates follow: nobody counts its clicks.
CODE_OF_CANARY = "ping"


@dataclass(frozen=True)
class Wishes:
    """How much is measured.

    Attributes:
        repeat: Rounds of which a median is taken.
        seconds: Of one run of wrk.
        clicks: Among which the statistics of a link are asked for.
        sections: What is measured, of SECTIONS.
        reuse: Go on with the lab that an earlier run has left.
    """

    repeat: int = 5
    seconds: float = 5.0
    clicks: int = 10_000_000
    sections: Collection[str] = ()
    reuse: bool = False


def settings(lab: Lab, redirect_processes: int = 1) -> str:
    """Return variables for site.yml.

    Who measures is believed what balancers are, which visitor a request comes from: otherwise all would come from one
    visitor, who asks for far too much that is not there. And the one account may make as many links as are measured;
    they are counted nevertheless.
    """
    hosts = lab_hosts(lab.directory).addresses
    trusted = ",".join(str(address) for host in ("lb1", "app1") for address in hosts[host])
    own = {"LINKRIFT_TRUSTED_PROXIES": trusted}
    return json.dumps(
        {
            "linkrift_settings": {"all": {"LINKRIFT_ENV": "staging"}, "api": own | UNLIMITED, "redirect": own},
            "linkrift_processes": {"redirect": redirect_processes},
        }
    )


def site(place: Place, **processes: int) -> None:
    """Run site.yml; what it changes of settings, slots that start later have."""
    playbook("playbooks/site.yml", "-i", place.lab.inventory, "-e", settings(place.lab, **processes))


def stand_up(lab: Lab, *, reuse: bool) -> Place:
    """Have a lab that serves, what measures it, and each program on its processor.

    Args:
        lab: The lab.
        reuse: Go on with the one that an earlier run has left.
    """
    say("a small lab that serves")
    lab.create(HOSTS, anew=not reuse)
    place = Place(lab)
    site(place)
    place.prepare()
    place.bind_all()
    place.bind(place.unit("redirect"), place.processors.server)
    return place


def make_links(place: Place) -> None:
    """Have all links in PostgreSQL, and the prepared requests on the host."""
    say("links, and requests for them")
    for links in (HITS, GONE, IN_REDIS, IN_POSTGRESQL, MANY):
        place.sql(links.sql(api.ACCOUNT[0]))
    for name, requests in prepared().items():
        place.put_requests(name, requests, shares(requests))
    for links in (HITS, IN_REDIS, MANY):
        place.put_requests(links.prefix, ending(each(links.codes())), {302: 1.0})


def prepared() -> dict[str, list[Request]]:
    """Return the requests of each file."""
    mixture = mix(HITS, GONE, REQUESTS)
    # As many visitors for one link as for all: what a click takes is not the same for one who was there before.
    one = each([HITS.code(1)] * REQUESTS)
    return {
        MIX: mixture,
        MIX_AGAIN: returning(mixture, RETURNING),
        PLAIN: followed(mixture),
        GETS: each(HITS.codes()),
        ONE: one,
        ONE_AGAIN: returning(one, RETURNING),
        CANARY: each([CODE_OF_CANARY] * REQUESTS),
    }


def warm(place: Place, *, beside_others: bool = False) -> None:
    """Have the links in memory, and see that everybody answers as the requests ask for, status by status."""
    say("what answers, answers what it is asked for")
    with worker.stopped(place):
        own = place.port("redirect")
        place.ask(own, HITS.prefix, connections=throughput.CONNECTIONS, seconds=60, limit=HITS.count)
        for file in (MIX, MIX_AGAIN, GETS, ONE, ONE_AGAIN, CANARY):
            place.count(own, file, connections=throughput.CONNECTIONS, seconds=2)
        for port in servers.OTHERS.values() if beside_others else ():
            place.count(f"{place.address}:{port}", PLAIN, connections=throughput.CONNECTIONS, seconds=1)


def measure(lab: Lab, wishes: Wishes) -> Iterator[Result]:
    """Measure what is wished for, on a new lab; figures come as they are found.

    Raises:
        LabToolError: Something cannot be measured.
    """
    place = stand_up(lab, reuse=wishes.reuse)
    token = api.sign_in(place)
    make_links(place)
    for section, measured in SECTIONS.items():
        if section in wishes.sections:
            yield from measured(place, wishes, token)


def measure_redirects(place: Place, wishes: Wishes, _token: str) -> list[Result]:
    """Links in memory, beside other servers."""
    with servers.running(place, HITS):
        warm(place, beside_others=True)
        results = throughput.measure_beside_others(place, wishes.repeat, wishes.seconds)
        return results + latency.measure_paced(place, HITS, wishes.repeat, PACED)


def measure_clicks(place: Place, wishes: Wishes, _token: str) -> list[Result]:
    """What clicks cost, and how fast they are stored."""
    warm(place)
    results = throughput.measure_capture(place, wishes.repeat, wishes.seconds)
    return results + worker.measure(place, GETS, worker.PILE)


def measure_with_second(place: Place, wishes: Wishes, _token: str) -> list[Result]:
    """What takes another slot: the release that is live, with two processes."""
    say("the same release in the other slot, with two processes")
    site(place, redirect_processes=2)
    _second(place, place.release())
    try:
        slot = "green" if place.slot("redirect") == "blue" else "blue"
        place.bind(f"linkrift-redirect@{slot}.service", place.processors.server, place.processors.second)
        warm(place)
        with worker.stopped(place):
            place.ask(place.other_port("redirect"), HITS.prefix, connections=16, seconds=60, limit=HITS.count)
        results = throughput.measure_two(place, wishes.repeat, wishes.seconds)
        return results + latency.measure_misses(place, IN_REDIS, IN_POSTGRESQL, HITS, wishes.repeat)
    finally:
        _second(place, "")


def _second(place: Place, release: str) -> None:
    variables = json.dumps({"second_release": release})
    playbook(str(HERE / "second.yml"), "-i", place.lab.inventory, "-e", variables)


def measure_memory(place: Place, _wishes: Wishes, _token: str) -> list[Result]:
    """What a process takes."""
    return memory.measure(place, MANY)


def measure_create(place: Place, wishes: Wishes, token: str) -> list[Result]:
    """How fast links are made."""
    return api.measure_create(place, token, CREATED, wishes.repeat)


def measure_stats(place: Place, wishes: Wishes, token: str) -> list[Result]:
    """How fast statistics are."""
    return api.measure_stats(place, token, HITS.code(HITS.count), HITS.code(2), wishes.clicks)


SECTIONS: Mapping[str, Callable[[Place, Wishes, str], list[Result]]] = {
    "redirects": measure_redirects,
    "clicks": measure_clicks,
    # Of one process: before there are to be two.
    "memory": measure_memory,
    "second": measure_with_second,
    "create": measure_create,
    "stats": measure_stats,
}
