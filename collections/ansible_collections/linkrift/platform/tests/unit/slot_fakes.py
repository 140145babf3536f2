# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host that exists in a temporary directory and in memory: systemd, the services, their health, time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils import _env as env
from ansible_collections.linkrift.platform.plugins.module_utils import _smoke as smoke
from ansible_collections.linkrift.platform.plugins.module_utils._gate import Answer, Response
from ansible_collections.linkrift.platform.plugins.module_utils._paths import Layout, unit_name
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Gates, Host
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed, Systemd

MIB = 1024 * 1024
OLD = "1.0.0+aaaaaaaaaaaa"
NEW = "1.1.0+bbbbbbbbbbbb"
SECRET = "hunter2-hunter2"
UNIT = "[Service]\nType=notify\nExecStart=/opt/linkrift/{service}/%i/venv/bin/linkrift-{service}\n"


class Crash(BaseException):
    """The run is killed: nothing it could still do happens."""


class FakeClock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds


@dataclass
class FakeProcess:
    """A service as it runs: what it was started with, and how its release behaves."""

    release: str
    variables: dict[str, str]
    behaviour: str
    service: str
    answers: int = 0
    requests: int = 0

    def respond(self, path: str, headers: Mapping[str, str]) -> Response:
        """Answer a real request."""
        self.requests += 1
        if self.behaviour == "answers 500":
            return Response(500, content=f"password={SECRET} refused".encode())
        if self.behaviour == "warms up" and self.requests < 5:
            return Response(503)
        items = [{"code": smoke.CANARY_CODE, "url": smoke.CANARY_TARGET}]
        if self.behaviour == "no canary":
            items = []
        if self.service == "api":
            good = headers.get("Authorization", "").startswith("Bearer ")
            return Response(200, content=json.dumps({"items": items}).encode()) if good else Response(401)
        if path == f"/{smoke.CANARY_CODE}" and items:
            return Response(302, {"location": smoke.CANARY_TARGET})
        return Response(404)

    def answer(self, path: str) -> Answer:
        self.answers += 1
        admitted = Path(self.variables["LINKRIFT_ADMISSION_FILE"]).exists()
        body: dict[str, Any] = {"version": self.release, "status": "ok"}
        if self.behaviour == "wrong version":
            body["version"] = "9.9.9+999999999999"
        if self.service == "worker":
            stuck = self.behaviour == "never pauses"
            body |= {"paused": not admitted and not stuck, "pending": 0, "overdue_seconds": 0.0}
            if self.behaviour == "stores nothing":
                body["overdue_seconds"] = 15.1
        if self.behaviour == "silent":
            return Answer(error="ConnectionRefusedError: [Errno 111] Connection refused")
        if path == "/health/ready":
            if self.behaviour == "never ready" or (self.behaviour == "slow" and self.answers < 5):
                body["checks"] = {
                    "database": {"status": "fail", "error": f"password={SECRET} refused"},
                    "redis": {"status": "ok"},
                }
                return Answer(503, body)
            if self.behaviour == "flaps":
                return Answer(200 if self.answers % 3 else 503, body)
            return Answer(200, body)
        if self.behaviour == "never healthy":
            return Answer(503, body)
        return Answer(200 if admitted else 404, body)


