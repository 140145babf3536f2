"""The API on its host: links made at a steady rate, and statistics of a link with very many clicks."""

from __future__ import annotations

import json
import statistics
from typing import Any

from tools.bench.redirect.place import HERE, Place
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


def measure_create(place: Place, token: str, count: int) -> list[Result]:
    """Links made at 200 a second, on the processor of what is measured.

    Raises:
        LabToolError: One was not made.
    """
    say("200 links a second are made")
    place.bind(place.unit("api"), place.processors.server)
    report = call(place, "create", token, RATE, count)
    place.bind(place.unit("api"), place.processors.load)
    if report["failed"] or report["requests"] != count:
        raise LabToolError(f"of {count} links, {report['requests']} were asked for: {report['failures']}")
    return [
        Result("api_create_p50_ms", report["p50_ms"], "ms", command=COMMAND),
        Result("api_create_p99_ms", report["p99_ms"], "ms", command=COMMAND),
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
    return [Result("stats_of_a_tenth_of_the_clicks_ms", found, f"ms, {clicks} clicks", beside, COMMAND)]
