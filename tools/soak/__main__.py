"""The long sweeps that CI leaves out, each on hosts of its own.

Without a part, all of them. What is done is written down below `.bench/soak`, so that `--resume` goes on after a sweep
that was broken off; a lab that was left (`--keep`) is gone on with then.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
from collections.abc import Sequence

from tools.bench.lab import Lab
from tools.bench.visitors import RATE
from tools.lab import LabToolError
from tools.soak import clicks, faults, install, kills, outages, rollouts
from tools.soak.lab import PLACE, SOAK, Platform, stand_up
from tools.soak.rounds import Rounds, say, table

ROLLOUTS = 20

# What they do, and how long they take, roughly: for whoever starts one.
PARTS = {
    "install": "site.yml is killed at a random moment, then run again (8 minutes a round)",
    "rollouts": "one rollout after the other while visitors come (2 minutes each)",
    "kills": "a deploy, a rollback or an undo is killed at each of its tasks (2 minutes each)",
    "clicks": "clicks sent are clicks counted, while a worker is killed and Redis starts anew (20 minutes)",
    "outages": "each store is away for a minute, ClickHouse for five; a million unknown codes (30 minutes)",
    "faults": "everything that is known to go wrong with a deploy (1 to 2 minutes each)",
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the checked command line."""
    lines = "\n".join(f"  {name:<10} {words}" for name, words in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak",
        description=f"{__doc__}\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", nargs="*", metavar="PART", help="without one, all")
    parser.add_argument("--resume", action="store_true", help="pass over the rounds that are done")
    parser.add_argument("--keep", action="store_true", help="leave the lab as it is at the end")
    parser.add_argument("--hosts", default="", help="such as lb1,app1,app2,data1,ops1,client1; all of inventories/lab")
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second (default 200)")
    parser.add_argument("--rounds", type=int, default=10, help="of part install (default 10)")
    parser.add_argument(
        "--count", type=int, help=f"rollouts (default {ROLLOUTS}), or clicks (default {clicks.REQUESTS})"
    )
    parser.add_argument("--of", choices=kills.KILLED, default="deploy", help="kills: what is killed (default deploy)")
    parser.add_argument("--tasks", default="0-", help="kills: at which tasks, such as 10-20 (default: all)")
    parser.add_argument("--every", type=int, default=1, help="kills: only every so manyth of them")
    parser.add_argument(
        "--changing", action="store_true", help="kills: only those that change something, and those right after"
    )
    parser.add_argument("--case", action="append", default=[], help="faults: those with this in their name")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="repeats moments of kills")
    options = parser.parse_args(arguments)
    unknown = set(options.part) - PARTS.keys()
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}: they are {', '.join(PARTS)}")
    if (
        min(options.rounds, options.every) < 1
        or (1 if options.count is None else options.count) < 1
        or options.rate <= 0
    ):
        parser.error("--rounds, --count, --every and --rate are above 0")
    return options


def soak_installation(options: argparse.Namespace) -> None:
    """Run part install."""
    rounds = Rounds(PLACE / "install.jsonl", resume=options.resume)
    names = [f"round {number:02d}" for number in range(options.rounds)]
    rounds.go(names, lambda name: install.round_of(SOAK, options.seed + int(name.split()[1])))
    print(table([{"installation": name, **rounds.done[name]} for name in names]))


def soak_releases(options: argparse.Namespace, parts: Sequence[str]) -> None:
    """Run the parts that need hosts which serve."""
    platform: Platform = stand_up(SOAK, [name for name in options.hosts.split(",") if name], resume=options.resume)
    for part in parts:
        file = f"kills-{options.of}" if part == "kills" else part
        rounds = Rounds(PLACE / f"{file}.jsonl", resume=options.resume)
        say(f"part {part}")
        if part == "rollouts":
            rollouts.run(platform, rounds, options.count or ROLLOUTS, options.rate)
        elif part == "clicks":
            clicks.run(platform, rounds, options.count or clicks.REQUESTS)
        elif part == "outages":
            outages.run(platform, rounds, options.rate)
        elif part == "kills":
            numbers = kills.parse_range(options.tasks)
            wanted = numbers[:: options.every]
            kills.run(platform, rounds, options.of, wanted, options.seed, options.rate, changing=options.changing)
        else:
            faults.run(platform, rounds, options.case, options.rate)


def finish(lab: Lab, *, keep: bool) -> None:
    """Remove the lab, or say that it is there."""
    if keep:
        say(f"the lab {lab.name} is left as it is: {lab.directory}")
    else:
        lab.destroy()


def main() -> int:
    """Run the parts; exit 1 at the first that fails."""
    options = parse_arguments()
    parts = [part for part in PARTS if part in (options.part or PARTS)]
    # So that the lab goes when the sweep is ended from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if "install" in parts:
            soak_installation(options)
        others = [part for part in parts if part != "install"]
        if others:
            soak_releases(options, others)
    except LabToolError as error:
        sys.stderr.write(f"soak: {error}\n")
        return 1
    finally:
        finish(SOAK, keep=options.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
