# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The single steps of a slot's life. Each is a plain function that may be repeated: done twice is done once."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils import _env as env
from ansible_collections.linkrift.platform.plugins.module_utils import _gate as gate
from ansible_collections.linkrift.platform.plugins.module_utils import _ledger as ledger
from ansible_collections.linkrift.platform.plugins.module_utils._paths import (
    RELEASE_RECORD,
    exclusive,
    link_atomically,
    linked_release,
    sync_directory,
    write_atomically,
)
from ansible_collections.linkrift.platform.plugins.module_utils._slot_port import taken_by
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import (
    Host,
    SlotError,
    SlotView,
    digest_of,
    unit_digest,
)
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import SystemdError

JOURNAL_LINES = 40


def check_release(host: Host, release: str) -> None:
    """Make sure that a release is whole and has the service.

    Raises:
        SlotError: it does not.
    """
    try:
        tree = host.layout.release(release)
    except ValueError as error:
        raise SlotError(str(error)) from error
    try:
        record = json.loads((tree / RELEASE_RECORD).read_text(encoding="utf-8"))
        found = record["id"]
    except FileNotFoundError as error:
        known = sorted(path.parent.name for path in host.layout.releases.glob(f"*/{RELEASE_RECORD}"))
        msg = (
            f"release {release} is not installed here (complete ones: {', '.join(known) or 'none'}): "
            "install it with the module linkrift.platform.release"
        )
        raise SlotError(msg) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{tree / RELEASE_RECORD} cannot be read ({error}): install release {release} again"
        raise SlotError(msg) from error
    if found != release:
        msg = f"{tree} holds release {found}: remove it, and install release {release} again"
        raise SlotError(msg)
    program = program_of(host, tree)
    if not os.access(program, os.X_OK):
        msg = f"release {release} has no program {program}: the service is not in it, or it was damaged"
        raise SlotError(msg)


def program_of(host: Host, tree: Path) -> Path:
    """Return the service's program in a release."""
    return tree / "venv/bin" / f"linkrift-{host.service}"


def check_unit(host: Host, view: SlotView) -> None:
    """Make sure that systemd can start a slot.

    Raises:
        SlotError: the unit is missing, masked or broken.
    """
    unit_digest(host)
    # systemd may not have read a new unit file yet; only what it has read and refuses is an obstacle.
    if view.unit.load not in ("loaded", "not-found"):
        msg = f"systemd cannot use {view.unit.name} ({view.unit.load}): see systemctl status {view.unit.name}"
        raise SlotError(msg)


def check_port(host: Host, view: SlotView, variables: dict[str, str]) -> None:
    """Make sure that nothing else listens where a stopped slot is going to.

    Raises:
        SlotError: the port is taken.
    """
    if not view.unit.stopped:
        return
    bound = variables.get(f"LINKRIFT_{host.service.upper()}_HOST") or "127.0.0.1"
    taken = taken_by(bound, host.port(view.slot))
    if taken:
        msg = (
            f"port {host.port(view.slot)} on {bound}, where {view.unit.name} wants to listen, is taken by {taken}: "
            "stop that, or give the slot another port"
        )
        raise SlotError(msg)


@dataclass(frozen=True)
class Former:
    """What a slot had before a candidate: put back when the candidate fails."""

    env: str | None
    release: str | None


def remember(host: Host, slot: str) -> Former:
    """Return what a slot has now."""
    text = None
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = host.layout.pinned_env(host.service, slot).read_text(encoding="utf-8")
    return Former(text, linked_release(host.layout.slot_link(host.service, slot)))


def restore(host: Host, slot: str, former: Former) -> None:
    """Put back what a stopped slot had before."""
    pinned, link = host.layout.pinned_env(host.service, slot), host.layout.slot_link(host.service, slot)
    if former.env is None:
        _remove(pinned)
    else:
        write_atomically(pinned, former.env, 0o600)
    if former.release is None:
        _remove(link)
    else:
        link_atomically(link, host.layout.release(former.release))


