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
from tools.bench.results import Result, say, table, write
from tools.lab import ROOT, LabToolError
from tools.lab.material import lab_hosts

RESULTS = ROOT / ".bench" / "results.json"
PARTS = ("site", "releases", "growth")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; without one, all")
    parser.add_argument("--repeat", type=int, default=5, help="runs of which a median is taken (default 5)")
    parser.add_argument("--hosts", default="", help="hosts of part `releases`; without any, those of inventories/lab")
    parser.add_argument("--keep", action="store_true", help="leave the lab as it is at the end")
    options = parser.parse_args()
    unknown = set(options.part) - set(PARTS)
    if unknown or options.repeat < 1:
        parser.error(f"parts are {', '.join(PARTS)}, and --repeat is at least 1")
    return options


def measure(options: argparse.Namespace) -> list[Result]:
    """Measure the parts, each on what the one before it left where that will do.

    Raises:
        LabToolError: Something cannot be measured.
    """
    parts = options.part or PARTS
    results: list[Result] = []
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
    return results


def main() -> int:
    """Measure; exit 1 when something cannot be measured."""
    options = _arguments()
    # So that the lab goes when the run is ended from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        results = measure(options)
    except LabToolError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    finally:
        if not options.keep:
            BENCH.destroy()
    write(results, RESULTS, keep=bool(options.part))
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
