# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Change which slots HAProxy sends to, so that no visitor notices and a run that dies anywhere can be repeated.

The order of a step, and why:

1. Whoever shall take traffic passes a fresh check first, while the file and the visitors still know nothing of it.
   HAProxy looks through the new file meanwhile.
2. The file is replaced. From here on a reload or a restart comes back with the new rotation.
3. The new servers become `ready`, and only then do the old ones go to `drain`.
4. The old ones have no request left, and no old worker of an earlier reload is left that could still send them one.
5. HAProxy is asked what it really does.

What HAProxy shows decides every move, not what was sent before. So a rerun goes on wherever an earlier run died, and
a worker that a reload brings in the middle is simply looked at anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import (
    Haproxy,
    HaproxyDownError,
    HaproxyError,
    Key,
    ServerView,
    View,
    Workers,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import (
    WEIGHT,
    Backend,
    Change,
    digest,
    digest_in,
    is_ours,
    parse_file,
    render,
    service_of,
    tls_in,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_file import BackendsFile, BackendsFileError

POLL = 0.02
"""Seconds between two looks at HAProxy while waiting for a condition."""

_QUIET_LOOKS = 2
_DRAIN_POLL = 0.05
"""Looks at what leaves, without a request there, before that is believed; seconds between two of them."""

_ROUNDS = 3
"""How often a step is repeated when something else (a reload by hand) changed HAProxy meanwhile."""


class RotationError(Exception):
    """The rotation could not become what was asked for; the text says why, and what state it is in."""


@dataclass(frozen=True)
class Options:
    """How a run goes about it; times in seconds.

    Attributes:
        check_timeout: for a server to pass a fresh check.
        drain_timeout: for the requests of a server, and for the old workers, to end.
        reload_timeout: for a new worker to have the new file and its first checks.
        wait_old_workers: a drained server also waits for workers of earlier reloads to end.
        reload: reload HAProxy where the running one cannot learn the change otherwise.
        allow_empty: a backend may lose its last ready server.
        wait_drained: wait until what leaves has no request left; without that, it may have some yet when the run ends.
        drain_required: requests that do not end in time put the old rotation back; without that they are a warning, and
            go on where they are.
    """

    check_timeout: float = 15
    drain_timeout: float = 60
    reload_timeout: float = 30
    wait_old_workers: bool = True
    reload: bool = True
    allow_empty: bool = False
    wait_drained: bool = True
    drain_required: bool = True


@dataclass
class Outcome:
    """What a run found and did.

    Attributes:
        changed: whether anything was changed (in check mode: would be).
        running: HAProxy answers.
        reload_required: the running HAProxy still lacks a change that only a reload brings.
        reloaded: HAProxy was reloaded.
        before: text of the file at first, empty without one.
        after: text of the file that was wished for.
        view: HAProxy at the end.
        steps: what was done, with seconds since the start.
        warnings: what the operator should know all the same.
    """

    changed: bool = False
    running: bool = False
    reload_required: bool = False
    reloaded: bool = False
    before: str = ""
    after: str = ""
    view: View | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What the servers were and shall be.

    Attributes:
        before: state of each server of the wished services, new ones in `maint`.
        first: states to begin with where a reload is needed: whatever is new or moved waits for its check in `maint`.
        wish: states at the end.
    """

    before: dict[Key, str]
    first: dict[Key, str]
    wish: dict[Key, str]


def make_plan(
    backends: tuple[Backend, ...], changes: tuple[Change, ...], old_text: str, view: View | None, allow_empty: bool
) -> Plan:
    """Work out the states. The file knows them best, then the running HAProxy; a server unknown to both is in `maint`.

    Raises:
        RotationError: a backend would lose its last ready server, or speak TLS with a live one that does not.
    """
    known = {key: (found.state, found.address) for key, found in parse_file(old_text).items()}
    for key, server in (view.servers if view else {}).items():
        if is_ours(key[0]):
            known.setdefault(key, (server.admin, server.address))
    before: dict[Key, str] = {}
    first: dict[Key, str] = {}
    for backend in backends:
        keys = {(backend.name, server.name): server.address for server in backend.servers}
        states = {key: known[key][0] if key in known else "maint" for key in keys}
        steady = {
            key: state if key in known and known[key][1] == keys[key] else "maint" for key, state in states.items()
        }
        # Should every server of a backend move at once, waiting for checks would leave it without any.
        before |= states
        first |= steady if "ready" in steady.values() else states
    _keep_protocol(backends, before, tls_in(old_text))
    wish = before | {change.key: change.state for change in changes}
    if not allow_empty:
        had = {key[0] for key, (state, _address) in known.items() if state == "ready"}
        keeps = {key[0] for key, state in wish.items() if state == "ready"}
        lost = sorted(service_of(backend) for backend in had - keeps)
        if lost:
            raise RotationError(
                f"{', '.join(lost)} would have no ready server left: every visitor would get an error. "
                "Bring another slot to ready in the same step, or set allow_empty if that is what you want. "
                "Nothing was changed"
            )
    return Plan(before=before, first=first, wish=wish)


def _keep_protocol(backends: tuple[Backend, ...], before: Mapping[Key, str], had_tls: Mapping[str, bool]) -> None:
    """Refuse to turn TLS on or off under servers that take traffic: what runs there goes on speaking the other way."""
    for backend in backends:
        has = backend.tls is not None
        ready = sorted(name for (of, name), state in before.items() if of == backend.name and state == "ready")
        if ready and had_tls.get(backend.name, has) != has:
            raise RotationError(
                f"{backend.service} would be spoken to {'by TLS' if has else 'without TLS'} from now on, and the slots "
                f"that are live ({', '.join(ready)}) were started without that: every visitor would get an error. "
                "Bring them to maint and stop them first, in a maintenance window (docs/edge.md). Nothing was changed"
            )


class Rotation:
    """One run on one balancer. `apply` needs the lock of the backends file."""

    def __init__(
        self,
        backends: tuple[Backend, ...],
        changes: tuple[Change, ...],
        options: Options,
        haproxy: Haproxy,
        file: BackendsFile,
        reload: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        progress: Callable[[str], None] = lambda _what: None,
    ) -> None:
        self._backends = backends
        self._named = {change.key for change in changes}
        self._changes = changes
        self._options = options
        self._haproxy = haproxy
        self._file = file
        self._reload = reload
        self._clock = clock
        self._sleep = sleep
        self._progress = progress
        self._start = clock()
        self._armed: dict[Key, int] = {}
        self._replaced: set[str] = set()
        self._prepared = ""
        self._outcome = Outcome()

    # -- the two ways to run -------------------------------------------------------------------------------------

    def predict(self) -> Outcome:
        """Say what `apply` would change, and change nothing.

        Raises:
            RotationError: `apply` would refuse.
            HaproxyError: HAProxy runs, but cannot be asked.
        """
        outcome, view = self._outcome, self._look()
        outcome.before = self._file.read() or ""
        plan = make_plan(self._backends, self._changes, outcome.before, view, self._options.allow_empty)
        outcome.after = render(self._backends, plan.wish)
        outcome.view, outcome.running = view, view is not None
        outcome.reload_required = self._needs_reload(view)
        outcome.changed = outcome.before != outcome.after or outcome.reload_required
        if view and not outcome.reload_required:
            outcome.changed = outcome.changed or bool(self._differences(view, plan.wish))
        return outcome

    def apply(self) -> Outcome:
        """Bring file and HAProxy to the wish.

        Raises:
            RotationError: it could not be done; the text says whether the old rotation is back.
            BackendsFileError: the file could not be written, and nothing else was done.
            HaproxyError: HAProxy runs, but could not be asked at the start.
        """
        outcome, view = self._outcome, self._look()
        outcome.before = self._file.read() or ""
        plan = make_plan(self._backends, self._changes, outcome.before, view, self._options.allow_empty)
        outcome.after = render(self._backends, plan.wish)
        if view is None:
            self._write(outcome.after)
            # It may have started while the file was being written, with the old one.
            view = self._look()
        elif self._needs_reload(view) and not self._options.reload:
            self._write_for_later(plan)
            outcome.view, outcome.running, outcome.reload_required = view, True, True
            return outcome
        if view is not None:
            self._apply_running(plan, view)
        return outcome

    def _write_for_later(self, plan: Plan) -> None:
        if self._changes:
            raise RotationError(
                "the running HAProxy does not know these backends until it is reloaded, so no state can be changed: "
                "allow the reload, or leave `changes` out. Nothing was changed"
            )
        self._outcome.after = render(self._backends, plan.first)
        self._write(self._outcome.after)

    # -- the step ------------------------------------------------------------------------------------------------

    def _apply_running(self, plan: Plan, view: View) -> None:
        outcome, at_first = self._outcome, view
        leaving = {key for key in self._named if plan.wish[key] != "ready"}
        if leaving and self._options.wait_old_workers and not self._haproxy.has_master:
            raise RotationError(
                "whether workers of an earlier reload are left cannot be known without the master socket: "
                "give master_socket, or set wait_old_workers to false. Nothing was changed"
            )
        try:
            if self._needs_reload(view):
                self._write(render(self._backends, plan.first))
                view = self._load(at_first)
            for _round in range(_ROUNDS):
                if self._replaced:
                    self._still_answer(plan.wish, self._observe())
                self._prove(plan.wish, outcome.after)
                self._write(outcome.after)
                if self._bring_in(plan.wish):
                    leaving |= self._take_out(plan.wish)
                    self._wait_drained(leaving, plan.wish)
                    self._park(plan.wish)
                view = self._observe()
                differences = self._differences(view, plan.wish)
                if not differences:
                    outcome.view, outcome.running = view, True
                    return
            raise RotationError(f"HAProxy does not do what was asked: {'; '.join(differences)}")
        except (RotationError, HaproxyError, BackendsFileError) as error:
            raise RotationError(f"{error}. {self._undo(plan, at_first)}") from error

    def _prove(self, wish: Mapping[Key, str], text: str) -> None:
        """Wait until each server that shall be ready has passed a check that began after it was asked to.

        A server that leaves `maint` for `ready` counts as UP before any check. So it goes to `drain`, where checks run
        and no visitor is sent, and is told to be down, which it can leave only by passing its checks.

        Args:
            wish: states at the end.
            text: the file that is to come, which is looked through meanwhile.
        """
        end = self._clock() + self._options.check_timeout
        found: dict[Key, ServerView] = {}
        while True:
            view = self._observe()
            waiting: list[ServerView] = []
            for key in self._keys(wish, "ready"):
                server = self._server(view, key)
                if server.admin == "ready":
                    if key in self._named and not server.passing:
                        waiting.append(server)
                # In the moment of a reload two workers listen: the one that is told need not be the one that was seen.
                elif self._armed.get(key) != view.pid or server.admin == "maint":
                    name = "/".join(key)
                    self._send(
                        f"{_word(key)} waits for a check",
                        f"set server {name} state drain",
                        f"set server {name} health down",
                    )
                    self._armed[key] = view.pid
                    waiting.append(server)
                elif not server.passing:
                    waiting.append(server)
            if not waiting:
                return
            # What a check found is told even if the next one is on its way just now.
            found.update({(server.backend, server.name): server for server in waiting if not server.checking})
            if self._clock() >= end:
                told = [found.get((server.backend, server.name), server) for server in waiting]
                raise RotationError("; ".join(_why_not_ready(server, self._options.check_timeout) for server in told))
            if self._prepared != text and self._file.read() != text:
                self._file.prepare(text)
                self._prepared = text
            self._sleep(POLL)

    def _bring_in(self, wish: Mapping[Key, str]) -> bool:
        """Let the proven servers take traffic; tell whether all that shall be ready are.

        They are not when HAProxy was restarted between their check and the new file.
        """
        view = self._settled()
        complete = True
        for key in self._keys(wish, "ready"):
            server = self._server(view, key)
            if server.admin != "ready" and self._armed.get(key) != view.pid:
                complete = False
            elif server.admin != "ready" or server.weight != WEIGHT:
                name = "/".join(key)
                self._send(
                    f"{_word(key)} takes traffic",
                    f"set server {name} weight {WEIGHT}",
                    f"set server {name} state ready",
                )
        return complete

    def _take_out(self, wish: Mapping[Key, str]) -> set[Key]:
        """Send nothing new to servers that shall go, and return which those are."""
        view = self._observe()
        leaving = {key for key in wish if wish[key] != "ready" and self._server(view, key).admin == "ready"}
        answering = {key[0] for key in leaving if view.servers[key].takes_traffic}
        for backend in sorted(answering):
            if not any(server.takes_traffic for server in self._staying(wish, view, backend)):
                self._refuse_empty(wish, view, backend, "would have")
        self._replaced |= answering
        for key in sorted(wish):
            admin = self._server(view, key).admin
            if key in leaving or (wish[key] == "drain" and admin == "maint"):
                self._send(f"{_word(key)} drains", f"set server {'/'.join(key)} state drain")
        return leaving

    def _still_answer(self, wish: Mapping[Key, str], view: View) -> None:
        """Notice at once when nobody answers any more where visitors were moved: what left still can, and goes back.

        To wait first, for what left or for checks, would be as long an outage.
        """
        for backend in sorted(self._replaced):
            if not any(server.takes_traffic for key, server in view.servers.items() if key[0] == backend):
                self._refuse_empty(wish, view, backend, "has")

    def _refuse_empty(self, wish: Mapping[Key, str], view: View, backend: str, verb: str) -> None:
        if self._options.allow_empty:
            return
        staying = self._staying(wish, view, backend)
        seen = ", ".join(f"{server.name} is {server.status} ({server.last_check()})" for server in staying)
        raise RotationError(
            f"{service_of(backend)} {verb} no server left that answers: {seen}. "
            "Repair one of them first, or set allow_empty if that is what you want"
        )

    def _staying(self, wish: Mapping[Key, str], view: View, backend: str) -> list[ServerView]:
        return [self._server(view, key) for key in self._keys(wish, "ready") if key[0] == backend]

    def _wait_drained(self, leaving: set[Key], wish: Mapping[Key, str]) -> None:
        """Wait until the servers have no request and no old worker is left to send one; seen twice, to be sure."""
        end = self._clock() + self._options.drain_timeout
        quiet = 0
        while leaving and self._options.wait_drained and not self._outcome.warnings:
            view = self._observe()
            self._still_answer(wish, view)
            busy = [view.servers[key] for key in sorted(leaving) if key in view.servers and view.servers[key].scur]
            old = self._old_workers() if self._options.wait_old_workers else ()
            quiet = 0 if busy or old else quiet + 1
            if quiet == _QUIET_LOOKS:
                return
            if self._clock() >= end and not quiet:
                why = _why_not_drained(busy, old or (), self._options.drain_timeout)
                if self._options.drain_required:
                    raise RotationError(f"{why}. Give drain_timeout more time, or look for who holds them")
                # In maint it gets no new one; HAProxy lets those that it has go on.
                self._outcome.warnings.append(f"{why}. They go on there, until the slot is stopped")
                self._note("the rest goes on where it is")
            self._sleep(_DRAIN_POLL)

    def _old_workers(self) -> tuple[int, ...]:
        workers = self._workers()
        # None: it is loading a configuration, so there will be one.
        return workers.old if workers else (0,)

    def _workers(self) -> Workers | None:
        """Ask the master; None as well in the moment of a reload in which it begins anew and nobody listens."""
        try:
            return self._haproxy.workers()
        except HaproxyError:
            return None

    def _park(self, wish: Mapping[Key, str]) -> None:
        view = self._observe()
        for key in self._keys(wish, "maint"):
            if self._server(view, key).admin != "maint":
                self._send(f"{_word(key)} in maint", f"set server {'/'.join(key)} state maint")

    def _differences(self, view: View, wish: Mapping[Key, str]) -> list[str]:
        """Say where HAProxy does other than the wish; for servers named in the changes their health counts, too."""
        found: list[str] = []
        wanted = digest(self._backends)
        if view.digest != wanted:
            found.append(f"it has loaded backends {view.digest}, not {wanted}")
        for key, state in sorted(wish.items()):
            server = view.servers.get(key)
            if server is None:
                found.append(f"it does not know {'/'.join(key)}")
            elif server.admin != state:
                found.append(f"{server.name} is in {server.admin}, not in {state}")
            elif state == "ready" and server.weight != WEIGHT:
                found.append(f"{server.name} has weight {server.weight}, not {WEIGHT}")
            elif state == "ready" and key in self._named and not server.takes_traffic:
                found.append(f"{server.name} is {server.status} ({server.last_check()})")
        return found

    # -- reload --------------------------------------------------------------------------------------------------

    def _needs_reload(self, view: View | None) -> bool:
        return view is not None and view.digest != digest(self._backends)

    def _load(self, at_first: View) -> View:
        """Reload, and wait for the new worker to have checked the servers that answered before.

        Raises:
            RotationError: the new worker did not come, lacks the file, or finds a server down that was up.
        """
        wanted = digest(self._backends)
        view = self._reload_until(at_first.pid, wanted)
        end = self._clock() + self._options.reload_timeout
        states = parse_file(self._file.read() or "")
        while True:
            waiting = [
                server
                for key, server in sorted(view.servers.items())
                if key in states and states[key].state == "ready" and key in at_first.servers
                if at_first.servers[key].takes_traffic and not server.passing
            ]
            if not waiting:
                return view
            if self._clock() >= end:
                seen = ", ".join(f"{server.name} is {server.status} ({server.last_check()})" for server in waiting)
                raise RotationError(f"after the reload, servers that answered before do not: {seen}")
            self._sleep(POLL)
            view = self._observe()

    def _reload_until(self, pid: int, wanted: str | None) -> View:
        self._note("reload")
        self._reload()
        self._outcome.changed = self._outcome.reloaded = True
        end = self._clock() + self._options.reload_timeout
        while True:
            view = self._observe()
            if view.pid != pid and view.digest == wanted:
                return view
            if self._clock() >= end:
                raise RotationError(self._why_not_loaded(view, pid))
            self._sleep(POLL)

    def _why_not_loaded(self, view: View, pid: int) -> str:
        if view.pid == pid:
            return (
                f"HAProxy did not take the new configuration within {self._options.reload_timeout:g} s and serves "
                "with the old one: journalctl -u haproxy says why"
            )
        return (
            f"HAProxy was reloaded, but does not load {self._file.path}: the program was started without it. "
            f"Its options must have `-f {self._file.path}`, and it must be restarted once to see them"
        )

    # -- back to what it was -------------------------------------------------------------------------------------

    def _undo(self, plan: Plan, at_first: View) -> str:
        """Put file and HAProxy back as they were, what was ready first, and say how that went."""
        back = self._outcome.before or render(self._backends, plan.before)
        self._file.discard()
        try:
            if self._file.read() not in (back, None):
                self._file.replace(back)
                self._note("old backends file back")
            view = self._settled()
            if view.digest != at_first.digest and digest_in(back) == at_first.digest:
                view = self._reload_until(view.pid, at_first.digest)
            ours = [key for key in at_first.servers if is_ours(key[0]) and key in view.servers]
            for key in sorted(ours, key=lambda key: (at_first.servers[key].admin != "ready", key)):
                was, now = at_first.servers[key], view.servers[key]
                if now.admin != was.admin or now.weight != was.weight:
                    name = "/".join(key)
                    self._send(
                        f"{_word(key)} back to {was.admin}",
                        f"set server {name} weight {was.weight}",
                        f"set server {name} state {was.admin}",
                    )
        except (RotationError, HaproxyError, BackendsFileError) as error:
            return f"The old rotation could NOT be put back ({error}): run this again once HAProxy answers"
        return "The old rotation is back as it was"

    # -- looking and doing ---------------------------------------------------------------------------------------

    def _look(self) -> View | None:
        """Ask HAProxy; None when it does not run.

        Raises:
            HaproxyError: it runs, but its admin socket does not answer.
        """
        try:
            return self._haproxy.view()
        except HaproxyDownError as down:
            try:
                workers = self._haproxy.workers()
            except HaproxyDownError:
                return None
            if workers is None:
                return self._observe() if self._haproxy.has_master else None
            if not self._options.reload and not self._changes:
                # Nothing is asked of it: a role is about to give it a configuration with that socket.
                return None
            raise HaproxyError(
                f"HAProxy runs (worker {workers.current}), but {down}: its configuration needs "
                "`stats socket … level admin` there"
            ) from down

    def _observe(self) -> View:
        """Ask the worker that serves now, past the moment of a reload or restart in which none answers."""
        end = self._clock() + self._options.reload_timeout
        while True:
            problem = "only an old worker answers"
            try:
                view = self._haproxy.view()
                if not view.stopping:
                    return view
            except HaproxyError as error:
                problem = str(error)
            if self._clock() >= end:
                raise RotationError(f"HAProxy does not answer since {self._options.reload_timeout:g} s: {problem}")
            self._sleep(POLL)

    def _settled(self) -> View:
        """Return the view of the newest worker, with no reload under way that began before this call.

        The master answers either before it begins a reload, which then reads the file as it is now, or after it, when
        it names the new worker.
        """
        end = self._clock() + self._options.reload_timeout
        while True:
            view = self._observe()
            if not self._haproxy.has_master:
                return view
            workers = self._workers()
            if workers and workers.current == view.pid:
                return view
            if self._clock() >= end:
                raise RotationError(
                    f"HAProxy's master names no worker that serves since {self._options.reload_timeout:g} s"
                )
            self._sleep(POLL)

    @staticmethod
    def _keys(wish: Mapping[Key, str], state: str) -> list[Key]:
        return sorted(key for key, wanted in wish.items() if wanted == state)

    @staticmethod
    def _server(view: View, key: Key) -> ServerView:
        try:
            return view.servers[key]
        except KeyError:
            raise RotationError(f"HAProxy does not know {'/'.join(key)}: another file was loaded meanwhile") from None

    def _send(self, what: str, *commands: str) -> None:
        self._haproxy.command(*commands)
        self._outcome.changed = True
        self._note(what)

    def _write(self, text: str) -> None:
        if self._file.read() != text:
            self._file.replace(text, prepared=text == self._prepared)
            self._prepared = ""
            self._outcome.changed = True
            self._note("backends file written")

    def _note(self, what: str) -> None:
        self._outcome.steps.append({"at": round(self._clock() - self._start, 3), "what": what})
        self._progress(what)


def _word(key: Key) -> str:
    """Name a server as operators do: `redirect/app1-blue`."""
    return f"{service_of(key[0])}/{key[1]}"


def _why_not_ready(server: ServerView, seconds: float) -> str:
    text = (
        f"{_word((server.backend, server.name))} ({server.address}) passed no check within {seconds:g} s: "
        f"{server.status}, {server.last_check()}"
    )
    if server.check_code == "404":
        return f"{text}. It answers as a standby: admit the slot on its host first"
    if server.check_status.startswith("L4"):
        return f"{text}. Nothing answers there: see whether the slot runs on its host and the port is open to this one"
    if server.check_status.startswith("L6"):
        return (
            f"{text}. It does not prove by TLS who it is: it was started without a certificate, or with one of another "
            "name or authority than `tls` of the service says"
        )
    return f"{text}. Look at the slot's journal on its host"


def _why_not_drained(busy: list[ServerView], old: tuple[int, ...], seconds: float) -> str:
    reasons = [f"{server.name} still has {server.scur} requests in progress" for server in busy]
    if old:
        pids = ", ".join(str(pid) for pid in old if pid)
        reasons.append(
            f"workers of an earlier reload still hold connections ({pids or 'a reload is under way'}); "
            "hard-stop-after ends them"
        )
    return f"after {seconds:g} s: {'; '.join(reasons)}"


def describe(view: View, text: str) -> dict[str, Any]:
    """Return the rotation as HAProxy really does it, beside the state that the file has.

    Args:
        view: HAProxy's answer.
        text: the backends file.

    Returns:
        service → {backend, servers: name → {host, slot, state, admin, status, …}}
    """
    remembered = parse_file(text)
    services: dict[str, Any] = {}
    for (backend, name), server in sorted(view.servers.items()):
        if not is_ours(backend):
            continue
        host, _dash, slot = name.rpartition("-")
        entry = services.setdefault(service_of(backend), {"backend": backend, "servers": {}})
        state = remembered.get((backend, name))
        entry["servers"][name] = {
            "host": host,
            "slot": slot,
            "state": state.state if state else None,
            "admin": server.admin,
            "status": server.status,
            "takes_traffic": server.takes_traffic,
            "check_status": server.check_status,
            "check_code": server.check_code,
            "check_detail": server.check_detail,
            "scur": server.scur,
            "weight": server.weight,
            "address": server.address,
            "counters": server.counters,
        }
    return services
