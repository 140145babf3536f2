# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a real Redis says about settings, so that a restart is only asked for where one helps."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._redis import (
    Commands,
    Outcome,
    RedisError,
    apply_settings,
    connect,
)
from tools.testing.certificates import write_server_certificate
from tools.testing.process import free_port
from tools.testing.servers import redis_server

pytestmark = pytest.mark.servers


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    path = str(tmp_path / "redis.sock")
    with (
        redis_server(tmp_path, options={"unixsocket": path}) as server,
        closing(connect(path, "default", [server.password])) as connection,
    ):
        yield connection


def apply(commands: Commands, wished: dict[str, str]) -> Outcome:
    outcome = Outcome()
    apply_settings(commands, wished, outcome, dry=False)
    return outcome


def test_only_what_a_start_takes_waits_for_a_restart(commands: Commands) -> None:
    assert apply(commands, {"maxmemory": "64mb", "unixsocket": "/run/other.sock"}).restart == ["unixsocket"]
    with pytest.raises(RedisError, match=r"maxmemory-policy: .*must be one of"):
        apply(commands, {"maxmemory-policy": "most-of-it"})
    with pytest.raises(RedisError, match="no setting named maxmemory-polic"):
        apply(commands, {"maxmemory-polic": "volatile-lru"})


def test_tls_in_place_of_plain_connections_and_back(commands: Commands, tmp_path: Path) -> None:
    port = str(commands("CONFIG", "GET", "port")[1])
    wished = {"port": "0", "tls-port": port, "tls-auth-clients": "no"}
    # Without a certificate it does not work: the plain port is open again.
    assert apply(commands, wished).restart == ["port", "tls-port"]
    socket.create_connection(("127.0.0.1", int(port)), timeout=5).close()
    write_server_certificate(tmp_path, "redis")
    files = {"tls-cert-file": str(tmp_path / "redis.pem"), "tls-key-file": str(tmp_path / "redis.key")}
    outcome = apply(commands, {**wished, **files})
    assert (outcome.restart, outcome.settings["tls-port"]) == ([], ("0", port))
    assert apply(commands, {"tls-port": "0", "port": port}).restart == []
    assert apply(commands, {"port": str(free_port())}).restart == []
