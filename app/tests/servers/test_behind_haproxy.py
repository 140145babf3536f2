"""What a click tells of a visitor, behind HAProxy with the role's configuration: what Cloudflare says, nobody else."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from app.tests.servers.harness import eventually, running, variables_of
from app.tests.servers.test_programs import insert_link
from tools.testing.certificates import write_server_certificate
from tools.testing.process import ServerProcess, find_program, free_port
from tools.testing.servers import PostgresqlServer
from tools.testing.templating import render_file, role_variables

CLOUDFLARE, EXEMPT, STRANGER = "127.0.0.2", "127.0.0.3", "127.0.0.4"
# As Cloudflare sends them, and what else an edge may send.
SAID = {"CF-Connecting-IP": "203.0.113.77", "CF-IPCountry": "AT"}
FORGED = {
    **SAID,
    "CF-Connecting-IPv6": "2001:db8::77",
    "True-Client-IP": "203.0.113.77",
    "X-Real-IP": "203.0.113.77",
    "X-Forwarded-For": "203.0.113.77, 203.0.113.77",
    "Forwarded": "for=203.0.113.77",
}
GLOBAL = """\
global
    maxconn 100
    tune.http.maxhdr 64
"""


@contextmanager
def haproxy(directory: Path, backend: int, **variables: Any) -> Iterator[int]:
    """Run HAProxy with the role's configuration, what needs root left out; yields the port that speaks TLS."""
    tls, plain = free_port(), free_port()
    write_server_certificate(directory, "edge")
    certificate = directory / "linkrift.pem"
    certificate.write_text("".join((directory / f"edge.{kind}").read_text() for kind in ("pem", "key")))
    networks = directory / "cloudflare.lst"
    networks.write_text(f"{CLOUDFLARE}/32\n")
    given = {
        "haproxy_hosts": [{"name": "go.example.com", "service": "redirect"}],
        "haproxy_bind_addresses": ["127.0.0.1"],
        "haproxy_metrics_port": 0,
        "__haproxy_certificate_file": str(certificate),
        "__haproxy_cloudflare_file": str(networks),
        "ansible_managed": "",
        **variables,
    }
    text = render_file("haproxy", "haproxy.cfg.j2", role_variables("haproxy", **given)).partition("\ndefaults\n")[2]
    for port, own in (("443", tls), ("80", plain)):
        assert f"bind 127.0.0.1:{port}" in text
        text = text.replace(f"bind 127.0.0.1:{port}", f"bind 127.0.0.1:{own}")
    path = directory / "haproxy.cfg"
    path.write_text(f"{GLOBAL}defaults\n{text}\nbackend linkrift_redirect\n    server one 127.0.0.1:{backend}\n")

    def answers() -> bool:
        socket.create_connection(("127.0.0.1", tls), 1, (EXEMPT, 0)).close()
        return True

    process = ServerProcess(
        [find_program("haproxy", "haproxy"), "-db", "-f", str(path)], log=directory / "haproxy.log", answers=answers
    )
    process.start()
    try:
        yield tls
    finally:
        process.stop()


async def visit(port: int, code: str, address: str, headers: dict[str, str]) -> None:
    """Follow a link from an address, twice over one connection: whatever is believed holds for all of it."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0), limit=1, ssl=False)
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(2):
            async with session.get(
                f"https://127.0.0.1:{port}/{code}",
                headers={"Host": "go.example.com", **headers},
                allow_redirects=False,
            ) as response:
                assert response.status == 302


@pytest.mark.parametrize("cloudflare", [True, False])
async def test_only_cloudflare_says_where_a_visitor_is_from(
    environment: dict[str, str], postgresql: PostgresqlServer, redis: Redis, tmp_path: Path, cloudflare: bool
) -> None:
    code = f"from-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    variables = variables_of("redirect", environment, postgresql, LINKRIFT_TRUSTED_PROXIES="127.0.0.1/32")
    options = {"haproxy_cloudflare_enabled": cloudflare, "haproxy_cloudflare_exempt_networks": [f"{EXEMPT}/32"]}

    async def told() -> list[tuple[str, str]]:
        """Return country and network of all clicks."""
        entries: Any = await redis.xrange("linkrift:clicks")
        events = [event for _, fields in entries for event in json.loads(fields[b"events"])]
        return [(event.get("country", ""), event["network"]) for event in events]

    async def four() -> bool:
        return len(await told()) == 4

    async with running("redirect", variables) as redirect:
        with haproxy(tmp_path, int(redirect.url.rpartition(":")[2]), **options) as port:
            await visit(port, code, EXEMPT, FORGED)
            if cloudflare:
                await visit(port, code, CLOUDFLARE, SAID)
                # Not even a connection.
                with pytest.raises(aiohttp.ClientConnectionError):
                    await visit(port, code, STRANGER, FORGED)
            else:
                await visit(port, code, STRANGER, FORGED)
            await eventually(four, "all clicks arrive")
    forged, other = ("", "127.0.0.0"), ("AT", "203.0.113.0") if cloudflare else ("", "127.0.0.0")
    assert sorted(await told()) == [forged, forged, other, other]
