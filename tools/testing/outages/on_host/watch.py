"""Asks the host's own redirect service for links again and again, and prints since when and until when it said what.

Arguments: its address, the visitors' host name, a file, and codes. It makes the file once it has asked for all of them,
and goes on until that is gone. Prints by code a list of {"says", "first", "last"}: when the first and the last question
began that got this answer in a row (seconds since the epoch). Each question comes on a connection of its own, so that
no process is left out where there are several. Runs on an application host.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from pathlib import Path

PORT = {"blue": 8081, "green": 8181}
PAUSE_SECONDS = 0.01
# Should nobody end it.
MOST_SECONDS = 60.0


def live_port() -> int:
    """Return the port of the slot that serves visitors."""
    return PORT[Path("/opt/linkrift/redirect/live").readlink().name]


def ask(address: str, port: int, host: str, code: str) -> str:
    """Return status and target."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", f"/{code}", headers={"Host": host})
        answer = connection.getresponse()
        return f"{answer.status} {answer.headers.get('Location', '')}".strip()
    finally:
        connection.close()


def watch(address: str, host: str, file: Path, codes: list[str]) -> dict[str, list[dict[str, str | float]]]:
    """Ask until the file is taken away."""
    port = live_port()
    seen: dict[str, list[dict[str, str | float]]] = {code: [] for code in codes}
    file.unlink(missing_ok=True)
    end = time.time() + MOST_SECONDS
    asked = False
    while time.time() < end and (file.exists() or not asked):
        for code in codes:
            began = time.time()
            says = ask(address, port, host, code)
            if not seen[code] or seen[code][-1]["says"] != says:
                seen[code].append({"says": says, "first": began})
            seen[code][-1]["last"] = began
        if not asked:
            file.touch()
            asked = True
        time.sleep(PAUSE_SECONDS)  # between two looks, until a deadline
    return seen


if __name__ == "__main__":
    print(json.dumps(watch(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])))
