"""Prints the ids of a process and of all that came from it: `family.py PID`, itself first."""

import sys
from pathlib import Path


def parents() -> dict[int, int]:
    """Return the parent of each process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # What follows the name, which may have any character but is in brackets.
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        found[int(path.parent.name)] = int(fields[1])
    return found


def main() -> None:
    """Print them."""
    known = parents()
    family = [int(sys.argv[1])]
    for member in family:
        family += [process for process, parent in known.items() if parent == member]
    print(*family)


main()
