"""Signs in too often at an API slot of this host, and prints what came of it; no password is tried.

Arguments: its address and port, and how often.
"""

from __future__ import annotations

import http.client
import json
import sys
from collections import Counter

FIELDS = ("RateLimit", "RateLimit-Policy", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After")


def main() -> None:
    """Ask on one connection."""
    address, port, count = sys.argv[1:]
    statuses: Counter[str] = Counter()
    refused: dict[str, str | None] = {}
    connection = http.client.HTTPConnection(address, int(port), timeout=10)
    for _ in range(int(count)):
        connection.request("POST", "/api/v1/auth/login", b"{}", {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        statuses[str(answer.status)] += 1
        if answer.status == 429:
            refused = {name: answer.headers.get(name) for name in (*FIELDS, "Content-Type")}
    print(json.dumps({"statuses": statuses, "refused": refused}))


if __name__ == "__main__":
    main()
