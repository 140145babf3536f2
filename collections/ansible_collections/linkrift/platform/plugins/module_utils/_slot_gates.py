# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The gates that a slot passes before a visitor gets to it: ready, real requests, memory, no errors in its journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ansible_collections.linkrift.platform.plugins.module_utils import _slot_steps as steps
from ansible_collections.linkrift.platform.plugins.module_utils import _smoke as smoke
from ansible_collections.linkrift.platform.plugins.module_utils._gate import GateResult, watch
from ansible_collections.linkrift.platform.plugins.module_utils._release_use import read_record
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Host, SlotView
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import SystemdError
from ansible_collections.linkrift.platform.plugins.module_utils._unit_load import (
    Run,
    current_run,
    error_lines,
    resident,
)

SHOWN_LINES = 10


def prove(host: Host, view: SlotView, release: str, deadline: float, *, since: float | None) -> list[GateResult]:
    """Run the gates of a slot, one after the other, up to the first that does not pass.

    Args:
        host: the service on its host.
        view: the slot.
        release: id of the release it must run.
        deadline: seconds for all of them; each gets one answer's time at least.
        since: from when on what it complained of counts, in seconds since the epoch; None: nothing of it does.

    Raises:
        SystemdError: systemd cannot be asked.
    """
    end = host.clock.monotonic() + deadline

    def left() -> float:
        return max(end - host.clock.monotonic(), host.gates.timeout)

    results = []
    for gate in _gates(host, view, release, left, since):
        results.append(gate)
        if not gate.passed:
            break
    return results


def _gates(
    host: Host, view: SlotView, release: str, left: Callable[[], float], since: float | None
) -> Iterator[GateResult]:
    yield steps.await_ready(host, view, release, left())
    yield await_smoke(host, view, release, left())
    yield weigh(host, view, current_run(host.systemd, view.unit.name))
    if since is not None:
        yield listen(host, view, since)


def await_smoke(host: Host, view: SlotView, release: str, deadline: float) -> GateResult:
    """Have a slot answer real requests some times in a row; skipped where its release has no canary yet."""
    reason = why_no_canary(host, release)
    if reason:
        return GateResult("smoke", "skipped", reason, required=0, deadline=deadline)
    requests = smoke_of(host, view)
    return watch(
        "smoke",
        question=requests.ask,
        judge=requests.judge,
        alive=lambda: steps.dead(host, view.slot),
        # A worker's dry run is part of its `/health/ready`: there is nothing to ask for again.
        required=1 if host.is_worker else host.gates.successes,
        deadline=deadline,
        interval=host.gates.interval,
        clock=host.clock,
    )


def why_no_canary(host: Host, release: str) -> str:
    """Return why a release cannot be asked for the canary; empty when it can."""
    level = (read_record(host.layout, release) or {}).get("schema_level")
    if isinstance(level, int) and level < smoke.CANARY_LEVEL:
        return f"release {release} has schema level {level}: the canary is there from level {smoke.CANARY_LEVEL} on"
    return ""


def smoke_of(host: Host, view: SlotView) -> smoke.Smoke:
    """Return the real requests for a slot."""
    return smoke.Smoke(
        host.service,
        view.variables,
        lambda path, headers: host.fetch(view.slot, path, view.variables, headers),
        host.clock.time,
    )


def weigh(host: Host, view: SlotView, run: Run) -> GateResult:
    """Compare the memory of a slot's processes with its bound."""
    bound = run.memory_bound if host.gates.memory_bound is None else host.gates.memory_bound
    found, processes = resident(view.unit.name, host.layout.root / "proc")
    result = GateResult("memory", "pass", figures={"mib": round(found, 1), "processes": processes})
    if bound is not None:
        result.figures = {**result.figures, "bound_mib": round(bound, 1)}
    if not processes:
        result.verdict, result.reason = "inconclusive", f"no process of {view.unit.name} is to be seen"
    elif bound is not None and found > bound:
        result.verdict = "fail"
        result.reason = f"its {processes} processes have {found:.0f} MiB in use, of {bound:.0f} MiB at most"
    return result


def listen(host: Host, view: SlotView, since: float) -> GateResult:
    """Count what a slot complained of at level error or worse, against its rate.

    Args:
        host: the service on its host.
        view: the slot.
        since: seconds since the epoch.
    """
    # Within its first minute a slot may say what it may say in one.
    minutes = max(1.0, (host.clock.time() - since) / 60)
    allowed = host.gates.error_rate * minutes
    result = GateResult("errors", "pass")
    try:
        lines = error_lines(host.systemd, view.unit.name, since)
    except SystemdError as error:
        result.verdict, result.reason = "inconclusive", str(error)
        return result
    result.figures = {"lines": len(lines), "allowed": round(allowed, 1), "minutes": round(minutes, 2)}
    result.lines = lines[-SHOWN_LINES:]
    if len(lines) > allowed:
        result.verdict = "fail"
        result.reason = f"{len(lines)} lines of level error or worse in {minutes:.1f} min, {allowed:g} are allowed"
    return result


def began(host: Host, view: SlotView) -> float:
    """Return when the run of a slot that is under way began, in seconds since the epoch.

    Raises:
        SystemdError: systemd cannot be asked.
    """
    started = current_run(host.systemd, view.unit.name).started
    return host.clock.time() - (host.clock.monotonic() - started)
