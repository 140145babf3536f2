"""Print what an application host really serves, asking nothing but the services themselves. look.yml runs it there.

One argument: the address at which they listen.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path

SLOTS = {"blue": 0, "green": 100}
PORTS = {"api": 8080, "redirect": 8081, "worker": 8082}


def active(*units: str) -> dict[str, bool]:
    """Tell which units are active."""
    command = ["systemctl", "is-active", *units]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return {unit: state == "active" for unit, state in zip(units, said, strict=True)}


def answers(address: str, port: int) -> str:
    """Return the release that answers at a port, or why none does."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return str(connection.getresponse().headers["X-Deployment-Version"])
    except OSError as error:
        return str(error)
    finally:
        connection.close()


def look(service: str, address: str) -> dict[str, object]:
    """Return what is so of one service."""
    home = Path("/opt/linkrift", service)
    live = (home / "live").readlink().name
    units = {slot: f"linkrift-{service}@{slot}.service" for slot in SLOTS}
    timers = {slot: f"linkrift-cool-{service}-{slot}.timer" for slot in SLOTS}
    state = active(*units.values(), *timers.values())
    ledger = Path("/var/lib/linkrift/ledger", f"{service}.jsonl").read_text(encoding="utf-8")
    return {
        "live": live,
        "current": (home / "current").readlink().name,
        "linked": {slot: (home / slot).readlink().name for slot in SLOTS if (home / slot).is_symlink()},
        "answers": answers(address, PORTS[service] + SLOTS[live]),
        "running": [slot for slot, unit in units.items() if state[unit]],
        "cooling": [slot for slot, timer in timers.items() if state[timer]],
        "ledger": [json.loads(line) for line in ledger.splitlines()[-12:]],
    }


if __name__ == "__main__":
    print(json.dumps({service: look(service, sys.argv[1]) for service in PORTS}))
