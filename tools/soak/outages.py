"""One dependency after the other away for minutes while visitors come, and a million codes that nobody made."""

from __future__ import annotations

from tools.soak.lab import Platform, sound
from tools.soak.rounds import Rounds, Row, say, table
from tools.testing.outages import judge
from tools.testing.outages import run as happenings


def run(platform: Platform, rounds: Rounds, rate: float) -> None:
    """Run the parts and print the table.

    Args:
        platform: Where.
        rounds: Those that are done are passed over.
        rate: Visitors a second.

    Raises:
        LabToolError: A visitor failed who need not, a click was lost or counted twice, or something did not come back.
    """
    rounds.go(happenings.PARTS, lambda name: part(platform, name, rate))
    print(table([{"outages": name, **rounds.done[name]} for name in happenings.PARTS]))
    say("each click that was answered is counted once")


def part(platform: Platform, name: str, rate: float) -> Row:
    """Run one part.

    Raises:
        LabToolError: See `run`.
    """
    results = happenings.run(platform.lab, [name], long=True, rate=rate)
    for line in table(judge.summary(results)).splitlines():
        say(line)
    sound(judge.wrong(results))
    links = results[name]["links"].values()
    return {
        "visitors": results[name]["report"]["requests"],
        "failed": results[name]["report"]["failed"],
        "answered": sum(link["answered"] for link in links),
        "counted": sum(link["stored"] for link in links),
    }
