"""The services as systemd runs them: ready when all processes are, drained by SIGTERM, started again after a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from ansible_collections.linkrift.platform.plugins.module_utils import _gate as gate
from ansible_collections.linkrift.platform.plugins.module_utils._gate import Answer, Identity
from ansible_collections.linkrift.platform.tests.servers.haproxy_bench import Balancer
from app.tests.servers.harness import MIGRATIONS, SOURCE, Program, eventually, program, variables_of
from linkrift.clicks import Click, encode
from tools.testing.certificates import write_server_certificate
from tools.testing.process import free_port
from tools.testing.servers import ClickHouseServer, PostgresqlServer


def insert_link(postgresql: PostgresqlServer, code: str) -> None:
    postgresql.execute(
        "INSERT INTO users (id, email, password_hash) VALUES "
        "('00000000-0000-0000-0000-000000000001', 'owner@example.test', '-') ON CONFLICT DO NOTHING;"
        "INSERT INTO links (user_id, short_code, original_url) VALUES "
        f"('00000000-0000-0000-0000-000000000001', '{code}', 'https://example.org/{code}')"
    )


class Notifications:
    """Takes the place of systemd."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.messages: list[str] = []

    def read(self) -> list[str]:
        with suppress(BlockingIOError):
            while True:
                self.messages.append(self._socket.recv(4096).decode())
        return self.messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def notifications(tmp_path: Path) -> Iterator[Notifications]:
    taken = Notifications(tmp_path / "notify")
    yield taken
    taken.close()


