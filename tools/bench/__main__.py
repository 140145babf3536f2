"""Measures on a lab of its own, prints a table and writes `.bench/results.json`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tools.bench import hosts, lab
from tools.bench.results import Result, table, write
from tools.lab import ROOT, LabToolError
from tools.lab.material import domains, lab_hosts
from tools.lab.visitor import Link, connected

REQUESTS = 10_000
RESULTS = ROOT / ".bench" / "results.json"


def say(text: str) -> None:
    """Tell what is being done, on stderr, so that the table stands alone on stdout."""
    sys.stderr.write(f"{text}\n")


def measure_site() -> tuple[list[Result], lab.Run]:
    """The first and second site.yml beside the same packages alone, on bare hosts with the same cache.

    Returns:
        The figures, and the second run.
    """
    packages = str(Path(__file__).with_name("packages.yml"))
    if not lab.packages_are_cached():
        say("site.yml: a first lab fills the package cache")
        with lab.bare_hosts() as inventory:
            lab.playbook(packages, "-i", inventory)
    say("site.yml: packages alone")
    with lab.bare_hosts() as inventory:
        baseline = lab.playbook(packages, "-i", inventory)
    say("Lynis on bare hosts")
    with lab.bare_hosts():
        bare = hosts.lynis_indexes()
    say("site.yml: first and second run")
    lab.create()
    inventory = str(lab.DIRECTORY / "inventory")
    first = lab.playbook("playbooks/site.yml", "-i", inventory)
    second = lab.playbook("playbooks/site.yml", "-i", inventory)
    if second.changed:
        raise LabToolError(f"the second site.yml changed {second.changed} things")
    results = [
        Result("site_first_vs_packages_alone", first.seconds, "s", baseline.seconds),
        Result("site_second", second.seconds, "s", first.seconds),
        Result("site_first_executions_per_host", round(first.executions / first.hosts, 1), "tasks"),
        Result("site_second_executions_per_host", round(second.executions / second.hosts, 1), "tasks"),
        Result(
            "site_first_cpu_per_host",
            round(first.cpu_seconds / first.hosts, 1),
            "CPU s",
            round(baseline.cpu_seconds / baseline.hosts, 1),
        ),
        Result("site_second_cpu_per_host", round(second.cpu_seconds / second.hosts, 1), "CPU s"),
    ]
    say("memory at rest, and Lynis again")
    return results + hosts.measure_hosts(bare, lab_hosts(lab.DIRECTORY).addresses), second


async def make_link(balancer: str) -> Link:
    """Create one link on the lab's platform and follow it once, so that it is cached somewhere."""
    link = Link.to("https://www.python.org/")
    async with connected(domains()[0], balancer, str(lab.DIRECTORY / "ca.pem")) as platform:
        await platform.sign_in("bench@linkrift.test", "a password for the bench's own lab")
        await platform.create([link], lambda _: None)
        await platform.follow(link)
    return link


def measure_redirect() -> list[Result]:
    """A cached redirect over one TLS connection, beside an answer that HAProxy gives by itself on such a connection."""
    balancer = str(lab_hosts(lab.DIRECTORY).addresses["lb1"][0])
    link = asyncio.run(make_link(balancer))
    go = f"https://go.{domains()[0]}"
    say("redirects over one connection")
    # Every process of every host has it in its cache after this.
    lab.load(f"{go}/{link.code}", "--connect", balancer, "--count", "500")
    own = lab.load(f"{go}/health", "--connect", balancer, "--count", str(REQUESTS), "--expect", "404")
    hits = lab.load(f"{go}/{link.code}", "--connect", balancer, "--count", str(REQUESTS))
    if own["failed"] or hits["failed"]:
        raise LabToolError(f"requests failed: {own['failures']} {hits['failures']}")
    return [
        Result("redirect_tls_c1_p50_ms", hits["p50_ms"], "ms", own["p50_ms"]),
        Result("redirect_tls_c1_p99_ms", hits["p99_ms"], "ms", own["p99_ms"]),
        Result("redirect_tls_c1_failed", hits["failed"], f"of {REQUESTS}"),
    ]


def main() -> int:
    """Measure everything; exit 1 when something cannot be measured."""
    try:
        results, second = measure_site()
        results += measure_redirect()
        say("patch, with a reboot of each app host")
        results += hosts.measure_patch()
        say("site.yml with 14 hosts")
        results += hosts.measure_growth(second)
    except LabToolError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    finally:
        lab.playbook("molecule/shared/destroy.yml", "-e", f"lab_name={lab.NAME}")
    write(results, RESULTS)
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
