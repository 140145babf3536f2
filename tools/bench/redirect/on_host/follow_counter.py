"""Follows a counter of a service's metrics until it has grown enough: `follow_counter.py URL NAME GROWTH SECONDS`.

Prints a JSON list of [seconds since the epoch, value]; it is shorter of growth when the seconds are over.
"""

import http.client
import json
import sys
import time
from urllib.parse import urlsplit


def value(url: str, name: str) -> float:
    """Return what the counter is at; 0 while nobody answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        connection.request("GET", parts.path)
        lines = connection.getresponse().read().decode().splitlines()
    except OSError:
        return 0.0
    finally:
        connection.close()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def main() -> None:
    """Follow it."""
    url, name, growth, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    deadline = time.monotonic() + seconds
    samples: list[tuple[float, float]] = []
    while time.monotonic() < deadline:
        samples.append((time.time(), value(url, name)))
        if samples[-1][1] >= growth:
            break
        time.sleep(0.1)
    print(json.dumps(samples))


main()
