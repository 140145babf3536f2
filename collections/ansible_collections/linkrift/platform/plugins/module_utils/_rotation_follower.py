# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep a balancer's rotation where its hosts say it is: a program that runs on every balancer.

It starts before HAProxy, which waits for its first look, and goes on looking. It changes the rotation with the code of
module rotation, under its lock, and never while a run has that.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._gate import Answer, Identity, ask
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import (
    Haproxy,
    HaproxyDownError,
    HaproxyError,
    Key,
    Socket,
    View,
)
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SLOTS, other_slot
from ansible_collections.linkrift.platform.plugins.module_utils._rotation import Options, Rotation, RotationError
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import (
    Backend,
    Change,
    Server,
    TopologyError,
    digest_in,
    parse_file,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_file import BackendsFile, BackendsFileError
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_follow import (
    Finding,
    HostView,
    SlotView,
    Word,
    judge,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_read import read_backends

LOOK_SECONDS = 1.0
"""Between two looks at HAProxy, which costs next to nothing."""

ASK_SECONDS = 5.0
"""Between two times that all slots are asked; those of a host in need are asked with every look."""

PATIENCE = 10.0
"""Seconds that a balancer must have missed something before it follows while visitors are served: a run that is at it
tells the balancer itself."""

RETURN_PATIENCE = 60.0
"""Seconds that a live slot must have answered again, after all of the service failed: a run may be about to undo it."""

RETRY_SECONDS = 5.0
"""Seconds before it tries again what did not work."""

FIRST_LOOK_SECONDS = 3.0
"""How long HAProxy waits, at the most, for anybody to answer: after a boot the network may just be coming up."""

_ANSWER_SECONDS = 1.0
_PROGRAM_SECONDS = 20.0
_OPTIONS = Options(check_timeout=3, reload_timeout=5, reload=False, wait_drained=False)

_Host = tuple[str, str]
"""A host of a service: (backend, host)."""


@dataclass
class _Told:
    """What the file has for a host: its slots' states, since when, and whether one was let in for want of better."""

    states: tuple[str, ...]
    at: float
    borrowed: bool = False


Asker = Callable[[Backend, Server], Word]


@dataclass(frozen=True)
class _Look:
    """What was found at one moment.

    Attributes:
        running: HAProxy answers; otherwise only its file is there to be changed.
        silent: visitors are to be sent somewhere, and no slot answered anything.
    """

    backends: tuple[Backend, ...]
    findings: Mapping[Key, Finding]
    running: bool
    silent: bool


class Follower:
    """Looks, and follows where the balancer has missed something."""

    def __init__(
        self,
        file: BackendsFile,
        haproxy: Haproxy,
        asker: Asker,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._file = file
        self._haproxy = haproxy
        self._asker = asker
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self._asked = float("-inf")
        self._since: dict[Key, float] = {}
        self._not_before: dict[Key, float] = {}
        self._problem = ""
        self._told: dict[_Host, _Told] = {}
        self._written = 0

    def first(self) -> None:
        """Look before HAProxy starts, for as long as nobody answers and there is time."""
        end = self._clock() + FIRST_LOOK_SECONDS
        while self.round() and self._clock() + LOOK_SECONDS < end:
            self._sleep(0.2)

    def round(self) -> bool:
        """Look once, and follow; return whether no slot answered that should have."""
        try:
            # What may be due soon is looked at each time: it may be over.
            look = self._look(everybody=bool(self._since) or self._clock() - self._asked >= ASK_SECONDS)
            if look is None:
                return False
            now = self._clock()
            self._since = {key: self._since.get(key, now) for key in look.findings}
            due = {key for key, finding in look.findings.items() if self._due(key, finding, look, now)}
            if due:
                self._follow(due)
            if due or not look.findings:
                self._tell("")
            return look.silent
        except (HaproxyError, BackendsFileError, RotationError, TopologyError, OSError) as error:
            self._tell(str(error))
            return False

    def _due(self, key: Key, finding: Finding, look: _Look, now: float) -> bool:
        if now < self._not_before.get(key, now):
            return False
        patience = RETURN_PATIENCE if finding.returns else PATIENCE
        return finding.urgent or not look.running or now - self._since[key] >= patience

    # -- looking ---------------------------------------------------------------------------------------------------

    def _look(self, *, everybody: bool) -> _Look | None:
        """Compare; None where there is nothing to compare, or a change is under way.

        Raises:
            HaproxyError: HAProxy runs, but cannot be asked.
            TopologyError: the file is none of ours.
        """
        read = self._read()
        if read is None:
            return None
        # Before anybody is asked: what is younger than the file must be so for sure.
        now = time.time()
        text, written = read
        backends = read_backends(text)
        self._remember(backends, text, written)
        view = self._view()
        if view and (view.stopping or view.digest != digest_in(text)):
            return None
        states = {key: found.state for key, found in parse_file(text).items()}
        if view:
            states |= {key: view.servers[key].admin for key in states if key in view.servers}
        if everybody or not view:
            self._asked = self._clock()
        asked = [
            (backend, server)
            for backend in backends
            for server in backend.servers
            if everybody or not view or _in_need(backend, server.host, states, view)
        ]
        words = self._ask(asked)
        findings = {
            (backend.name, f"{finding.host}-{finding.slot}"): finding
            for backend in backends
            for finding in judge(self._hosts(backend, states, view, words, now))
        }
        silent = bool(asked) and "ready" in states.values() and all(word.status is None for word in words.values())
        return _Look(backends, findings, view is not None, silent)

    def _read(self) -> tuple[str, int] | None:
        """Return the file's text, and when it was written; should it be replaced meanwhile, the next look sees that."""
        try:
            written = self._file.path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        text = self._file.read()
        return None if text is None else (text, written)

    def _remember(self, backends: Sequence[Backend], text: str, written: int) -> None:
        """Note since when each host's states are in the file: a change of another host's makes them no younger."""
        if written == self._written:
            return
        self._written = written
        found = parse_file(text)
        told: dict[_Host, _Told] = {}
        for backend in backends:
            for server in backend.servers:
                host = (backend.name, server.host)
                states = tuple(found[(backend.name, f"{server.host}-{slot}")].state for slot in SLOTS)
                before = self._told.get(host)
                told[host] = before if before and before.states == states else _Told(states, written / 1e9)
        self._told = told

    def _hosts(
        self,
        backend: Backend,
        states: Mapping[Key, str],
        view: View | None,
        words: Mapping[Key, Word],
        now: float,
    ) -> list[HostView]:
        slots: dict[str, dict[str, SlotView]] = {}
        for server in backend.servers:
            key = (backend.name, server.name)
            word = words.get(key)
            slot = SlotView(states[key], _serves(key, states, view, word), word or Word())
            slots.setdefault(server.host, {})[server.slot] = slot
        told = {host: self._told[(backend.name, host)] for host in slots}
        return [HostView(host, found, now - told[host].at, told[host].borrowed) for host, found in slots.items()]

    def _view(self) -> View | None:
        try:
            return self._haproxy.view()
        except HaproxyDownError:
            return None

    def _ask(self, slots: Sequence[tuple[Backend, Server]]) -> dict[Key, Word]:
        """Ask all of them at the same time."""
        if not slots:
            return {}
        with ThreadPoolExecutor(max_workers=min(len(slots), 64)) as pool:
            words = pool.map(lambda pair: self._asker(*pair), slots)
        return {(backend.name, server.name): word for (backend, server), word in zip(slots, words, strict=True)}

    # -- following -------------------------------------------------------------------------------------------------

    def _follow(self, due: set[Key]) -> None:
        """Do what is due, if it still is once nobody else can change the rotation.

        Raises:
            BackendsFileError, HaproxyError, RotationError: nothing was changed, or it was put back.
        """
        try:
            with self._file.only_run(0):
                look = self._look(everybody=True)
                if look:
                    self._apply(look, {key: look.findings[key] for key in sorted(due & look.findings.keys())})
        except (HaproxyError, BackendsFileError, RotationError):
            self._not_before.update(dict.fromkeys(due, self._clock() + RETRY_SECONDS))
            raise

    def _apply(self, look: _Look, findings: Mapping[Key, Finding]) -> None:
        """Move all of them in one step or, when one spoils it, each by itself."""
        try:
            self._move(look, findings)
        except RotationError:
            if len(findings) < 2:
                raise
            problems = [self._try(look, {key: finding}) for key, finding in findings.items()]
            raise RotationError("; ".join(problem for problem in problems if problem)) from None

    def _try(self, look: _Look, findings: Mapping[Key, Finding]) -> str:
        try:
            self._move(look, findings)
        except RotationError as error:
            return str(error)
        return ""

    def _move(self, look: _Look, findings: Mapping[Key, Finding]) -> None:
        if not findings:
            return
        changes: list[Change] = []
        for backend in look.backends:
            for (name, _server), finding in findings.items():
                if name == backend.name:
                    changes.append(Change(backend.service, finding.host, finding.slot, "ready"))
                    changes.append(Change(backend.service, finding.host, other_slot(finding.slot), "maint"))
        start = self._clock()
        Rotation(
            backends=look.backends,
            changes=tuple(changes),
            options=_OPTIONS,
            haproxy=self._haproxy,
            file=self._file,
            reload=_no_reload,
            clock=self._clock,
            sleep=self._sleep,
        ).apply()
        read = self._read()
        if read:
            self._remember(look.backends, *read)
        for (name, server), finding in findings.items():
            self._told[(name, finding.host)].borrowed = finding.borrowed
            word = f"{name.removeprefix('linkrift_')}/{server}"
            self._say(f"{word} takes visitors now: {finding.why} ({self._clock() - start:.2f} s)")

    def _tell(self, problem: str) -> None:
        """Say what is wrong once, and once that it is over."""
        if problem and problem != self._problem:
            self._say(f"cannot follow the hosts: {problem}")
        elif self._problem and not problem:
            self._say("can follow the hosts again")
        self._problem = problem


def _no_reload() -> None:
    raise RotationError("this program reloads nothing")


def _in_need(backend: Backend, host: str, states: Mapping[Key, str], view: View) -> bool:
    """Tell whether visitors are to be sent to a host, and cannot be."""
    keys = [(backend.name, server.name) for server in backend.servers if server.host == host]
    ready = [key for key in keys if states[key] == "ready"]
    return bool(ready) and not any(_serves(key, states, view, None) for key in ready)


def _serves(key: Key, states: Mapping[Key, str], view: View | None, word: Word | None) -> bool:
    if states[key] != "ready":
        return False
    if view is None:
        return word is not None and word.good
    server = view.servers.get(key)
    return server is not None and server.takes_traffic


# -- the real world ------------------------------------------------------------------------------------------------


def ask_slot(backend: Backend, server: Server) -> Word:
    """Ask a slot for its health as HAProxy's check does, but read what it says."""
    address, _colon, port = server.address.rpartition(":")
    identity = Identity(backend.tls.verify_host, Path(backend.tls.ca_file)) if backend.tls else None
    return read_word(ask(address.strip("[]"), int(port), backend.check.path, _ANSWER_SECONDS, identity))


def read_word(answer: Answer) -> Word:
    """Read a slot's answer; what it does not say, or not as expected, is unknown."""

    def age(name: str) -> float | None:
        value = answer.body.get(name)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    live = answer.body.get("live_slot")
    return Word(
        status=answer.status,
        live_slot=live if isinstance(live, str) else None,
        live_seconds=age("live_seconds"),
        admitted_seconds=age("admitted_seconds"),
    )


def run_program(command: Sequence[str]) -> tuple[int, str]:
    """Run a program to its end; return its status and what it said."""
    try:
        done = subprocess.run(list(command), capture_output=True, check=False, timeout=_PROGRAM_SECONDS)
    except subprocess.TimeoutExpired:
        return 124, f"no end within {_PROGRAM_SECONDS:g} s"
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def notify(message: str) -> None:
    """Tell systemd, where it asked to be told."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(message.encode(), f"\0{path[1:]}" if path.startswith("@") else path)


def follow(
    *, backends_file: str, main_file: str, admin_socket: str, master_socket: str, lock: str, say: Callable[[str], None]
) -> None:
    """Run until stopped.

    Args:
        backends_file: the rotation's file.
        main_file: HAProxy's configuration.
        admin_socket: HAProxy's admin socket.
        master_socket: socket of HAProxy's master process.
        lock: the rotation's lock.
        say: takes what there is to say, line by line.
    """
    follower = Follower(
        file=BackendsFile(
            path=Path(backends_file),
            main=Path(main_file),
            executable="/usr/sbin/haproxy",
            group="haproxy",
            lock=Path(lock),
            run=run_program,
        ),
        haproxy=Haproxy(Socket(admin_socket), Socket(master_socket)),
        asker=ask_slot,
        say=say,
    )
    follower.first()
    notify("READY=1")
    while True:
        # Nothing tells a balancer that a host has changed: it has to look, at a steady pace.
        time.sleep(LOOK_SECONDS)
        follower.round()
