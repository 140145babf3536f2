"""Measures on a lab of its own, prints a table and writes `.bench/results.json`.

All of it, or some of its parts: `python -m tools.bench releases`. For a try:
`python -m tools.bench releases --repeat 1 --hosts lb1,app1,app2,data1,ops1,client1`.
"""

from __future__ import annotations

import argparse
import signal
import sys

from tools.bench import hosts, installation, releases
from tools.bench.lab import BENCH, Run, playbook
from tools.bench.redirect import measure as redirect
from tools.bench.redirect.targets import missed
from tools.bench.results import Result, say, table, write
from tools.lab import ROOT, LabToolError
from tools.lab.material import lab_hosts

RESULTS = ROOT / ".bench" / "results.json"
PARTS = ("site", "releases", "growth", "redirect")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; without one, all")
    parser.add_argument("--repeat", type=int, default=5, help="runs of which a median is taken (default 5)")
    parser.add_argument("--hosts", default="", help="hosts of part `releases`; without any, those of inventories/lab")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one run of wrk in part `redirect` (default 5)")
    parser.add_argument(
        "--clicks", type=int, default=10_000_000, help="among which statistics are asked for (10000000)"
    )
    parser.add_argument("--of", default="", help=f"some of part `redirect`: {','.join(redirect.SECTIONS)}")
    parser.add_argument("--keep", action="store_true", help="leave the lab as it is at the end")
    parser.add_argument("--reuse", action="store_true", help="part `redirect`, on the lab that --keep has left")
    options = parser.parse_args()
    options.of = [name for name in options.of.split(",") if name] or list(redirect.SECTIONS)
    unknown = {*options.part} - {*PARTS} | {*options.of} - {*redirect.SECTIONS}
    if unknown or options.repeat < 1 or options.seconds < 1 or options.clicks < redirect.FEWEST_CLICKS:
        parser.error(
            f"parts are {', '.join(PARTS)}, --repeat and --seconds are at least 1, --clicks {redirect.FEWEST_CLICKS}"
        )
    return options


def measure(options: argparse.Namespace, results: list[Result]) -> None:
    """Measure the parts, each on what the one before it left where that will do.

    Args:
        options: The command line.
        results: Where figures go as they are found.

    Raises:
        LabToolError: Something cannot be measured.
    """
    parts = options.part or PARTS
    second: Run | None = None
    if "site" in parts:
        found, second = installation.measure()
        results += found
    if "releases" in parts:
        if "site" not in parts:
            say("a lab to release on")
            BENCH.create([name for name in options.hosts.split(",") if name])
            playbook("playbooks/site.yml", "-i", BENCH.inventory)
        results += releases.measure(BENCH, options.repeat)
    if "growth" in parts:
        say(f"site.yml with {hosts.GROWN} app hosts")
        if not (BENCH.directory / "inventory").exists():
            BENCH.create()
        results += hosts.measure_growth(second)
        say(f"a rollout over {len(lab_hosts(BENCH.directory).of('redirect_hosts'))} app hosts")
        results += releases.measure_growth(BENCH)
    if "redirect" in parts:
        wishes = redirect.Wishes(options.repeat, options.seconds, options.clicks, options.of, options.reuse)
        results += redirect.measure(BENCH, wishes)


def main() -> int:
    """Measure; exit 1 when something cannot be measured: what was found until then is written nevertheless."""
    options = _arguments()
    # So that the lab goes when the run is ended from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results: list[Result] = []
    broken = False
    try:
        measure(options, results)
    except LabToolError as error:
        sys.stderr.write(f"bench: {error}\n")
        broken = True
    finally:
        if not options.keep:
            BENCH.destroy()
    write(results, RESULTS, keep=bool(options.part) or broken)
    print(table(results))
    for sentence in missed(results):
        say(f"!! MISSED: {sentence}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
