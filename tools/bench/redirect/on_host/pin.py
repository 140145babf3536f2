"""Binds processes, with all their threads, to processors: `pin.py 0,1 PID...`; without an id, all that there are."""

import contextlib
import os
import sys
from pathlib import Path


def main() -> None:
    """Bind them; one that has ended meanwhile needs nothing."""
    processors = {int(number) for number in sys.argv[1].split(",")}
    for process in sys.argv[2:] or [path.name for path in Path("/proc").glob("[0-9]*")]:
        for thread in Path(f"/proc/{process}/task").glob("*"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), processors)


main()
