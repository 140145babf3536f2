"""What hosts are like: how an outside baseline (Lynis) rates them, the memory they take at rest, and many of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from tools.bench import lab
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
    answer = lab.on_host(host, _LYNIS)
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
    return int(lab.on_host(host, f"sudo python3 -c '{MEMORY}'"))


def measure_hosts(before: dict[str, int], hosts: Iterable[str]) -> list[Result]:
    """How Lynis rates the hosts now, beside what it did when they were bare, and their memory at rest."""
    after = lynis_indexes()
    return [
        *(Result(f"lynis_{kind}", rating, "of 100", before[kind]) for kind, rating in after.items()),
        *(Result(f"memory_at_rest_{host}", memory_mb(host), "MiB") for host in hosts),
    ]


def measure_growth(seven: lab.Run) -> list[Result]:
    """A second site.yml with 14 hosts, beside the one with 7.

    Args:
        seven: The second run with 7.
    """
    groups = [f"{service}_hosts" for service in ("api", "redirect", "worker")]
    more: list[object] = [{"name": f"app{number}", "suite": "bookworm", "groups": groups} for number in range(11, 18)]
    lab.create([*lab_hosts(lab.DIRECTORY).addresses, *more])
    inventory = str(lab.DIRECTORY / "inventory")
    # Ten hosts' pools, of both slots: more than the default lets in, as site.yml would say.
    site = ("playbooks/site.yml", "-i", inventory, "-e", '{"postgresql_max_connections": 700}')
    first = lab.playbook(*site)
    second = lab.playbook(*site)
    return [
        Result("site_first_14_hosts", first.seconds, "s"),
        Result("site_second_14_vs_7_hosts", second.seconds, "s", seven.seconds),
    ]


def measure_patch() -> list[Result]:
    """Draining, upgrading, rebooting and returning each app host."""
    inventory = str(lab.DIRECTORY / "inventory")
    hosts = lab_hosts(lab.DIRECTORY).of("redirect_hosts")
    done = lab.playbook("playbooks/patch.yml", "-i", inventory, "--limit", "app_hosts", "-e", "patch_reboot=always")
    return [Result("patch_with_reboot_per_host", round(done.seconds / len(hosts), 1), "s")]
