"""Clicks on their way to ClickHouse: left in the stream while something is measured, and taken by the worker then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tools.bench.redirect.place import DIRECTORY, Place
from tools.bench.results import Result, say
from tools.lab import LabToolError

COMMAND = "python -m tools.bench redirect"
CAPTURED = "linkrift_clicks_captured_total"
DROPPED, SPOOLED = "linkrift_clicks_dropped_total", "linkrift_clicks_spooled_total"
STORED = "linkrift_clicks_stored_total"
# More than this would take much of Redis' memory.
PILE = 400_000
# What is left in the end and fills no batch waits some seconds for more: worker/settings.py.
BATCH = 10_000
_LONGEST_SECONDS = 300


@dataclass(frozen=True)
class Clicks:
    """What the redirect service counted of clicks; `lost` went neither to Redis nor wait for it."""

    captured: float
    lost: float

    @classmethod
    def of(cls, place: Place) -> Clicks:
        """Ask the live slot."""
        found = place.metrics(place.port("redirect"))
        return cls(found.sum(CAPTURED), found.sum(DROPPED) + found.sum(SPOOLED))


class Pile:
    """Clicks that nobody takes, while the worker is stopped."""

    def __init__(self, place: Place) -> None:
        """Begin to count them."""
        self._place = place
        self._before = Clicks.of(place)

    def events(self) -> int:
        """Return how many they are.

        Raises:
            LabToolError: Some did not get to Redis: what has been measured is not what is deployed.
        """
        now = Clicks.of(self._place)
        if now.lost > self._before.lost:
            raise LabToolError(f"{now.lost - self._before.lost:.0f} clicks were dropped, or went to the disk")
        return round(now.captured - self._before.captured)


@contextmanager
def stopped(place: Place) -> Iterator[Pile]:
    """Stop the worker for as long as the `with` block lasts; afterwards it takes what has piled up.

    It would run on the processor that makes the load.
    """
    unit = place.unit("worker")
    place.run(f"systemctl stop {unit}")
    pile = Pile(place)
    try:
        yield pile
        events = pile.events()
    finally:
        place.run(f"systemctl start {unit}")
    if events:
        follow(place, events)


def follow(place: Place, events: int) -> list[tuple[float, float]]:
    """Wait until the worker, which has just been started, has stored so many events; return moments and counts.

    Raises:
        LabToolError: It has not, after a long time.
    """
    url = f"http://{place.port('worker')}/metrics"
    samples = json.loads(place.script("follow_counter", url, STORED, events, _LONGEST_SECONDS))
    if samples[-1][1] < events:
        raise LabToolError(f"of {events} clicks, the worker stored {samples[-1][1]:.0f} in {_LONGEST_SECONDS} s")
    return [(float(at), float(value)) for at, value in samples]


def rate(samples: Sequence[tuple[float, float]]) -> float:
    """Return events a second, from the first moment at which some were stored to the last full batch.

    Raises:
        LabToolError: All were stored at once, as far as could be seen.
    """
    full = samples[-1][1] - BATCH
    at_work = [sample for sample in samples if sample[1] > 0]
    # Up to the first moment at which no full batch was left.
    at_work = at_work[: 1 + next((at for at, (_, stored) in enumerate(at_work) if stored > full), 0)]
    if len(at_work) < 2:
        raise LabToolError("the worker was too fast to be followed: pile up more")
    (began, first), (ended, last) = at_work[0], at_work[-1]
    return (last - first) / (ended - began)


def measure(place: Place, file: str, events: int) -> list[Result]:
    """Events a second that a worker on one processor stores, beside plain inserts on that processor.

    Args:
        place: Where.
        file: Of prepared requests that are clicks.
        events: How many, at the least.
    """
    say(f"the worker takes {events} clicks that have piled up")
    unit = place.unit("worker")
    place.run(f"systemctl stop {unit}")
    pile = Pile(place)
    try:
        while pile.events() < events:
            place.ask(place.port("redirect"), file, connections=16, seconds=5)
        waiting = pile.events()
    finally:
        place.run(f"systemctl start {unit}")
    place.bind(unit, place.processors.server)
    found = rate(follow(place, waiting))
    place.bind(unit, place.processors.load)
    environment = f"/etc/linkrift/worker/{place.slot('worker')}.env"
    plain = json.loads(
        place.run(
            f"systemd-run --quiet --collect --wait --pipe --property=EnvironmentFile={environment}"
            f" --property=CPUAffinity={place.processors.server} {place.python()} {DIRECTORY}/insert.py {waiting}"
        )
    )
    return [Result("worker_events_per_s", round(found), "1/s", round(plain["rows"] / plain["seconds"]), COMMAND)]
