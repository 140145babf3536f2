"""Each port is open to those who need it and closed to everybody else, over IPv4 and IPv6."""

from __future__ import annotations

import functools
import json

import pytest

from tools.testing.lab_hosts import ALL_HOSTS, APP_HOSTS, BALANCERS, PORTS, get_host, run_json, variables

# What listens now is asked of the hosts; these shall be found closed even where nothing listens.
SLOT_PORTS = [port for pair in PORTS.values() for port in pair]
ALWAYS = [22, 80, 443, 5432, 6379, 8123, 8404, 8443, 9000, 9009, 9100, 9440, *SLOT_PORTS]
# ClickHouse's native protocol in TLS, as the lab wants it.
CLICKHOUSE = 9440
LISTENING = "ss --listening --tcp --numeric --no-header | awk '{print $4}'"

# One process asks for all ports of all hosts at once; a closed port must be dropped or refused within the timeout.
PROBE = """
import asyncio, json, sys
async def ask(address, port):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 2)
    except (OSError, asyncio.TimeoutError):
        return None
    writer.close()
    return f"{address} {port}"
async def main():
    targets = json.loads(sys.argv[1])
    print(json.dumps([found for found in await asyncio.gather(*(ask(*target) for target in targets)) if found]))
asyncio.run(main())
"""


@functools.cache
def live_ports(name: str) -> set[int]:
    """The ports of the slots that balancers send to on an app host."""
    links = get_host(name).check_output("readlink /opt/linkrift/api/live /opt/linkrift/redirect/live").split()
    return {
        PORTS[service][("blue", "green").index(slot)] for service, slot in zip(("api", "redirect"), links, strict=True)
    }


def may_reach(source: str, target: str, port: int, address: str) -> bool:
    """Say whether the design opens the port of the target to the source (and something listens there)."""
    return (
        (target in BALANCERS and port in {80, 443})
        or (target == "data1" and port in {5432, 6379, CLICKHOUSE} and source in APP_HOSTS)
        or (target == "ops1" and port == 8443 and source in APP_HOSTS)
        # Slots listen on the one address that balancers send to, linkrift_address.
        or (target in APP_HOSTS and source in BALANCERS and ":" not in address and port in live_ports(target))
    )


@pytest.fixture(scope="module")
def probed() -> list[int]:
    """All ports that something listens on, on any host, and those that matter in any case."""
    found = set(ALWAYS)
    for name in ALL_HOSTS:
        found.update(int(line.rpartition(":")[2]) for line in get_host(name).check_output(LISTENING).splitlines())
    return sorted(found)


@pytest.mark.parametrize("source", ALL_HOSTS)
def test_exactly_the_implied_ports_are_open(source: str, probed: list[int]) -> None:
    addresses = {
        address: name
        for name in ALL_HOSTS
        if name != source
        for address in (variables(name)["linkrift_address"], variables(name)["linkrift_address6"])
    }
    targets = [[address, port] for address in addresses for port in probed]
    found = run_json(get_host(source), "python3 -c %s %s", PROBE, json.dumps(targets))
    is_open = {(addresses[address], address, int(port)) for address, port in (line.split() for line in found)}
    expected = {
        (name, address, port)
        for address, name in addresses.items()
        for port in probed
        if may_reach(source, name, port, address)
    }
    assert is_open == expected