def command(name: str, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a service's command line to its end."""
    return subprocess.run(
        [sys.executable, "-c", f"from linkrift.{name}.cli import main; main()", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def visit(base: str, code: str, stop: asyncio.Event, results: Counter[str]) -> None:
    """Follow a link again and again as a balancer would: over kept connections, until it is told to stop."""
    async with aiohttp.ClientSession() as session:
        while not stop.is_set():
            try:
                async with session.get(f"{base}/{code}", allow_redirects=False) as response:
                    results[str(response.status)] += 1
            except aiohttp.ClientError as error:
                results[type(error).__name__] += 1
            await asyncio.sleep(0.002)


async def stop_like_a_balancer(started: Program, stop: asyncio.Event) -> None:
    """Stop sending once /health says 503, as a balancer does."""
    started.process.send_signal(signal.SIGTERM)
    await started.until_health(503)
    await asyncio.sleep(0.3)  # checks come at intervals: requests go on for a while
    stop.set()


async def test_sigterm_during_requests_drops_none(
    environment: dict[str, str], postgresql: PostgresqlServer, redis: Redis, tmp_path: Path
) -> None:
    code = f"drain-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    variables = variables_of("redirect", environment, postgresql)
    results: Counter[str] = Counter()
    async with program("redirect", variables, tmp_path / "log") as started:
        await started.until_health(200)
        stop = asyncio.Event()
        visitors = [asyncio.create_task(visit(started.url, code, stop, results)) for _ in range(4)]

        async def busy() -> bool:
            return results["302"] > 100

        await eventually(busy, "visitors are served")
        await stop_like_a_balancer(started, stop)
        await asyncio.gather(*visitors)
        assert await started.stop() == 0
    assert set(results) == {"302"}, results
    # Every click that was answered is in the stream: it was flushed before Redis was closed.
    entries: Any = await redis.xrange("linkrift:clicks")
    assert sum(fields[b"events"].count(b'"id"') for _, fields in entries) == results["302"]


async def test_two_processes(
    environment: dict[str, str], postgresql: PostgresqlServer, notifications: Notifications, tmp_path: Path
) -> None:
    code = f"two-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    variables = variables_of(
        "redirect",
        environment,
        postgresql,
        LINKRIFT_PROCESSES="2",
        NOTIFY_SOCKET=str(notifications.path),
        RUNTIME_DIRECTORY=str(tmp_path / "run"),
    )
    async with program("redirect", variables, tmp_path / "log") as started:
        await started.until_health(200)

        async def ready() -> bool:
            return any("READY=1" in message for message in notifications.read())

        await eventually(ready, "READY=1")
        assert [message for message in notifications.messages if "READY=1" in message] == [
            "READY=1\nSTATUS=2 of 2 processes serving"
        ]
        first, second = started.children()

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            for _ in range(40):
                async with session.get(f"{started.url}/{code}", allow_redirects=False) as response:
                    assert response.status == 302

            async def all_counted() -> bool:
                async with session.get(f"{started.url}/metrics") as response:
                    text = await response.text()
                return 'http_requests_total{method="GET",path="/{code}",status="302"} 40.0' in text

            await eventually(all_counted, "the figures of both processes are added up")

            os.kill(first, signal.SIGKILL)

            async def again() -> bool:
                children = started.children()
                return len(children) == 2 and first not in children and second in children

            await eventually(again, "a process that died is started again")
            assert "STATUS=1 of 2 processes serving" in notifications.read()

            async def all_ready() -> bool:
                return notifications.read()[-1] == "STATUS=2 of 2 processes serving"

            await eventually(all_ready, "it serves again")
        assert await started.stop() == 0
    assert notifications.read()[-1] == "STOPPING=1\nSTATUS=draining"
    assert list((tmp_path / "run").iterdir()) == []


async def test_the_processes_end_with_their_parent(
    environment: dict[str, str], postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    variables = variables_of("redirect", environment, postgresql)
    async with program("redirect", variables, tmp_path / "log") as started:
        await started.until_health(200)
        (child,) = started.children()
        started.process.kill()
        started.process.wait()

        async def gone() -> bool:
            return not is_running(child)

        await eventually(gone, "the process noticed that its parent is gone")


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_port_that_another_slot_has_is_not_shared(
    environment: dict[str, str], postgresql: PostgresqlServer, notifications: Notifications, processes: str
) -> None:
    taken = free_port()
    with socket.socket() as other:
        # As the processes of another slot do it.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", taken))
        other.listen()
        variables = variables_of("redirect", environment, postgresql, LINKRIFT_REDIRECT_PORT=str(taken))
        variables["LINKRIFT_PROCESSES"] = processes
        result = command("redirect", variables | {"NOTIFY_SOCKET": str(notifications.path)})
    assert result.returncode == 1
    assert "Address already in use" in result.stderr
    assert not any("READY=1" in message for message in notifications.read())


async def test_dependencies_may_be_away_at_the_start(
    environment: dict[str, str], postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    away = {
        "LINKRIFT_DB_PORT": str(free_port()),
        "LINKRIFT_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "LINKRIFT_CLICKHOUSE_PORT": str(free_port()),
    }
    for name in ("api", "redirect", "worker"):
        variables = variables_of(name, environment, postgresql) | away
        async with program(name, variables, tmp_path / name) as started, aiohttp.ClientSession() as session:
            await started.until_health(200)
            async with session.get(f"{started.url}/health/ready") as response:
                document = await response.json()
            assert (response.status, document["status"]) == (503, "unavailable")
            checks = document["checks"]
            if name == "worker":
                # It stores clicks without it.
                database = checks.pop("postgresql")
                assert (database["status"], database["error"], bool(database["note"])) == ("away", None, True)
            assert all(check["status"] == "unhealthy" and check["error"] for check in checks.values())
            if name == "redirect":
                async with session.get(f"{started.url}/whatever") as response:
                    assert (response.status, response.headers["Retry-After"]) == (503, "5")
            if name == "api":
                async with session.post(
                    f"{started.url}/api/v1/auth/login", json={"email": "a@example.test", "password": "x" * 12}
                ) as response:
                    assert response.content_type == "application/problem+json"
                    assert (response.status, response.headers["Retry-After"]) == (503, "5")
            assert await started.stop() == 0


def test_the_schema_is_ensured_and_once_is_enough(
    environment: dict[str, str], postgresql: PostgresqlServer, clickhouse: ClickHouseServer
) -> None:
    variables = variables_of("worker", environment, postgresql, LINKRIFT_MIGRATIONS_DIR=str(MIGRATIONS))
    variables["LINKRIFT_CLICKHOUSE_DATABASE"] = database = f"ensured_{uuid.uuid4().hex}"
    assert command("worker", variables, "ensure-schema").stdout == "changed\n"
    assert command("worker", variables, "ensure-schema").stdout == "unchanged\n"
    clickhouse.execute(f"DROP DATABASE {database}")


async def test_worker_is_paused_without_admission(
    environment: dict[str, str],
    postgresql: PostgresqlServer,
    clickhouse: ClickHouseServer,
    redis: Redis,
    tmp_path: Path,
) -> None:
    admission = tmp_path / "blue.admitted"
    variables = variables_of(
        "worker",
        environment,
        postgresql,
        LINKRIFT_MIGRATIONS_DIR=str(MIGRATIONS),
        LINKRIFT_ADMISSION_FILE=str(admission),
        LINKRIFT_SLOT="blue",
        LINKRIFT_WORKER_FLUSH_INTERVAL="60s",
    )
    command("worker", variables, "ensure-schema")
    code = f"paused-{uuid.uuid4().hex}"

    async def add(number: int) -> None:
        clicks = [Click(str(uuid.uuid4()), code, 1_790_000_000_000) for _ in range(number)]
        await redis.xadd("linkrift:clicks", {"events": encode(clicks)})

    async with program("worker", variables, tmp_path / "log") as started, aiohttp.ClientSession() as session:

        async def document() -> dict[str, object]:
            async with session.get(f"{started.url}/health") as response:
                return {"http": response.status, **await response.json()}

        await started.until_health(404)
        await add(3)
        await started.until_health(200, "/health/ready")
        first = await document()
        assert (first["status"], first["paused"], first["pending"], first["slot"]) == ("standby", True, 0, "blue")
        assert await redis.xlen("linkrift:clicks") == 1

        admission.touch()

        async def taken() -> bool:
            now = await document()
            return (now["http"], now["paused"], now["pending"]) == (200, False, 1)

        await eventually(taken, "it consumes, and holds what it took until the batch is due")

        admission.unlink()

        async def paused() -> bool:
            now = await document()
            return (now["http"], now["paused"], now["pending"]) == (404, True, 0)

        await eventually(paused, "it stored and acknowledged what it had, and is paused")
        assert await redis.xlen("linkrift:clicks") == 0
        (counted,) = clickhouse.execute(f"SELECT uniqExact(event_id) FROM clicks WHERE code = '{code}'")
        assert counted == (3,)


def test_settings_are_checked_all_at_once(environment: dict[str, str]) -> None:
    broken = environment | {
        "LINKRIFT_DB_PORT": "70000",
        "LINKRIFT_JWT_SECRET": "short-secret",
        "LINKRIFT_REDIS_URL": "redis://host:6379/1",
        "LINKRIFT_LOG_LEVEL": "loud",
        "LINKRIFT_JWT_EXPIRY": "1 day",
    }
    result = command("api", broken, "check-config")
    assert result.returncode == 78
    lines = result.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "LINKRIFT_LOG_LEVEL",
        "LINKRIFT_DB_PORT",
        "LINKRIFT_DB_USER",
        "LINKRIFT_DB_PASSWORD",
        "LINKRIFT_REDIS_URL",
        "LINKRIFT_JWT_SECRET",
        "LINKRIFT_JWT_EXPIRY",
    ]
    assert "short-secret" not in result.stderr
    assert command("api", broken).returncode == 78
    assert command("api", broken, "version").returncode == 0


@pytest.mark.parametrize("name", ["api", "redirect", "worker"])
async def test_with_a_certificate_the_port_speaks_tls_only(
    environment: dict[str, str], postgresql: PostgresqlServer, tmp_path: Path, name: str
) -> None:
    host = f"{name}.services.linkrift.internal"
    authorities = write_server_certificate(tmp_path, "services", [host])
    files = {
        "LINKRIFT_TLS_CERTIFICATE": str(tmp_path / "services.pem"),
        "LINKRIFT_TLS_PRIVATE_KEY": str(tmp_path / "services.key"),
    }
    variables = variables_of(name, environment, postgresql, LINKRIFT_PROCESSES="2", **files)
    code = f"tls-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    async with program(name, variables, tmp_path / "log") as started:

        def ask(path: str, identity: Identity | None) -> Answer:
            return gate.ask("127.0.0.1", started.port, path, 5, identity)

        async def ready() -> bool:
            assert started.process.poll() is None, started.log.read_text()
            return (await asyncio.to_thread(ask, "/health", Identity(host, authorities))).status == 200

        await eventually(ready, "/health answers by TLS")
        assert ask("/health", None).status is None
        assert "not valid for" in ask("/health", Identity("other.services.linkrift.internal", authorities)).error
        context = ssl.create_default_context(cafile=str(authorities))
        if name == "redirect":
            async with aiohttp.ClientSession() as session:
                for _ in range(3):
                    url = f"https://127.0.0.1:{started.port}/{code}"
                    async with session.get(url, ssl=context, server_hostname=host, allow_redirects=False) as response:
                        assert (response.status, response.headers["Location"]) == (302, f"https://example.org/{code}")
        assert resumptions(context, started.port, host) == [False] + [True] * 7
        assert await started.stop() == 0


async def test_behind_haproxy_by_tls_a_switch_of_slots_drops_none(
    environment: dict[str, str], postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    host = "redirect.services.linkrift.internal"
    ca_file = str(write_server_certificate(tmp_path, "services", [host]))
    files = {
        "LINKRIFT_TLS_CERTIFICATE": str(tmp_path / "services.pem"),
        "LINKRIFT_TLS_PRIVATE_KEY": str(tmp_path / "services.key"),
    }
    code = f"tls-{uuid.uuid4().hex}"
    insert_link(postgresql, code)
    # No retry hides a request that was dropped.
    balancer = Balancer(tmp_path, hosts=1, services={"tls": {"ca_file": ca_file, "verify_host": host}, "retries": 0})
    results: Counter[str] = Counter()
    async with (
        program("redirect", variables_of("redirect", environment, postgresql, **files), tmp_path / "blue") as blue,
        program("redirect", variables_of("redirect", environment, postgresql, **files), tmp_path / "green") as green,
    ):
        balancer.slots["app1-blue"].port, balancer.slots["app1-green"].port = blue.port, green.port
        await asyncio.to_thread(balancer.apply)
        await asyncio.to_thread(balancer.start)
        try:
            await asyncio.to_thread(balancer.apply, {"app1-blue": "ready"}, check_timeout=20)
            stop = asyncio.Event()
            url = f"http://127.0.0.1:{balancer.port}"
            visitors = [asyncio.create_task(visit(url, code, stop, results)) for _ in range(4)]
            await asyncio.sleep(0.5)
            await asyncio.to_thread(balancer.apply, {"app1-green": "ready", "app1-blue": "drain"}, check_timeout=20)
            assert await blue.stop() == 0
            await asyncio.sleep(0.5)
            stop.set()
            await asyncio.gather(*visitors)
            counted = {name: server["counters"] for name, server in balancer.servers().items()}
        finally:
            await asyncio.to_thread(balancer.stop)
    assert set(results) == {"302"}, results
    assert results["302"] > 100
    failed = {key: sum(counters[key] for counters in counted.values()) for key in ("econ", "eresp", "wretr", "wredis")}
    assert failed == dict.fromkeys(failed, 0)


def resumptions(context: ssl.SSLContext, port: int, host: str) -> list[bool]:
    """Connect again and again with the first connection's session; tell which connections took it up.

    The processes of a slot share the port: any of them must take up what another one began.
    """
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    begun: ssl.SSLSession | None = None
    taken_up = []
    for _ in range(8):
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, server_hostname=host, session=begun) as connection,
        ):
            begun = begun or connection.session
            taken_up.append(bool(connection.session_reused))
    return taken_up


def test_a_certificate_without_its_key_is_a_finding(
    environment: dict[str, str], postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    write_server_certificate(tmp_path, "services")
    certificate = {"LINKRIFT_TLS_CERTIFICATE": str(tmp_path / "services.pem")}
    done = command("redirect", variables_of("redirect", environment, postgresql, **certificate), "check-config")
    assert done.returncode == 78
    assert done.stderr.startswith("LINKRIFT_TLS_PRIVATE_KEY: missing")
