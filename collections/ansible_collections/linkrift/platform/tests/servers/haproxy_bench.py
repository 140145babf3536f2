# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A real HAProxy on loopback, slots that can be made to fail, and visitors that count what they got."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import COUNTERS, Haproxy, HaproxyError, Socket
from ansible_collections.linkrift.platform.plugins.module_utils._rotation import Options, Outcome, Rotation, describe
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import parse_changes, parse_services
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_file import BackendsFile
from tools.testing.process import free_port

EXECUTABLE = "/usr/sbin/haproxy"

MAIN = """\
global
    stats socket {admin} mode 600 level admin expose-fd listeners
    hard-stop-after 20s
    maxconn 500
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
    timeout http-request 5s
    timeout http-keep-alive 2s
    option idle-close-on-response
frontend visitors
    bind 127.0.0.1:{port}
    default_backend linkrift_redirect
"""


class Slot:
    """A service that answers with its own name; its health and its speed can be set.

    It accepts connections itself: an `asyncio.Server` that is closed between accepting a connection and serving it
    (Python before 3.12) leaves that one open, and whichever test runs next is told of it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.health = 200
        self.delay = 0.0
        self.standing: dict[str, object] | None = None
        """What `/health` tells of the host; None: nothing."""
        self.requests = 0
        self.checks = 0
        self.tls: ssl.SSLContext | None = None
        self._listener: socket.socket | None = None
        self._served: dict[asyncio.Task[None], socket.socket] = {}

    async def start(self) -> None:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def stop(self) -> None:
        """Close the listener and every connection at once, whatever they are doing."""
        if self._listener:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        served = dict(self._served)
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)
        for connection in served.values():
            # Those of tasks that had not begun; the others closed theirs.
            connection.close()

    def _accept(self) -> None:
        assert self._listener
        try:
            connection = self._listener.accept()[0]
        except (BlockingIOError, ConnectionAbortedError):
            return  # it went away meanwhile
        connection.setblocking(False)
        task = asyncio.create_task(self._serve(connection))
        self._served[task] = connection
        task.add_done_callback(self._served.pop)

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _protocol = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self.tls)
        except OSError:
            return  # no TLS, or not with us
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                status = 200
                if head.startswith("GET /health "):
                    self.checks += 1
                    status = self.health
                else:
                    self.requests += 1
                    await asyncio.sleep(self.delay)
                body = self.name.encode()
                if head.startswith("GET /health ") and self.standing is not None:
                    body = json.dumps(self.standing).encode()
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the balancer is through with it
        finally:
            transport.abort()


@dataclass
class Visitors:
    """What a paced load got: answers by the slot that gave them, and every failure in words."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Balancer:
    """HAProxy in master-worker mode with a directory of its own, and the rotation of two hosts' slots."""

    def __init__(self, directory: Path, hosts: int = 2, services: Mapping[str, Any] | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self.admin = str(directory / "admin.sock")
        self.master = str(directory / "master.sock")
        self.main = directory / "haproxy.cfg"
        self.path = directory / "linkrift-backends.cfg"
        self.main.write_text(MAIN.format(admin=self.admin, port=self.port))
        self.slots: dict[str, Slot] = {}
        for number in range(1, hosts + 1):
            self.add_host(f"app{number}")
        self.settings: dict[str, Any] = dict(services or {})
        self.haproxy = Haproxy(Socket(self.admin), Socket(self.master))
        self._process: subprocess.Popen[bytes] | None = None

    def add_host(self, host: str) -> list[Slot]:
        """Add a host's two slots to the services; they do not run yet."""
        slots = [Slot(f"{host}-blue"), Slot(f"{host}-green")]
        self.slots |= {slot.name: slot for slot in slots}
        return slots

    @property
    def services(self) -> dict[str, Any]:
        """The module's `services`."""
        hosts = sorted({name.split("-")[0] for name in self.slots})
        return {
            "redirect": {
                "servers": [
                    {
                        "host": host,
                        "address": "127.0.0.1",
                        "ports": {slot: self.slots[f"{host}-{slot}"].port for slot in ("blue", "green")},
                    }
                    for host in hosts
                ],
                **self.settings,
            }
        }

    def rotation(self, changes: Mapping[str, str], **options: Any) -> Rotation:
        """Prepare a run; `changes` is server name → state."""
        backends = parse_services(self.services)
        given = [
            {"service": "redirect", "host": name.split("-")[0], "slot": name.split("-")[1], "state": state}
            for name, state in changes.items()
        ]
        return Rotation(
            backends=backends,
            changes=parse_changes(given, backends),
            options=Options(**({"check_timeout": 3, "drain_timeout": 15, "reload_timeout": 8} | options)),
            haproxy=self.haproxy,
            file=BackendsFile(
                path=self.path,
                main=self.main,
                executable=EXECUTABLE,
                group="",
                lock=self.directory / "lock",
                run=_run,
            ),
            reload=self.reload,
        )

    def apply(self, changes: Mapping[str, str] | None = None, **options: Any) -> Outcome:
        """Run the step to its end."""
        return self.rotation(changes or {}, **options).apply()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Have all slots listen while the block runs; HAProxy and they are gone after it, with every connection."""
        for slot in self.slots.values():
            await slot.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.stop)
            for slot in self.slots.values():
                await slot.stop()

    def start(self) -> None:
        """Start HAProxy and wait until it answers."""
        command = [EXECUTABLE, "-W", "-f", str(self.main), "-f", str(self.path), "-S", f"{self.master},mode,600"]
        with (self.directory / "haproxy.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self.until(self._answers)

    def _answers(self) -> bool:
        try:
            return self.haproxy.workers() is not None and not self.haproxy.view().stopping
        except HaproxyError:
            return False

    def stop(self) -> None:
        """End HAProxy, connections and all, as a crash or a restart does."""
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)
            self._process = None

    def reload(self) -> None:
        """Do what the unit's ExecReload does."""
        assert self._process
        os.kill(self._process.pid, signal.SIGUSR2)

    def until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        """Wait for a condition."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.directory / "haproxy.log").read_text()
            time.sleep(0.02)

    def admins(self) -> dict[str, str]:
        """Return the administrative state of each server as HAProxy has it."""
        return {name: server["admin"] for name, server in self.servers().items()}

    def old_workers(self) -> tuple[int, ...]:
        """Return the workers of earlier reloads that still run."""
        workers = self.haproxy.workers()
        assert workers
        return workers.old

    def settled(self) -> bool:
        """Tell whether no reload is under way, and no worker of an earlier one is left."""
        try:
            workers = self.haproxy.workers()
            return workers is not None and not workers.old and not self.haproxy.view().stopping
        except HaproxyError:
            return False

    def servers(self) -> dict[str, Any]:
        """Return what HAProxy says of each server."""
        rotation = describe(self.haproxy.view(), "")
        return dict(rotation["redirect"]["servers"])

    def counters(self) -> Counter[str]:
        """Return the counters of all servers added up."""
        total: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        for server in self.servers().values():
            total.update(server["counters"])
        return total

    @contextlib.asynccontextmanager
    async def load(self, rate: int = 300, connections: int = 6, new_every: int = 40) -> AsyncIterator[Visitors]:
        """Send paced requests over keep-alive connections (a new one after `new_every`) while the block runs."""
        visitors = Visitors()
        stop = asyncio.Event()
        tasks = [
            asyncio.create_task(self._visitor(visitors, stop, connections / rate, new_every))
            for dummy in range(connections)
        ]
        try:
            yield visitors
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def _visitor(self, visitors: Visitors, stop: asyncio.Event, pause: float, new_every: int) -> None:
        writer: asyncio.StreamWriter | None = None
        left = 0
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not stop.is_set():
            due += pause
            await asyncio.sleep(max(0.0, due - loop.time()))
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    left = new_every
                writer.write(b"GET /abc HTTP/1.1\r\nHost: go.linkrift.test\r\n\r\n")
                head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode()
                length = int(
                    next(line for line in head.lower().splitlines() if line.startswith("content-length")).split()[1]
                )
                body = (await reader.readexactly(length)).decode()
                left -= 1
                if head.startswith("HTTP/1.1 200"):
                    visitors.answers[body] += 1
                else:
                    visitors.failures.append(head.splitlines()[0])
                # HAProxy announces the end of a connection (a reload); a client does not use it any more.
                if left <= 0 or "connection: close" in head.lower():
                    writer.close()
                    writer = None
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                visitors.failures.append(repr(error))
                if writer:
                    writer.close()
                writer = None
        if writer:
            writer.close()


def _run(command: Any) -> tuple[int, str]:
    done = subprocess.run(list(command), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
