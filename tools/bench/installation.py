"""The first installation, a redirect, the hosts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tools.bench import hosts
from tools.bench.lab import BENCH, Run, packages_are_cached, playbook
from tools.bench.results import Result, say
from tools.lab import ROOT, LabToolError
from tools.lab.material import domains, lab_hosts
from tools.lab.visitor import Link, connected

REQUESTS = 10_000


def measure() -> tuple[list[Result], Run]:
    """Measure all of it; the lab stays as it is then.

    Returns:
        The figures, and the second run of site.yml.
    """
    results, second = measure_site()
    results += measure_redirect()
    say("patch, with a reboot of each app host")
    return results + hosts.measure_patch(), second


def measure_site() -> tuple[list[Result], Run]:
    """The first and second site.yml beside the same packages alone, on bare hosts with the same cache.

    Returns:
        The figures, and the second run.
    """
    packages = str(Path(__file__).with_name("packages.yml"))
    if not packages_are_cached():
        say("site.yml: a first lab fills the package cache")
        with BENCH.bare_hosts() as inventory:
            playbook(packages, "-i", inventory)
    say("site.yml: packages alone")
    with BENCH.bare_hosts() as inventory:
        baseline = playbook(packages, "-i", inventory)
    say("Lynis on bare hosts")
    with BENCH.bare_hosts():
        bare = hosts.lynis_indexes()
    say("site.yml: first and second run")
    BENCH.create()
    first = playbook("playbooks/site.yml", "-i", BENCH.inventory)
    second = playbook("playbooks/site.yml", "-i", BENCH.inventory)
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
    return results + hosts.measure_hosts(bare, lab_hosts(BENCH.directory).addresses), second


async def make_link(balancer: str) -> Link:
    """Create one link on the lab's platform and follow it once, so that it is cached somewhere."""
    link = Link.to("https://www.python.org/")
    async with connected(domains()[0], balancer, str(BENCH.directory / "ca.pem")) as platform:
        await platform.sign_in("bench@linkrift.test", "a password for the bench's own lab")
        await platform.create([link], lambda _: None)
        await platform.follow(link)
    return link


def load(*arguments: str) -> dict[str, Any]:
    """Run the load generator on client1 and return its report; failed requests are in it."""
    BENCH.on_host("client1", "cat > load.py", (ROOT / "tools" / "load.py").read_bytes())
    BENCH.on_host("client1", "cat > ca.pem", (BENCH.directory / "ca.pem").read_bytes())
    quoted = " ".join(f"'{argument}'" for argument in arguments)
    answer = BENCH.on_host("client1", f"python3 load.py --ca ca.pem {quoted} || test $? = 1")
    report: dict[str, Any] = json.loads(answer)
    return report


def measure_redirect() -> list[Result]:
    """A cached redirect over one TLS connection, beside an answer that HAProxy gives by itself on such a connection."""
    balancer = str(lab_hosts(BENCH.directory).addresses["lb1"][0])
    link = asyncio.run(make_link(balancer))
    go = f"https://go.{domains()[0]}"
    say("redirects over one connection")
    # Every process of every host has it in its cache after this.
    load(f"{go}/{link.code}", "--connect", balancer, "--count", "500")
    own = load(f"{go}/health", "--connect", balancer, "--count", str(REQUESTS), "--expect", "404")
    hits = load(f"{go}/{link.code}", "--connect", balancer, "--count", str(REQUESTS))
    if own["failed"] or hits["failed"]:
        raise LabToolError(f"requests failed: {own['failures']} {hits['failures']}")
    return [
        Result("redirect_tls_c1_p50_ms", hits["p50_ms"], "ms", own["p50_ms"]),
        Result("redirect_tls_c1_p99_ms", hits["p99_ms"], "ms", own["p99_ms"]),
        Result("redirect_tls_c1_failed", hits["failed"], f"of {REQUESTS}"),
    ]
