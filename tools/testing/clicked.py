"""Links that visitors follow while something happens, and how often each was counted.

    python -m tools.testing.clicked --lab NAME make COUNT    makes links, and prints their codes
    python -m tools.testing.clicked --lab NAME count         prints the clicks of each link that has any

Both print JSON. Before it counts, it waits until no click is on its way any more.
"""

from __future__ import annotations

import argparse
import json
import sys

from tools.bench.lab import Lab
from tools.lab import LabToolError
from tools.testing.outages.hosts import Hosts, reached
from tools.testing.outages.owner import Owner
from tools.testing.outages.run import counted


def count(hosts: Hosts) -> dict[str, int]:
    """Return the clicks of each link that has any.

    Raises:
        LabToolError: Some are still on their way.
    """
    left, clicks = counted(hosts)
    if left:
        raise LabToolError(f"{left} entries of clicks still wait in Redis")
    return clicks


def main() -> int:
    """Do it; 1 means that it failed and stderr says why."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.testing.clicked",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--lab", required=True, help="its name, as docs/lab.md has it")
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("make").add_argument("count", type=int)
    commands.add_parser("count")
    options = parser.parse_args()
    try:
        with reached(Lab(options.lab)) as hosts:
            print(json.dumps(Owner(hosts).links(options.count) if options.command == "make" else count(hosts)))
    except LabToolError as error:
        sys.stderr.write(f"clicked: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
