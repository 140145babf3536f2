"""What hosts are like: how an outside baseline (Lynis) rates them, the memory they take at rest, and many of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from tools.bench.lab import BENCH, Run, playbook
from tools.bench.results import Result
from tools.lab import LabToolError
from tools.lab.material import lab_hosts

# One host of each kind.
KINDS = {"balancer": "lb1", "app": "app1", "data": "data1", "ops": "ops1"}

# The proportional set sizes of all processes: what they take, shared pages counted once (proc(5), smaps_rollup).
MEMORY = """
import pathlib
total = 0
for path in pathlib.Path("/proc").glob("[0-9]*/smaps_rollup"):
    try:
        total += sum(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("Pss:"))
    except OSError:
        pass
print(total // 1024)
"""
# As many app hosts as a growing installation has; their pools, of both slots, are more than a server made for three
# takes.
GROWN = 12
GROWN_SETTINGS = {"postgresql_max_connections": 850}
_LYNIS = (
    "sudo DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends lynis >/dev/null 2>&1"
    " && sudo lynis audit system --quick --quiet --no-colors >/dev/null 2>&1;"
    " sudo grep '^hardening_index=' /var/log/lynis-report.dat;"
    " sudo apt-get purge -qq lynis >/dev/null 2>&1; sudo rm -f /var/log/lynis.log /var/log/lynis-report.dat"
)


def lynis_index(host: str) -> int:
    """Return how Lynis rates a host, 0 to 100; the package is gone again afterwards.

    Raises:
        LabToolError: It gives no rating.
    """
    answer = BENCH.on_host(host, _LYNIS)
    found = re.search(r"^hardening_index=(\d+)$", answer, re.MULTILINE)
    if not found:
        raise LabToolError(f"Lynis rates {host} not: {answer}")
    return int(found[1])


def lynis_indexes() -> dict[str, int]:
    """Return how Lynis rates one host of each kind, by kind."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(KINDS, pool.map(lynis_index, KINDS.values()), strict=True))


def memory_mb(host: str) -> int:
    """Return the MiB that all processes of a host take."""
    return int(BENCH.on_host(host, f"sudo python3 -c '{MEMORY}'"))


def measure_hosts(before: dict[str, int], hosts: Iterable[str]) -> list[Result]:
    """How Lynis rates the hosts now, beside what it did when they were bare, and their memory at rest."""
    after = lynis_indexes()
    return [
        *(Result(f"lynis_{kind}", rating, "of 100", before[kind]) for kind, rating in after.items()),
        *(Result(f"memory_at_rest_{host}", memory_mb(host), "MiB") for host in hosts),
    ]


def measure_growth(few: Run | None) -> list[Result]:
    """A second site.yml with twelve app hosts, beside the one with three.

    Args:
        few: The second run with three; None: it was not measured.
    """
    groups = [f"{service}_hosts" for service in ("api", "redirect", "worker")]
    known = lab_hosts(BENCH.directory)
    missing = GROWN - len(known.of("redirect_hosts"))
    more: list[object] = [
        {"name": f"app{number}", "suite": "bookworm", "groups": groups} for number in range(11, 11 + missing)
    ]
    BENCH.create([*known.addresses, *more])
    site = ("playbooks/site.yml", "-i", BENCH.inventory, "-e", json.dumps(GROWN_SETTINGS))
    first = playbook(*site)
    second = playbook(*site)
    return [
        Result(f"site_first_{GROWN}_app_hosts", first.seconds, "s"),
        Result(f"site_second_{GROWN}_vs_3_app_hosts", second.seconds, "s", few.seconds if few else None),
    ]


def measure_patch() -> list[Result]:
    """Draining, upgrading, rebooting and returning each app host."""
    hosts = lab_hosts(BENCH.directory).of("redirect_hosts")
    done = playbook("playbooks/patch.yml", "-i", BENCH.inventory, "--limit", "app_hosts", "-e", "patch_reboot=always")
    return [Result("patch_with_reboot_per_host", round(done.seconds / len(hosts), 1), "s")]
