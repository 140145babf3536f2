"""Prints what the live slot of a service says of itself: figures of /metrics, summed over labels that are not named.

Arguments: the address at which it listens, the service, and names of figures, such as linkrift_clicks_dropped_total or
linkrift_breaker_state{dependency="redis"}. One that it does not have is 0. Runs on a lab host.
"""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path

PORTS = {"api": 8080, "redirect": 8081, "worker": 8082}


def live(service: str) -> str:
    """Return the slot that serves."""
    return Path("/opt/linkrift", service, "live").readlink().name


def read(text: str, wanted: list[str]) -> dict[str, float]:
    """Return the wanted figures of Prometheus' text format."""
    figures = dict.fromkeys(wanted, 0.0)
    for line in text.splitlines():
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            for name in {series, series.partition("{")[0]} & figures.keys():
                figures[name] += float(value)
    return figures


if __name__ == "__main__":
    address, service, *names = sys.argv[1:]
    port = PORTS[service] + (100 if live(service) == "green" else 0)
    connection = http.client.HTTPConnection(address, port, timeout=10)
    connection.request("GET", "/metrics")
    print(json.dumps(read(connection.getresponse().read().decode(), names)))
