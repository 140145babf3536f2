#!/usr/bin/env python3
"""Counts in HAProxy's access log what the balancer hid from visitors, or did not hide, from a place in it on.

Its counters begin anew with each reload and are gone with the worker that had them; the log keeps every request. Runs
on a lab host with nothing but the standard library. The fields are those of role haproxy (docs/edge.md).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def count(lines: Iterable[bytes]) -> dict[str, object]:
    """Count requests, retries, 5xx answers and requests that did not end as they should.

    Args:
        lines: Of the log: JSON objects with `retries` (a number, `+` before it after a change of server), `status` and
            `end` (HAProxy's termination state, `--` when all went well).

    Raises:
        ValueError: a line is no such object.
    """
    requests = retried = errors = 0
    ends: Counter[str] = Counter()
    for line in lines:
        entry = json.loads(line)
        requests += 1
        retried += entry["retries"].lstrip("+") != "0" or entry["retries"].startswith("+")
        errors += entry["status"] >= 500
        if entry["end"] != "--":
            ends[entry["end"]] += 1
    return {"requests": requests, "retried": retried, "errors": errors, "ends": dict(ends)}


def main() -> None:
    """Print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--offset", type=int, default=0, help="bytes to pass over")
    options = parser.parse_args()
    with options.log.open("rb") as file:
        file.seek(options.offset)
        print(json.dumps(count(line for line in file if line.endswith(b"\n"))))


if __name__ == "__main__":
    main()
