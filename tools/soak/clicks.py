"""Clicks sent are clicks counted: millions of them, while a worker is killed and while Redis starts anew.

Visitors are wrk on client1, through TLS and the balancer. It sends a known number of clicks, and then asks for what
nobody made until the last of them is answered: so what was sent is known to the click.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

from tools.bench.redirect import wrk
from tools.bench.redirect.place import HERE
from tools.bench.redirect.requests import each, ending, text
from tools.bench.visitors import CLIENT
from tools.lab import LabToolError
from tools.lab.material import domains, lab_hosts
from tools.lab.visitor import Link, connected
from tools.lab.visitor import Platform as Visited
from tools.soak.lab import Platform, sound
from tools.soak.rounds import Rounds, Row, say, table

REQUESTS = 5_000_000
CONNECTIONS = 32
LINKS = tuple(Link.to(f"https://www.example.org/soaked/{number}") for number in range(4))
# Fewer requests a second than this are no load, and something is wrong.
SLOWEST = 1500
# So long after the first click something happens.
AFTER_SECONDS = 3.0
# Until all that was sent is counted; and for how long it is looked whether more comes.
COUNTED_SECONDS = 300.0
STILL_SECONDS = 15.0
_POLL_SECONDS = 3.0
_PLACE = "/run/linkrift-clicks"
# Of an account that nobody has but the own lab of the soak: address and password.
_ACCOUNT = ("soak@linkrift.test", "a password for the soak's own lab")


@dataclass(frozen=True)
class Leg:
    """A part of the clicks, and what happens while they are sent; on the second application host or on the stores'."""

    name: str
    group: str = ""
    command: str = ""


LEGS: Sequence[Leg] = (
    Leg("nothing happens"),
    Leg(
        "a worker is killed",
        "worker_hosts",
        "sudo systemctl kill --signal=KILL linkrift-worker@$(basename $(readlink /opt/linkrift/worker/live))",
    ),
    Leg("Redis starts anew", "redis_hosts", "sudo systemctl restart redis-server"),
    Leg("nothing happens again"),
)


class Owner:
    """The owner of the links, who is signed in all the time: signing in is limited."""

    def __init__(self, runner: asyncio.Runner, visited: Visited) -> None:
        """Take over what `signed_in` made."""
        self._runner = runner
        self._visited = visited

    def create(self) -> None:
        """Have the links."""
        self._runner.run(self._visited.create(LINKS, lambda _: None))

    def counted(self) -> int:
        """Return how many clicks the owner is told of, all links together."""
        return sum(self._runner.run(self._visited.clicks(link)) for link in LINKS)

    def settled(self, wanted: int) -> int:
        """Wait until so many clicks are counted, and then whether more come; return how many there are."""
        deadline = time.monotonic() + COUNTED_SECONDS
        while self.counted() < wanted and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        time.sleep(STILL_SECONDS)
        return self.counted()


@contextmanager
def signed_in(platform: Platform) -> Iterator[Owner]:
    """Sign in for as long as the `with` block lasts.

    Raises:
        LabToolError: The account is somebody else's.
    """
    directory = platform.lab.directory
    balancer = str(lab_hosts(directory).visitors()[0])
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        visited = runner.run(stack.enter_async_context(connected(domains()[0], balancer, str(directory / "ca.pem"))))
        try:
            if not runner.run(visited.sign_in(*_ACCOUNT)):
                raise LabToolError(f"{_ACCOUNT[0]} has another password")
            yield Owner(runner, visited)
        finally:
            runner.run(stack.aclose())


def run(platform: Platform, rounds: Rounds, count: int) -> None:
    """Send the clicks, a part in each leg, and print what was counted.

    Raises:
        LabToolError: An answer was wrong, or a click was not counted, or counted twice.
    """
    prepare(platform)
    share = max(1, count // len(LEGS))
    names = [leg.name for leg in LEGS]
    with signed_in(platform) as owner:
        owner.create()
        rounds.go(names, lambda name: send(platform, owner, LEGS[names.index(name)], share))
    print(table([{"clicks": name, **rounds.done[name]} for name in names]))
    say(f"{sum(int(str(rounds.done[name]['sent'])) for name in names)} clicks, each counted once")


def prepare(platform: Platform) -> None:
    """Have on client1 what sends clicks."""
    say("wrk on client1")
    lab = platform.lab
    lab.on_host(CLIENT, "sudo DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends wrk")
    lab.on_host(CLIENT, f"sudo install -d -m 0755 {_PLACE}")
    clicks = text(ending(each([link.code for link in LINKS])))
    for name, content in (("load.lua", (HERE / "load.lua").read_bytes()), ("clicks", clicks)):
        lab.on_host(CLIENT, f"sudo tee {_PLACE}/{name} >/dev/null", content)


def send(platform: Platform, owner: Owner, leg: Leg, count: int) -> Row:
    """Send clicks while something happens, and see that they are counted.

    Raises:
        LabToolError: See `run`.
    """
    before = owner.counted()
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(wrk_on_client, platform, count)
        if leg.command:
            time.sleep(AFTER_SECONDS)
            hosts = lab_hosts(platform.lab.directory).of(leg.group)
            platform.lab.on_host(hosts[min(1, len(hosts) - 1)], leg.command)
        load = sending.result()
    sound(wrong_with_load(load, count))
    began = time.monotonic()
    found = owner.settled(before + count) - before
    sound(wrong_with_counts(count, found))
    return {
        "sent": count,
        "counted": found,
        "per_second": round(load.per_second),
        "p99_ms": f"{load.p99_ms:.1f}",
        "counted after": f"{time.monotonic() - began - STILL_SECONDS:.0f} s",
    }


def wrk_on_client(platform: Platform, count: int) -> wrk.Load:
    """Send clicks from client1; return what came."""
    name = f"go.{domains()[0]}"
    wanted = wrk.Ask(name, f"{_PLACE}/clicks", CONNECTIONS, 30 + count / SLOWEST, limit=count)
    words = wrk.command(wanted, f"{_PLACE}/load.lua", name, scheme="https")
    return wrk.parse(platform.lab.on_host(CLIENT, words))


def wrong_with_load(load: wrk.Load, count: int) -> list[str]:
    """Say what is wrong with the answers, as sentences."""
    wrong = []
    if load.statuses.get(302, 0) != count:
        wrong.append(f"of {count} clicks, {load.statuses.get(302, 0)} were answered with 302: {load.statuses}")
    broken = {kind: number for kind, number in load.errors.items() if number and kind != "status"}
    if broken:
        wrong.append(f"requests failed: {broken}")
    # 404 and 429 are for what is asked at the end.
    if others := {status: number for status, number in load.statuses.items() if status not in (302, 404, 429)}:
        wrong.append(f"there were other answers: {others}")
    return wrong


def wrong_with_counts(sent: int, found: int) -> list[str]:
    """Say what is wrong with what was counted, as sentences."""
    if found < sent:
        return [f"of {sent} clicks, {sent - found} were not counted"]
    return [f"{found - sent} clicks more were counted than the {sent} that were sent"] if found > sent else []