def pin(host: Host, slot: str) -> None:
    """Write a slot's environment: the rendered one as it is now, and the slot's own variables.

    Raises:
        SlotError: the rendered one cannot be pinned.
    """
    path = host.layout.pinned_env(host.service, slot)
    rendered = host.layout.rendered_env(host.service)
    own = {
        f"LINKRIFT_{host.service.upper()}_PORT": str(host.port(slot)),
        "LINKRIFT_SLOT": slot,
        "LINKRIFT_ADMISSION_FILE": str(host.layout.admission_file(host.service, slot)),
        "LINKRIFT_LIVE_LINK": str(host.live_link),
    }
    try:
        text = env.pinned_text(rendered.read_text(encoding="utf-8"), own, unit_digest(host))
    except env.EnvError as error:
        msg = f"{rendered} cannot be used: {error}. Correct what renders it, and repeat this"
        raise SlotError(msg) from error
    # The admission file's directory is the service's business, too: it polls it from its first moment.
    for directory, mode in ((path.parent, 0o700), (host.layout.admission_file(host.service, slot).parent, 0o755)):
        directory.mkdir(mode=mode, parents=True, exist_ok=True)
    write_atomically(path, text, 0o600)


def link(host: Host, slot: str, release: str) -> None:
    """Point a slot at a release.

    Raises:
        SlotError: the release is gone, or being removed.
    """
    path = host.layout.slot_link(host.service, slot)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        # With the lock that pruning takes: a release is not removed between the check and the link.
        with exclusive(host.layout.releases_lock, host.gates.deadline):
            check_release(host, release)
            link_atomically(path, host.layout.release(release))
    except TimeoutError as error:
        raise SlotError(str(error)) from error


def start(host: Host, slot: str, deadline: float) -> None:
    """Start a slot and wait until it is up.

    Raises:
        SlotError: it failed, or was not up in time.
    """
    unit = host.systemd.show(host.unit(slot))
    try:
        if unit.stale or not unit.loaded:
            host.systemd.reload()
        if unit.active == "failed":
            host.systemd.forget_failure(unit.name)
        host.systemd.start(unit.name, deadline)
    except (SystemdError, TimeoutError) as error:
        now = host.systemd.show(host.unit(slot)).describe()
        msg = f"{unit.name} did not start: {error}; it is {now}"
        raise SlotError(msg) from error


def stop(host: Host, slot: str) -> None:
    """Stop a slot and leave nothing failed behind.

    Raises:
        SlotError: it is still there.
    """
    name = host.unit(slot)
    try:
        host.systemd.stop(name, host.gates.stop_deadline)
        unit = host.systemd.show(name)
        if unit.active == "failed":
            host.systemd.forget_failure(name)
    except (SystemdError, TimeoutError) as error:
        msg = f"{name} did not stop: {error}. See systemctl status {name}, and repeat this"
        raise SlotError(msg) from error
    if not unit.stopped:
        msg = f"{name} is {unit.describe()} after it was stopped: something starts it again; repeat this"
        raise SlotError(msg)


def dead(host: Host, slot: str) -> str:
    """Return why waiting for a slot is no use any more; empty while it may still come."""
    unit = host.systemd.show(host.unit(slot))
    if unit.stopped or unit.sub == "auto-restart":
        return f"{unit.name} ended: {unit.describe()}"
    return ""


def await_ready(host: Host, view: SlotView, release: str, deadline: float) -> gate.GateResult:
    """Run the gate of a candidate: up, and ready with the right release some times in a row."""
    return gate.watch(
        "ready",
        question=lambda: host.ask(view.slot, "/health/ready", view.variables),
        judge=gate.judge_ready(release, paused=host.is_worker and not view.admitted),
        alive=lambda: dead(host, view.slot),
        required=host.gates.successes,
        deadline=deadline,
        interval=host.gates.interval,
        clock=host.clock,
    )


def await_health(host: Host, view: SlotView, status: int) -> gate.GateResult:
    """Wait until a slot's `/health` has a status: 200 live, 404 standby."""
    return _await(host, view, "admitted" if status == 200 else "standby", gate.judge_health(status))