@dataclass
class FakeSystem:
    """systemd, as far as `_systemd` asks it."""

    layout: Layout
    behaviours: dict[str, str] = field(default_factory=dict)
    processes: dict[str, FakeProcess] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    enabled: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    refuse: set[str] = field(default_factory=set)
    """Units that go on whatever they are told."""
    loads: dict[str, str] = field(default_factory=dict)
    stale: bool = False
    entries: list[dict[str, Any]] = field(default_factory=list)
    """What the journal has as JSON, whatever it is asked for."""
    journal_error: str = ""
    scheduled: dict[str, list[str]] = field(default_factory=dict)
    """What timers are going to run."""

    def __call__(self, command: Sequence[str], deadline: float) -> Completed:
        if command[0] == "journalctl" and "--output=json" in command:
            lines = "".join(f"{json.dumps(entry)}\n" for entry in self.entries)
            return Completed(1 if self.journal_error or not lines else 0, lines, self.journal_error)
        if command[0] == "journalctl":
            return Completed(0, f"started\nconnecting with password {SECRET}\n", "")
        if command[0] == "systemd-run":
            name = next(word for word in command if word.startswith("--unit=")).removeprefix("--unit=")
            if self.states.get(f"{name}.timer") == "failed":
                return Completed(1, "", f"Unit {name}.timer was already loaded or has a fragment file.")
            self.calls.append(f"schedule {name}")
            self.scheduled[f"{name}.timer"] = list(command[command.index("--") + 1 :])
            return Completed(0, "", "")
        verb, name = command[2], command[-1]
        if name.endswith(".timer"):
            if verb == "stop":
                del self.scheduled[name]
            elif verb == "reset-failed":
                del self.states[name]
            state = "active" if name in self.scheduled else self.states.get(name, "inactive")
            return Completed(0, f"Id={name}\nActiveState={state}\n", "")
        if verb == "show":
            return self._show(name)
        self.calls.append(verb)
        if verb == "daemon-reload":
            return Completed(0, "", "")
        handler: Callable[[str], Completed] = getattr(self, f"_{verb.replace('-', '_')}")
        return handler(name)

    def _service_slot(self, name: str) -> tuple[str, str]:
        service, slot = name.removesuffix(".service").removeprefix("linkrift-").split("@")
        return service, slot

    def _show(self, name: str) -> Completed:
        service = self._service_slot(name)[0]
        there = (self.layout.root / f"etc/systemd/system/linkrift-{service}@.service").exists()
        state = self.states.get(name, "inactive")
        sub = {"active": "running", "inactive": "dead", "failed": "failed", "activating": "auto-restart"}[state]
        lines = {
            "Id": name,
            "LoadState": self.loads.get(name, "loaded" if there else "not-found"),
            "ActiveState": state,
            "SubState": sub,
            "UnitFileState": "enabled" if name in self.enabled else "disabled",
            "Result": "exit-code" if state in ("failed", "activating") else "success",
            "MainPID": "42" if state == "active" else "0",
            "ExecMainStatus": "78" if state in ("failed", "activating") else "0",
            "NeedDaemonReload": "yes" if self.stale else "no",
            "ExecMainStartTimestampMonotonic": "1000000000",
            "MemoryMax": str(1024 * MIB),
        }
        return Completed(0, "".join(f"{key}={value}\n" for key, value in lines.items()), "")

    def _start(self, name: str) -> Completed:
        if self.states.get(name) == "active":
            return Completed(0, "", "")
        service, slot = self._service_slot(name)
        release = self.layout.slot_link(service, slot).readlink().name
        variables = env.read(self.layout.pinned_env(service, slot))
        behaviour = self.behaviours.get(release, "good")
        if behaviour == "exits":
            self.states[name] = "activating"
            return Completed(1, "", f"Job for {name} failed because the control process exited with error code.")
        if behaviour == "hangs":
            self.states[name] = "activating"
            msg = "systemctl start took longer than 60 s"
            raise TimeoutError(msg)
        self.processes[name] = FakeProcess(release, variables, behaviour, service)
        self.states[name] = "active"
        self.use_memory(name, 950 if behaviour == "fat" else 100)
        if behaviour == "complains":
            self.complain("cannot do this")
        return Completed(0, "", "")

    def _stop(self, name: str) -> Completed:
        if name in self.refuse:
            return Completed(0, "", "")
        process = self.processes.pop(name, None)
        if process and process.behaviour == "never stops":
            self.processes[name] = process
            msg = "systemctl stop took longer than 90 s"
            raise TimeoutError(msg)
        self.states[name] = "failed" if process and process.behaviour == "killed at stop" else "inactive"
        return Completed(0, "", "")

    def _enable(self, name: str) -> Completed:
        self.enabled.add(name)
        return Completed(0, "", "")

    def _disable(self, name: str) -> Completed:
        self.enabled.discard(name)
        return Completed(0, "", "")

    def _reset_failed(self, name: str) -> Completed:
        if self.states.get(name) == "failed":
            self.states[name] = "inactive"
        return Completed(0, "", "")

    def use_memory(self, name: str, mib: int) -> None:
        """Have two processes of a unit use so much together."""
        for number in range(2):
            pid = 42 + number + (10 if name.endswith("@green.service") else 0)
            directory = self.layout.root / f"proc/{pid}"
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "cgroup").write_text(f"0::/system.slice/system-linkrift.slice/{name}\n")
            (directory / "statm").write_text(f"9 {mib // 2 * MIB // os.sysconf('SC_PAGE_SIZE')} 9 9 0 9 0\n")

    def complain(self, message: str, at: float = 1000.5) -> None:
        """Write an error into the journal."""
        document = {"level": "error", "message": message, "password": SECRET}
        self.entries.append(
            {
                "__CURSOR": f"s={len(self.entries)}",
                "__REALTIME_TIMESTAMP": str(int(at * 1_000_000)),
                "PRIORITY": "6",
                "MESSAGE": json.dumps(document),
            }
        )

    def crash_process(self, name: str) -> None:
        """Have a service end by itself, for good."""
        self.processes.pop(name)
        self.states[name] = "failed"

    def reboot(self) -> None:
        """Stop everything, start what is enabled."""
        self.states.clear()
        self.processes.clear()
        for name in sorted(self.enabled):
            self._start(name)


