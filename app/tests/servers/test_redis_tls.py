"""Redis by TLS: who is trusted, and what a connection costs."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.tests.servers.harness import eventually
from linkrift.redis_client import REDIS_ERRORS, connect
from linkrift.settings import RedisSettings
from tools.testing.certificates import write_server_certificate
from tools.testing.process import find_program, free_port

CONNECTIONS = 5


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Port of a server that has `redis.pem`."""
    write_server_certificate(tmp_path, "redis")
    port = free_port()
    files = ["--tls-cert-file", tmp_path / "redis.pem", "--tls-key-file", tmp_path / "redis.key"]
    words = [
        "--port",
        "0",
        "--tls-port",
        str(port),
        *files,
        "--tls-auth-clients",
        "no",
        "--save",
        "",
        "--dir",
        tmp_path,
    ]
    with subprocess.Popen([find_program("redis-server", "redis-server"), *words], stdout=subprocess.DEVNULL) as server:
        yield port
        server.terminate()


def settings(port: int, authority: Path) -> RedisSettings:
    return RedisSettings(
        "localhost", port, "default", "", tls=True, ca_file=authority, pool_size=CONNECTIONS, timeout=5.0
    )


async def test_connections_have_one_context_and_trust_our_authority_alone(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def counted(*arguments: Any, **options: Any) -> ssl.SSLContext:
        made.append(make(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", counted)
    client = connect(settings(port, tmp_path / "redis-ca.pem"), "test")

    async def answers() -> bool:
        try:
            return bool(await client.ping())
        except REDIS_ERRORS:
            return False

    await eventually(answers, "Redis answers by TLS")
    await asyncio.gather(*(client.set(f"key-{number}", "value") for number in range(CONNECTIONS)))
    await client.aclose()
    assert len(made) == 1, "each takes 24 ms in which no visitor is answered"
    assert made[0].cert_store_stats()["x509_ca"] == 1, "the system's authorities have no say"
