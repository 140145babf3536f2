"""Asks redirect services for codes that nobody made, in the name of ever other addresses, as a botnet does.

Arguments: the visitors' host name, how many codes, how many a second at the most, and `address:port` of each service.
Runs on a balancer, whose word about where a request came from is believed. Prints how often each status came.
"""

from __future__ import annotations

import http.client
import json
import secrets
import sys
import threading
import time
from collections import Counter

CONNECTIONS = 2
# Of carriers' own networks: of nobody's who is told to the services by name.
NETWORK = bytes([100])


def scan(host: str, place: str, count: int, rate: float, seen: Counter[str]) -> None:
    """Ask one service on one connection."""
    address, _, port = place.rpartition(":")
    connection = http.client.HTTPConnection(address, int(port), timeout=10)
    own: Counter[str] = Counter()
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))  # an even pace
        headers = {"Host": host, "X-Forwarded-For": ".".join(map(str, NETWORK + secrets.token_bytes(3)))}
        try:
            connection.request("GET", f"/{secrets.token_hex(6)}", headers=headers)
            answer = connection.getresponse()
            answer.read()
            own[str(answer.status)] += 1
        except (OSError, http.client.HTTPException) as error:
            own[type(error).__name__] += 1
            connection.close()
    connection.close()
    seen.update(own)


def main() -> None:
    """Ask all services side by side."""
    host, count, rate, *places = sys.argv[1:]
    share = len(places) * CONNECTIONS
    seen: Counter[str] = Counter()
    threads = [
        threading.Thread(target=scan, args=(host, place, int(count) // share, float(rate) / share, seen))
        for place in places
        for _ in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
