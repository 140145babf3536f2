# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An HAProxy made of dictionaries, which a test can kill, reload or break between any two moves of a rotation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import (
    Haproxy,
    HaproxyDownError,
    HaproxyError,
    Key,
    ServerView,
    Socket,
    View,
    Workers,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rotation import Options, Outcome, Rotation
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import (
    digest_in,
    parse_changes,
    parse_file,
    parse_services,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_file import BackendsFile

CHECK_EVERY = 0.25


class Killed(BaseException):
    """The process died here: nothing of it runs any more, no clean-up either."""


@dataclass
class Served:
    """A server as a worker has it."""

    address: str
    admin: str
    weight: int
    up: bool = True
    seen: str = "INI"
    scur: int = 0


@dataclass
class World:
    """A balancer and its hosts.

    Attributes:
        path: the backends file.
        health: what each address answers to a check, 0 when nothing does; 200 where it is not named.
        at_move: called before every move with its number and what it is.
        requests: requests in progress at a server, and how many seconds of draining end them.
    """

    path: Path
    health: dict[str, int] = field(default_factory=dict)
    at_move: Callable[[int, str], None] = lambda _number, _what: None
    requests: dict[str, float] = field(default_factory=dict)
    running: bool = True
    pid: int = 100
    old: dict[int, float] = field(default_factory=dict)
    time: float = 0.0
    moves: int = 0
    guarded: bool = False
    loads_backends: bool = True
    refuses: bool = False
    missed: int = 0
    """So many batches of commands reach the old worker of a reload, which still listens."""
    checking_since: float = float("inf")
    """From then on, a check is always on its way: code and words of the last one are gone."""
    servers: dict[Key, Served] = field(default_factory=dict)
    digest: str | None = None
    pending: tuple[float, str] | None = None
    _checked: float = 0.0

    # -- what happens to the balancer ----------------------------------------------------------------------------

    def load(self) -> None:
        """Begin a worker with the file as it is: whatever is not disabled counts as up before any check."""
        text = self.path.read_text() if self.path.exists() and self.loads_backends else ""
        self.pid += 1
        self.digest = digest_in(text)
        self.servers = {
            key: Served(found.address, found.state, 0 if found.state == "drain" else 100)
            for key, found in parse_file(text).items()
        }

    def reload(self, lasting: float = 0.3) -> None:
        """Bring a new worker; the old one goes on for a while."""
        if self.refuses:
            return
        # The master does one after the other.
        self.end_reload()
        self.old[self.pid] = self.time + lasting
        self.load()

    def begin_reload(self) -> None:
        """Have the master read the files now; the new worker serves only when the master is asked, or after a while."""
        self.pending = (self.time + 0.2, self.path.read_text())

    def end_reload(self) -> None:
        """Let the worker of a reload that began serve with the file as it was then."""
        if self.pending:
            text, self.pending = self.pending[1], None
            now = self.path.read_text()
            self.path.write_text(text)
            self.reload()
            self.path.write_text(now)

    def sleep(self, seconds: float) -> None:
        """Let time pass: checks run, requests and old workers end."""
        self.time += seconds
        if self.pending and self.pending[0] <= self.time:
            self.end_reload()
        self.old = {pid: end for pid, end in self.old.items() if end > self.time}
        for (_backend, name), server in self.servers.items():
            if server.admin == "drain" and name in self.requests:
                self.requests[name] -= seconds
            server.scur = 1 if self.requests.get(name, 0) > 0 else 0
        if self.time - self._checked >= CHECK_EVERY:
            self._checked = self.time
            self._check()
        self.guard("time passes")

    def _check(self) -> None:
        for server in self.servers.values():
            if server.admin != "maint":
                code = self.health.get(server.address, 200)
                server.up = code == 200
                server.seen = {200: "L7OK", 0: "L4CON"}.get(code, "L7STS")

    def guard(self, what: str) -> None:
        """Assert what visitors are owed: somebody answers, and whoever is asked is known to."""
        if not self.guarded or not self.running:
            return
        asked = {key: server for key, server in self.servers.items() if server.admin == "ready" and server.up}
        assert {key[0] for key in asked} == {key[0] for key in self.servers}, f"nobody answers: {what}"
        for key, server in asked.items():
            assert self.health.get(server.address, 200) == 200, f"{key} gets requests and is dead: {what}"

    def move(self, what: str) -> None:
        """Count a move, and let the test interfere."""
        self.moves += 1
        self.at_move(self.moves, what)

    # -- a run ---------------------------------------------------------------------------------------------------

    def rotation(self, services: dict[str, Any], changes: Sequence[dict[str, str]] = (), **options: Any) -> Rotation:
        """Prepare a run on this balancer."""
        backends = parse_services(services)
        return Rotation(
            backends=backends,
            changes=parse_changes(changes, backends),
            options=Options(**options),
            haproxy=FakeHaproxy(self),
            file=BackendsFile(
                path=self.path,
                main=self.path.with_name("haproxy.cfg"),
                executable="haproxy",
                group="",
                lock=self.path.with_name("lock"),
                run=self._validate,
            ),
            reload=self._asked_to_reload,
            clock=lambda: self.time,
            sleep=self.sleep,
        )

    def apply(self, services: dict[str, Any], changes: Sequence[dict[str, str]] = (), **options: Any) -> Outcome:
        """Run a step to its end."""
        return self.rotation(services, changes, **options).apply()

    def _validate(self, _command: Sequence[str]) -> tuple[int, str]:
        self.move("write")
        return 0, ""

    def _asked_to_reload(self) -> None:
        self.move("reload")
        self.reload()
        self.guard("reload")

    def states(self) -> dict[str, str]:
        """Return what the file says, by server name."""
        return {key[1]: found.state for key, found in parse_file(self.path.read_text()).items()}

    def admins(self) -> dict[str, str]:
        """Return what HAProxy does, by server name."""
        return {key[1]: server.admin for key, server in self.servers.items()}


class FakeHaproxy(Haproxy):
    """The two sockets of the world's balancer."""

    def __init__(self, world: World, master: bool = True) -> None:
        super().__init__(Socket("admin"), Socket("master") if master else None)
        self.world = world

    def view(self) -> View:
        world = self.world
        world.move("look")
        if not world.running:
            raise HaproxyDownError("nothing listens at admin")
        servers = {}
        for key, server in world.servers.items():
            code = world.health.get(server.address, 200)
            checking = world.time >= world.checking_since
            servers[key] = ServerView(
                backend=key[0],
                name=key[1],
                admin=server.admin,
                status=_status(server),
                running=server.up and server.admin != "maint",
                check_status="" if server.admin == "maint" else server.seen,
                check_code=str(code) if server.seen in ("L7OK", "L7STS") and not checking else "",
                check_detail="",
                scur=server.scur,
                weight=server.weight,
                address=server.address,
                checking=checking,
            )
        return View(pid=world.pid, stopping=False, version="2.6", digest=world.digest, servers=servers)

    def workers(self) -> Workers | None:
        self.world.move("workers")
        # The master answers either before it begins a reload, or when it is through with it.
        self.world.end_reload()
        if not self.world.running:
            raise HaproxyDownError("nothing listens at master")
        return Workers(current=self.world.pid, old=tuple(self.world.old)) if self.has_master else None

    def command(self, *commands: str) -> None:
        if self.world.missed:
            self.world.missed -= 1
            return
        # One connection, but HAProxy carries out one command after the other.
        for command in commands:
            self.world.move(command)
            words = command.split()
            backend, name = words[2].split("/")
            server = self.world.servers.get((backend, name))
            if server is None:
                raise HaproxyError("No such server.")
            if words[3:] == ["health", "down"]:
                server.up, server.seen = False, server.seen
            elif words[3] == "weight":
                server.weight = int(words[4])
            else:
                if words[4] == "maint":
                    server.up = False
                elif server.admin == "maint":
                    # As HAProxy does: up before any check.
                    server.up, server.seen = True, "INI"
                server.admin = words[4]
            self.world.guard(command)


def _status(server: Served) -> str:
    if server.admin == "maint":
        return "MAINT"
    if not server.up:
        return "DOWN"
    return "UP" if server.admin == "ready" else "DRAIN"
