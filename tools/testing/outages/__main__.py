"""Run it by hand; see the package. Exit 1 when something is wrong."""

from __future__ import annotations

import argparse
import sys

from tools.bench.lab import Lab
from tools.bench.visitors import RATE
from tools.lab import LabToolError
from tools.soak.rounds import table
from tools.testing.outages import judge
from tools.testing.outages.run import PARTS, run


def main() -> int:
    """Run the parts, print what was seen, and say what is wrong with it."""
    parser = argparse.ArgumentParser(prog="python -m tools.testing.outages", description=__doc__)
    parser.add_argument("--lab", required=True, help="its name, as docs/lab.md has it")
    parser.add_argument("--long", action="store_true", help="outages last as long as in `make soak`")
    parser.add_argument("--only", action="append", default=[], choices=PARTS, help="these parts; all without one")
    parser.add_argument("--rate", type=float, default=RATE, help="visitors a second (default 200)")
    options = parser.parse_args()
    try:
        results = run(Lab(options.lab), options.only, long=options.long, rate=options.rate)
    except LabToolError as error:
        sys.stderr.write(f"outages: {error}\n")
        return 1
    print(table(judge.summary(results)))
    found = judge.wrong(results)
    print("\n".join(found) or "nothing is wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
