"""One host that is everything serves visitors, and takes no more memory than a small machine has."""

from __future__ import annotations

import asyncio
import secrets

from tools.bench.hosts import MEMORY
from tools.lab.visitor import Link, connected
from tools.testing.lab_hosts import find_lab, get_host

# Of a machine of 2 GB, this leaves room for the second slot of each service, a load and the page cache.
MOST_MIB = 800


def test_a_visitor_is_led_on_and_counted() -> None:
    lab = find_lab()
    link = Link(secrets.token_hex(6), "https://www.python.org/")

    async def visit() -> int:
        async with connected(lab.domain, lab.balancer, str(lab.directory / "ca.pem")) as platform:
            assert await platform.sign_in(f"{secrets.token_hex(6)}@example.org", secrets.token_urlsafe(18))
            await platform.create([link], lambda _: None)
            before = await platform.clicks(link)
            await platform.follow(link)
            return await platform.counted(link, before)

    assert asyncio.run(visit()) == 1


def test_everything_fits_a_host_of_two_gigabytes() -> None:
    taken = int(get_host("one1").check_output("python3 -c %s", MEMORY))
    assert taken < MOST_MIB


def test_no_unit_failed() -> None:
    for name in ("one1", "clicks1"):
        assert get_host(name).check_output("systemctl list-units --state=failed --plain --no-legend") == ""
