"""The API on its host: links made at a steady rate, and statistics of a link with very many clicks."""

from __future__ import annotations

import json
import secrets
import statistics
from typing import Any

from tools.bench.redirect import engines
from tools.bench.redirect.latency import middle
from tools.bench.redirect.place import DIRECTORY, HERE, Place
from tools.bench.redirect.worker import COMMAND
from tools.bench.results import Result, say
from tools.lab import LabToolError
from tools.lab.material import domains

# Of an account that nobody has but the bench's own lab: address and password.
ACCOUNT = ("bench@linkrift.test", "a password for the bench's own lab")
RATE = 200
TIMES = 20
# Of the clicks, one in ten is the one link's; the others are spread over so many.
SHARE, OTHERS = 10, 5000


def call(place: Place, *words: object) -> dict[str, Any]:
    """Ask the API with the script for it.

    Raises:
        LabToolError: It answers something else.
    """
    answer: dict[str, Any] = json.loads(place.script("api_calls", place.port("api"), f"api.{domains()[0]}", *words))
    return answer


def sign_in(place: Place) -> str:
    """Have an account, and return a token for it."""
    return str(call(place, "sign-in", *ACCOUNT)["token"])


def commit(place: Place, count: int) -> dict[str, Any]:
    """Insert the bare rows of links at the same rate, and return the report."""
    environment = f"/etc/linkrift/api/{place.slot('api')}.env"
    return dict(
        json.loads(
            place.run(
                f"systemd-run --quiet --collect --wait --pipe --property=EnvironmentFile={environment}"
                f" --property=CPUAffinity={place.processors.server} {place.python()} {DIRECTORY}/commits.py"
                f" {ACCOUNT[0]} commit-{secrets.token_hex(3)}- {RATE} {count}"
            )
        )
    )


def measure_create(place: Place, token: str, count: int, repeat: int) -> list[Result]:
    """Links made at 200 a second, on the processor of what is measured, beside bare rows: what PostgreSQL's disk takes.

    Args:
        place: Where.
        token: Of the account.
        count: How many links in a round.
        repeat: Rounds of which a median is taken.

    Raises:
        LabToolError: One was not made.
    """
    own, bare = [], []
    place.bind(place.unit("api"), place.processors.server)
    for number in range(repeat):
        say(f"200 links a second are made: {number + 1} of {repeat}")
        report = call(place, "create", token, RATE, count)
        if report["failed"] or report["requests"] != count:
            raise LabToolError(f"of {count} links, {report['requests']} were asked for: {report['failures']}")
        own.append(report)
        bare.append(commit(place, count))
    place.bind(place.unit("api"), place.processors.load)
    return [
        Result(f"api_create_{figure}", middle(own, figure), "ms", middle(bare, figure), COMMAND)
        for figure in ("p50_ms", "p99_ms")
    ]


def clicks_sql(code: str, clicks: int) -> str:
    """Return the query that makes so many clicks of the last 30 days inside ClickHouse, one in ten of a link."""
    template = (HERE / "clicks.sql").read_text(encoding="utf-8")
    # In one line: `sudo -i` leaves out ends of lines.
    return " ".join(template.format(code=code, clicks=clicks, share=SHARE, others=OTHERS).split())


def measure_stats(place: Place, token: str, code: str, quiet: str, clicks: int) -> list[Result]:
    """Statistics of a link with a tenth of so many clicks, beside a link that has hardly any.

    Raises:
        LabToolError: They are wrong.
    """
    say(f"statistics of a link with {clicks // SHARE} clicks among {clicks}")
    before = int(call(place, "stats", token, code, 1)["clicks"])
    place.clickhouse(clicks_sql(code, clicks))
    many, few = call(place, "stats", token, code, TIMES), call(place, "stats", token, quiet, TIMES)
    if many["clicks"] - before != -(-clicks // SHARE):
        raise LabToolError(f"{code} has {many['clicks']} clicks, not {before} and {clicks // SHARE}")
    found, beside = (round(statistics.median(one["milliseconds"]), 2) for one in (many, few))
    return [
        Result("stats_of_a_tenth_of_the_clicks_ms", found, f"ms, {clicks} clicks", beside, COMMAND),
        *engines.measure(place, code, clicks_sql(code, clicks), clicks, -(-clicks // SHARE)),
    ]
