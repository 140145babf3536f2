"""What a redirect process takes once it has been asked for many links."""

from __future__ import annotations

from tools.bench.redirect.place import Place
from tools.bench.redirect.requests import Links
from tools.bench.redirect.worker import COMMAND, stopped
from tools.bench.results import Result, say

_SECONDS = 300


def mib(smaps_rollup: str, field: str) -> float:
    """Return a field of a process's smaps_rollup (proc(5)) in MiB."""
    kib = next(line.split()[1] for line in smaps_rollup.splitlines() if line.startswith(f"{field}:"))
    return round(int(kib) / 1024, 1)


def measure(place: Place, links: Links) -> list[Result]:
    """RSS and PSS of a process that was just started, then of the same after so many links."""
    say(f"memory of a process with {links.count} links")
    unit = place.unit("redirect")
    place.run(f"systemctl restart {unit}")
    place.bind(unit, place.processors.server)
    # The parent answers nobody.
    process = place.family(unit)[1]
    before = place.run(f"cat /proc/{process}/smaps_rollup")
    with stopped(place):
        place.ask(place.port("redirect"), links.prefix, connections=16, seconds=_SECONDS, limit=links.count)
        after = place.run(f"cat /proc/{process}/smaps_rollup")
        entries = place.metrics(place.port("redirect")).sum("linkrift_cache_entries", kind="link")
    return [
        Result("redirect_rss_mib_100k", mib(after, "Rss"), "MiB", mib(before, "Rss"), COMMAND),
        Result("redirect_pss_mib_100k", mib(after, "Pss"), "MiB", mib(before, "Pss"), COMMAND),
        Result("redirect_cached_links_100k", entries, "links", float(links.count), COMMAND),
    ]