def await_paused(host: Host, view: SlotView) -> gate.GateResult:
    """Wait until a worker is paused, and has flushed and acknowledged what it had."""
    return _await(host, view, "paused", gate.judge_paused)


def _await(host: Host, view: SlotView, name: str, judge: Any) -> gate.GateResult:
    return gate.watch(
        name,
        question=lambda: host.ask(view.slot, "/health", view.variables),
        judge=judge,
        alive=lambda: dead(host, view.slot),
        required=1,
        deadline=host.gates.deadline,
        interval=min(host.gates.interval, 0.1),
        clock=host.clock,
    )


def admit(host: Host, view: SlotView) -> None:
    """Write the file that lets a slot work."""
    since = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    content = json.dumps({"since": since, "release": view.release, "by": host.by}, sort_keys=True) + "\n"
    path = host.layout.admission_file(host.service, view.slot)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(path, content, 0o644)


def withdraw(host: Host, slot: str) -> None:
    """Remove the file that lets a slot work."""
    _remove(host.layout.admission_file(host.service, slot))


def mark_drained(host: Host) -> None:
    """Note that the service is drained on this host, and since when."""
    since = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    host.drained_mark.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(host.drained_mark, json.dumps({"since": since, "by": host.by}, sort_keys=True) + "\n", 0o644)


def unmark_drained(host: Host) -> None:
    """Forget that the service was drained."""
    _remove(host.drained_mark)


def name_live(host: Host, slot: str) -> None:
    """Make a slot the live one: from this one step on, it is what a reboot and every later run take for live."""
    link_atomically(host.live_link, Path(slot))


def link_current(host: Host, release: str) -> None:
    """Point `current` at the live slot's release."""
    link_atomically(host.layout.current_link(host.service), host.layout.release(release))


def forget_live(host: Host) -> None:
    """Leave the service without a live slot, so that nothing of it is drained either."""
    _remove(host.live_link)
    unmark_drained(host)
    _remove(host.layout.current_link(host.service))


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync_directory(path.parent)


def entry(host: Host, view: SlotView, action: str, passed: list[str], failed: str = "") -> ledger.Entry:
    """Return the ledger entry of a step."""
    return ledger.Entry(
        service=host.service,
        slot=view.slot,
        release=view.release or "",
        config_digest=digest_of(host, view.config, create_key=True) or "",
        action=action,
        passed=passed,
        by=host.by,
        failed=failed,
    )


@contextlib.contextmanager
def evidence(host: Host, slot: str, since: float) -> Iterator[dict[str, Any]]:
    """Collect what there is to see of a slot that failed; the block adds to it, and may stop the slot."""
    variables = {}
    with contextlib.suppress(OSError, env.EnvError):
        variables = env.read(host.layout.pinned_env(host.service, slot))
    found: dict[str, Any] = {"unit": host.systemd.show(host.unit(slot)).describe()}
    yield found
    # Read last: what the service writes while it is stopped is part of the story.
    found["journal"] = [
        env.masked(line, variables) for line in host.systemd.journal(host.unit(slot), since, JOURNAL_LINES)
    ]
    for name in ("answer", "errors"):
        if name in found:
            found[name] = env.masked_data(found[name], variables)


def show_last(found: dict[str, Any], results: Sequence[gate.GateResult]) -> None:
    """Add what the last gate saw to the evidence."""
    if results and results[-1].last:
        found["answer"] = results[-1].last.as_dict()
    if results and results[-1].lines:
        found["errors"] = list(results[-1].lines)


@dataclass
class Record:
    """What a run did, or, in check mode, would do."""

    host: Host
    check: bool = False
    steps: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Something is different from before."""
        return bool(self.steps)

    def step(self, name: str, action: Any, *arguments: Any) -> None:
        """Do a step, unless nothing may change."""
        self.steps.append(name)
        if not self.check:
            self.host.progress(name)
            action(*arguments)