@dataclass
class FakeHost(Host):
    """A host whose services answer without a network."""

    system: FakeSystem = field(default_factory=lambda: FakeSystem(Layout()))
    asked: int = 0
    when_asked: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What happens when health is asked for the n-th time."""

    def ask(self, slot: str, path: str, variables: Any) -> Answer:
        self.asked += 1
        self.when_asked.get(self.asked, lambda: None)()
        process = self.system.processes.get(self.unit(slot))
        return process.answer(path) if process else Answer(error="ConnectionRefusedError: refused")

    def fetch(self, slot: str, path: str, variables: Any, headers: Mapping[str, str]) -> Response:
        process = self.system.processes.get(self.unit(slot))
        return process.respond(path, headers) if process else Response(error="ConnectionRefusedError: refused")


def install(layout: Layout, release: str) -> None:
    """Put a release on the host."""
    tree = layout.release(release)
    (tree / "venv/bin").mkdir(parents=True)
    for service in ("api", "redirect", "worker"):
        program = tree / f"venv/bin/linkrift-{service}"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    (tree / "release.json").write_text(json.dumps({"id": release}))


def render_env(layout: Layout, service: str, **variables: str) -> None:
    """Render a service's environment, as the role does."""
    path = layout.rendered_env(service)
    path.parent.mkdir(parents=True, exist_ok=True)
    own = {f"LINKRIFT_{service.upper()}_HOST": "127.0.0.1", "LINKRIFT_DB_PASSWORD": SECRET}
    key = {"LINKRIFT_JWT_SECRET": "made-up-key-of-the-tests"} if service == "api" else {}
    named = {**own, **key, **variables}
    path.write_text(env.render(named))


def make_host(root: Path, service: str, ports: tuple[int, int]) -> FakeHost:
    """Return a host with two releases installed, and nothing running."""
    layout = Layout(root)
    for release in (OLD, NEW):
        install(layout, release)
    render_env(layout, service)
    template = root / f"etc/systemd/system/linkrift-{service}@.service"
    template.parent.mkdir(parents=True)
    template.write_text(UNIT.format(service=service))
    system = FakeSystem(layout)
    return FakeHost(
        service=service,
        layout=layout,
        systemd=Systemd(system),
        clock=FakeClock(),
        gates=Gates(deadline=10, successes=3, interval=0.25),
        ports={"blue": ports[0], "green": ports[1]},
        by="tester",
        system=system,
    )


def facts(host: FakeHost) -> dict[str, Any]:
    """Return everything a crash or a repetition could leave different, ledger excepted."""
    layout, service = host.layout, host.service
    base = layout.base / service
    return {
        "links": {path.name: str(path.readlink()) for path in sorted(base.glob("*")) if path.is_symlink()},
        "states": {slot: host.system.states.get(unit_name(service, slot), "inactive") for slot in ("blue", "green")},
        "enabled": sorted(host.system.enabled),
        "admitted": sorted(path.name for path in (layout.root / "var/lib/linkrift" / service).glob("*.admitted")),
        "pinned": {path.name: path.read_text() for path in sorted((layout.root / "etc/linkrift" / service).glob("*"))},
        "leftovers": sorted(str(path) for path in layout.root.rglob("*.new")),
    }
