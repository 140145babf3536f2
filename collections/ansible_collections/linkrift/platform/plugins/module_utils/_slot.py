# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The wishes about a slot: candidate, admitted, live, warm, drained, stopped.

Each looks at what is there, does only the steps that are missing, and so may be repeated after any interruption. A
step that fails by itself is undone; a run that is killed leaves what it had done, and the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ansible_collections.linkrift.platform.plugins.module_utils import _cooling as cooling
from ansible_collections.linkrift.platform.plugins.module_utils import _slot_gates as gates
from ansible_collections.linkrift.platform.plugins.module_utils import _slot_steps as steps
from ansible_collections.linkrift.platform.plugins.module_utils._gate import GateResult
from ansible_collections.linkrift.platform.plugins.module_utils._ledger import is_recorded, is_undone, record
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SLOTS, linked_release, other_slot
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import (
    Host,
    ServiceView,
    SlotError,
    SlotView,
    digest_of,
    survey,
    wished_config,
)


@dataclass
class Outcome:
    """What a wish came to."""

    host: Host
    before: ServiceView
    slot: str
    record: steps.Record
    message: str = ""
    gates: list[GateResult] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    """Names of what is different from the live slot's configuration."""
    warnings: list[str] = field(default_factory=list)
    wished: Mapping[str, Any] = field(default_factory=dict)
    """What the slot's facts will be, where check mode cannot look."""
    live: str | None = None
    """The slot that will be live, in check mode."""

    def facts(self, *, now: bool) -> dict[str, dict[str, Any]]:
        """Return the facts of both slots: as they were, or as they are now (in check mode: would be)."""
        if not now:
            return {slot: slot_facts(self.host, self.before[slot]) for slot in SLOTS}
        if not self.record.check:
            view = survey(self.host)
            return {slot: slot_facts(self.host, view[slot]) for slot in SLOTS}
        facts = self.facts(now=False)
        if self.record.changed:
            facts[self.slot].update(self.wished)
        if self.live:
            other = facts[other_slot(self.slot)]
            other.update(enabled=False, state="warm" if other["state"] == "live" else other["state"])
        return facts


def slot_facts(host: Host, view: SlotView) -> dict[str, Any]:
    """Return what there is to say of a slot, secrets excepted."""
    return {
        "state": view.state,
        "release": view.release,
        "active": view.unit.running,
        "enabled": view.unit.enabled,
        "admitted": view.admitted,
        "config_digest": digest_of(host, view.config),
        "port": host.port(view.slot),
    }


def candidate(
    host: Host, release: str, slot: str | None = None, *, replace: bool = False, check: bool = False
) -> Outcome:
    """Start a release in the slot that is not live, and gate it there; when it is live already, do nothing.

    Args:
        host: the service on its host.
        release: id of the release to run.
        slot: which slot; by default the one that is not live, or blue.
        replace: stop what is warm there, since the caller has seen that no visitor is sent to it.
        check: change nothing, tell what would be done.

    Raises:
        SlotError: it cannot be started, or did not pass. Then it was stopped, and the slot has what it had before.
        SystemdError, OSError: systemd, or a file, is out of reach.
    """
    before = survey(host)
    live = before.live
    done = steps.Record(host, check)
    try:
        steps.check_release(host, release)
        config = wished_config(host)
    except SlotError as error:
        if not check:
            raise
        name = slot or (other_slot(live.slot) if live else SLOTS[0])
        done.step("start", str)
        return Outcome(host, before, name, done, message=f"unknown until this is done: {error}")

    if live and live.unit.running and live.runs(release, config) and slot in (None, live.slot):
        return Outcome(host, before, live.slot, done, message=f"{release} is live in {live.slot} with these settings")
    if live and slot == live.slot:
        msg = f"{slot} is the live slot of {host.service}: a candidate goes into {other_slot(slot)}"
        raise SlotError(msg)
    target = before[slot or (other_slot(live.slot) if live else SLOTS[0])]
    outcome = Outcome(host, before, target.slot, done)
    outcome.settings = config.changes_from(live.config) if live else []
    outcome.wished = {
        "state": "candidate",
        "release": release,
        "active": True,
        "admitted": False,
        "config_digest": digest_of(host, config),
    }
    steps.check_unit(host, target)
    former = steps.remember(host, target.slot)
    since = host.clock.time()
    started = host.clock.monotonic()
    _keep(done, target.slot)
    if not target.runs(release, config):
        _make_room(outcome, live, target, replace=replace)
        steps.check_port(host, survey(host)[target.slot] if not check else target, dict(config.variables))
        done.step("pin", steps.pin, host, target.slot)
        done.step("link", steps.link, host, target.slot, release)
    reason = ""
    try:
        if done.changed or not target.unit.running:
            done.step("start", steps.start, host, target.slot, host.gates.deadline)
    except SlotError as error:
        reason = str(error)
    if check:
        outcome.message = f"{release} would be started in {target.slot}" if done.changed else "it runs already"
        return outcome
    if not reason:
        left = host.gates.deadline - (host.clock.monotonic() - started)
        reason = _prove_candidate(outcome, survey(host)[target.slot], release, left, since)
    if reason:
        _abandon(outcome, release, former, since, reason)
    view = survey(host)[target.slot]
    passed = [gate.name for gate in outcome.gates if gate.verdict == "pass"]
    _note(done, view, "candidate", ["process", "version", *passed])
    outcome.message = f"{release} is up in {target.slot} and passed its gates"
    skipped = [f"{gate.name} was skipped: {gate.reason}" for gate in outcome.gates if gate.verdict == "skipped"]
    if skipped:
        outcome.message += f" ({'; '.join(skipped)})"
    return outcome


def _prove_candidate(outcome: Outcome, view: SlotView, release: str, deadline: float, since: float) -> str:
    """Run the gates of a candidate; return why it did not pass, or an empty text.

    What it complained of counts from its start on, even if an earlier run started it. Visitors may have been on one
    that is admitted: there, what counts is what it says now.
    """
    host = outcome.host
    heard_since = since if view.admitted else gates.began(host, view)
    outcome.gates.extend(gates.prove(host, view, release, deadline, since=heard_since))
    last = outcome.gates[-1]
    return "" if last.passed else last.reason


def _keep(done: steps.Record, slot: str) -> None:
    """Take the timer of a slot away that was warm: it is going to serve, or to stop now."""
    if cooling.is_cooling(done.host, slot):
        done.step("keep", cooling.keep, done.host, slot)


def _make_room(outcome: Outcome, live: SlotView | None, target: SlotView, *, replace: bool) -> None:
    """Stop what a slot was left with, unless visitors may be on it."""
    host, done = outcome.host, outcome.record
    if live and target.state == "warm" and not replace:
        msg = (
            f"{target.slot} still runs {target.release} and is admitted, so visitors may be on it: take it out of "
            f"rotation, stop it (linkrift.platform.slot, service: {host.service}, slot: {target.slot}, "
            "state: stopped), and repeat this"
        )
        raise SlotError(msg)
    if target.admitted:
        done.step("withdraw", steps.withdraw, host, target.slot)
    if not target.unit.stopped:
        done.step("stop", steps.stop, host, target.slot)
    _give_back(outcome, live)


def _abandon(outcome: Outcome, release: str, former: steps.Former, since: float, reason: str) -> NoReturn:
    """Undo a candidate that did not pass, and say why."""
    host, slot, live = outcome.host, outcome.slot, outcome.before.live
    view = survey(host)[slot]
    standing = f"{live.slot} ({live.release}) is live as before" if live else "nothing is live yet"
    undo = []
    with steps.evidence(host, slot, since) as found:
        steps.show_last(found, outcome.gates)
        if view.admitted:
            left = f"The slot stays as it is, since it is admitted; {standing}"
        else:
            try:
                steps.stop(host, slot)
                if outcome.record.changed:
                    steps.restore(host, slot, former)
                left = f"The slot is stopped again; {standing}"
            except (SlotError, OSError) as error:
                undo.append(str(error))
                left = f"It could not be undone ({error}); {standing}"
    try:
        record(host.layout, steps.entry(host, view, "candidate", [], reason))
    except OSError as error:
        undo.append(f"the ledger cannot be written: {error}")
    msg = (
        f"{release} did not pass as the candidate of {host.service} in {slot}: {reason}. {left}. The evidence is in "
        "`evidence`; correct the release or its settings, and repeat this"
    )
    raise SlotError(
        msg, slot=slot, evidence=found, gate=_last_gate(outcome), gates=_all_gates(outcome), undo_failed=undo
    )


def _last_gate(outcome: Outcome) -> dict[str, Any]:
    return outcome.gates[-1].as_dict() if outcome.gates else {}


def _all_gates(outcome: Outcome) -> list[dict[str, Any]]:
    return [gate.as_dict() for gate in outcome.gates]


def _note(done: steps.Record, view: SlotView, action: str, passed: list[str]) -> None:
    """Add to the ledger what was done, or what an interrupted run did and could not add."""
    if done.check:
        if done.changed:
            done.step("ledger", str)
        return
    entry = steps.entry(done.host, view, action, passed)
    if done.changed or not is_recorded(done.host.layout, entry):
        done.step("ledger", record, done.host.layout, entry)


def admitted(host: Host, slot: str | None = None, release: str | None = None, *, check: bool = False) -> Outcome:
    """Let a slot work: its `/health` turns from 404 to 200. A worker first has the other one pause and flush.

    On a drained host the slot must be ready first, as a candidate is; then the host is not drained any more.

    Args:
        host: the service on its host.
        slot: which slot; by default the live one, or, with nothing live, the one that runs.
        release: what it must run.
        check: change nothing, tell what would be done.

    Raises:
        SlotError: it does not run, or did not become healthy. Then it is not admitted (unless it is live).
        SystemdError, OSError: systemd, or a file, is out of reach.
    """
    before = survey(host)
    done = steps.Record(host, check)
    target = _named(host, before, slot, release, check=check)
    outcome = Outcome(host, before, target.slot if target else SLOTS[0], done)
    outcome.wished = {"admitted": True, **({} if target and target.live else {"state": "warm"})}
    if target is None or target.unit.stopped:
        if not check:
            standing = f"{target.slot} does not run" if target else "neither slot runs"
            msg = f"{host.service}: {standing}. Start a release there with state=candidate first"
            raise SlotError(msg)
        done.step("admit", str)
        outcome.message = "unknown until a candidate runs"
        return outcome
    since = host.clock.time()
    if before.drained:
        if not target.admitted and not check:
            _prove_ready(outcome, target, since)
        done.step("undrain", steps.unmark_drained, host)
    _keep(done, target.slot)
    other = before[other_slot(target.slot)]
    handed_over = host.is_worker and other.admitted
    if handed_over:
        done.step("pause", _pause, outcome, other)
    if not target.admitted:
        done.step("admit", steps.admit, host, target)
    if check:
        _note(done, target, "admitted", [])
        return outcome
    gate = steps.await_health(host, target, 200)
    outcome.gates.append(gate)
    if not gate.passed:
        with steps.evidence(host, target.slot, since) as found:
            if gate.last:
                found["answer"] = gate.last.as_dict()
            if not target.live:
                steps.withdraw(host, target.slot)
            if handed_over:
                steps.admit(host, other)
        left = "It stays admitted, since it is live" if target.live else "It is not admitted any more"
        msg = (
            f"{target.slot} of {host.service} is admitted, but {gate.reason}. {left}. The evidence is in `evidence`; "
            "correct what it shows, and repeat this"
        )
        raise SlotError(msg, slot=target.slot, evidence=found, gate=gate.as_dict())
    _note(done, target, "admitted", ["health"])
    outcome.message = f"{target.slot} is admitted"
    return outcome


def _prove_ready(outcome: Outcome, target: SlotView, since: float) -> None:
    """Have a slot that was drained pass the gates of a candidate before it works again."""
    host = outcome.host
    # What it complained of while it was live, or while its host was worked on, says nothing about now.
    outcome.gates.extend(gates.prove(host, target, target.release or "", host.gates.deadline, since=None))
    gate = outcome.gates[-1]
    if gate.passed:
        return
    with steps.evidence(host, target.slot, since) as found:
        steps.show_last(found, outcome.gates)
    msg = (
        f"{target.slot} of {host.service} is not ready: {gate.reason}. It stays drained. The evidence is in "
        "`evidence`; correct what it shows, and repeat this"
    )
    raise SlotError(msg, slot=target.slot, evidence=found, gate=gate.as_dict())


def _pause(outcome: Outcome, other: SlotView) -> None:
    """Have a worker pause, flush and acknowledge; when it does not, let it go on as before."""
    host = outcome.host
    steps.withdraw(host, other.slot)
    if other.unit.stopped:
        return
    gate = steps.await_paused(host, other)
    outcome.gates.append(gate)
    if not gate.passed and not steps.dead(host, other.slot):
        steps.admit(host, other)
        msg = (
            f"the worker in {other.slot} did not hand over: {gate.reason}. It goes on as before; see its journal "
            f"(journalctl -u {other.unit.name}), and repeat this"
        )
        raise SlotError(msg, slot=other.slot, gate=gate.as_dict())


def live(host: Host, slot: str | None = None, release: str | None = None, *, check: bool = False) -> Outcome:
    """Commit: make a slot the live one, which a reboot brings back, and write it into the ledger.

    One that is live already, but was stopped or lost its admission, is brought back; on a drained host it is started,
    and not admitted.

    Args:
        host: the service on its host.
        slot: which slot; by default the live one, or, with nothing live, the one that is admitted.
        release: what it must run.
        check: change nothing, tell what would be done.

    Raises:
        SlotError: it does not run or is not admitted; or it is live and does not come back.
        SystemdError, OSError: systemd, or a file, is out of reach.
    """
    before = survey(host)
    done = steps.Record(host, check)
    target = _named(host, before, slot, release, check=check)
    outcome = Outcome(host, before, target.slot if target else SLOTS[0], done, live=target.slot if target else None)
    if target is None or (not target.live and not (target.unit.running and target.admitted)):
        if not check:
            found = "neither slot runs"
            if target:
                admission = "admitted" if target.admitted else "not admitted"
                found = f"{target.slot} is {target.unit.describe()} and {admission}"
            msg = (
                f"{host.service}: {found}. Only a slot that is up and admitted can be made live: "
                "use state=candidate, then state=admitted"
            )
            raise SlotError(msg)
        done.step("commit", str)
        outcome.message = "unknown until a candidate is admitted"
        return outcome
    admitted_then = not (before.drained and target.live)
    outcome.wished = {"state": "live", "enabled": True, "active": True, "admitted": admitted_then or target.admitted}
    _keep(done, target.slot)
    other = before[other_slot(target.slot)]
    if target.live:
        _bring_back(outcome, target, other)
    # Until the one step `name_live`, a reboot brings the old slot back (and the new one as well); after it, the new.
    if not target.unit.enabled:
        done.step("enable", host.systemd.enable, target.unit.name)
    if not target.live:
        done.step("name_live", steps.name_live, host, target.slot)
    if target.release and linked_release(host.layout.current_link(host.service)) != target.release:
        done.step("current", steps.link_current, host, target.release)
    if other.unit.enabled:
        done.step("disable", host.systemd.disable, other.unit.name)
    _note(done, target, "live", ["admitted"])
    outcome.message = f"{target.slot} ({target.release}) is live"
    if not admitted_then:
        outcome.message += ", and drained: the playbook undrain brings it back"
    return outcome


def _bring_back(outcome: Outcome, target: SlotView, other: SlotView) -> None:
    """Start and admit the live slot again, on what it was pinned to, after somebody stopped it."""
    host, done = outcome.host, outcome.record
    since = host.clock.time()
    # A worker that handed over is meant to be paused: the other one works, and is about to be committed.
    drained = outcome.before.drained
    if not target.admitted and not drained and not (host.is_worker and other.admitted):
        done.step("admit", steps.admit, host, target)
    if not target.unit.running:
        done.step("start", steps.start, host, target.slot, host.gates.deadline)
    if done.check or drained or not done.changed:
        return
    gate = steps.await_health(host, target, 200)
    outcome.gates.append(gate)
    if not gate.passed:
        with steps.evidence(host, target.slot, since) as found:
            if gate.last:
                found["answer"] = gate.last.as_dict()
        msg = f"{target.slot} is the live slot of {host.service} and was started again, but {gate.reason}"
        raise SlotError(msg, slot=target.slot, evidence=found, gate=gate.as_dict())


def drained(host: Host, slot: str | None = None, release: str | None = None, *, check: bool = False) -> Outcome:
    """Have the live slot take no work, and keep it so through reboots and reruns, until it is admitted again.

    Its process goes on. Balancers that ask see a standby; a worker pauses, flushes and acknowledges what it has.

    Args:
        host: the service on its host.
        slot: which slot; the live one, or nothing happens.
        release: what it must run, when it runs.
        check: change nothing, tell what would be done.

    Raises:
        SlotError: another slot is live; or it goes on working.
        SystemdError, OSError: systemd, or a file, is out of reach.
    """
    before = survey(host)
    done = steps.Record(host, check)
    target = before.live
    outcome = Outcome(host, before, target.slot if target else slot or SLOTS[0], done)
    if target is None:
        outcome.message = f"nothing of {host.service} is live, so there is nothing to drain"
        return outcome
    if slot not in (None, target.slot):
        msg = f"{target.slot} is the live slot of {host.service}, and what takes no work already is not drained"
        raise SlotError(msg)
    _check_runs(target, release)
    outcome.wished = {"admitted": False}
    if not before.drained:
        done.step("mark", steps.mark_drained, host)
    if target.admitted:
        done.step("withdraw", steps.withdraw, host, target.slot)
    if not check and not target.unit.stopped:
        gate = steps.await_paused(host, target) if host.is_worker else steps.await_health(host, target, 404)
        outcome.gates.append(gate)
        if not gate.passed and not steps.dead(host, target.slot):
            msg = (
                f"{target.slot} of {host.service} is not admitted any more, but {gate.reason}. See its journal "
                f"(journalctl -u {target.unit.name}), and repeat this"
            )
            raise SlotError(msg, slot=target.slot, gate=gate.as_dict())
    _note(done, target, "drained", ["standby"])
    outcome.message = f"{target.slot} is drained"
    return outcome


def warm(
    host: Host, slot: str | None = None, release: str | None = None, *, seconds: float = 900, check: bool = False
) -> Outcome:
    """Keep what served before running for a while, so that traffic can go back at once; then a timer stops it.

    Args:
        host: the service on its host; no worker, of which only one works.
        slot: which slot; by default the one that is not live.
        release: what it must run, when it runs.
        seconds: how long; a timer that runs already goes on.
        check: change nothing, tell what would be done.

    Raises:
        SlotError: it is live, or a worker's.
        SystemdError, OSError: systemd, or a file, is out of reach.
    """
    if host.is_worker:
        msg = "a worker is not kept warm: stop it (state=stopped)"
        raise SlotError(msg)
    before = survey(host)
    done = steps.Record(host, check)
    now_live = before.live
    if now_live is None or slot == now_live.slot:
        msg = f"{f'{slot} is the live slot' if now_live else 'nothing is live'}: only what served before is kept warm"
        raise SlotError(msg)
    target = before[other_slot(now_live.slot)]
    _check_runs(target, release)
    outcome = Outcome(host, before, target.slot, done)
    if target.unit.stopped:
        outcome.message = f"{target.slot} does not run, so there is nothing to keep warm"
    elif cooling.is_cooling(host, target.slot):
        outcome.message = f"{target.slot} is warm, and its timer runs"
    else:
        done.step("cool", cooling.cool, host, target.slot, seconds)
        outcome.message = f"{target.slot} stays warm for {seconds:g} s"
    return outcome


def stopped(
    host: Host,
    slot: str | None = None,
    release: str | None = None,
    *,
    force: bool = False,
    undone: str = "",
    check: bool = False,
) -> Outcome:
    """Stop a slot: not started at boot, not admitted, a worker paused and flushed first. Never the live one.

    Args:
        host: the service on its host.
        slot: which slot; by default the one that is not live.
        release: what it must run, when it runs.
        force: even when it is live; then nothing is live afterwards.
        undone: why `release` was undone there, for the ledger; nobody goes back to it then.
        check: change nothing, tell what would be done.

    Raises:
        SlotError: it is live, or does not stop.
        SystemdError, OSError: systemd, or a file, is out of reach.
    """
    before = survey(host)
    done = steps.Record(host, check)
    now_live = before.live
    if slot is None and now_live is None:
        msg = f"nothing of {host.service} is live, so say which slot to stop"
        raise SlotError(msg)
    target = before[slot or other_slot(now_live.slot if now_live else SLOTS[0])]
    outcome = Outcome(host, before, target.slot, done)
    outcome.wished = {"state": "idle", "active": False, "enabled": False, "admitted": False}
    if target.live and not force:
        msg = f"{target.slot} is the live slot of {host.service}: make the other one live first, or use force"
        raise SlotError(msg)
    _check_runs(target, release)
    _keep(done, target.slot)
    if target.unit.enabled:
        done.step("disable", host.systemd.disable, target.unit.name)
    if target.admitted:
        done.step("withdraw", steps.withdraw, host, target.slot)
    if target.unit.active != "inactive":
        if host.is_worker and target.unit.running:
            done.step("pause", _pause_or_warn, outcome, target)
        done.step("stop", steps.stop, host, target.slot)
    if target.live:
        done.step("forget_live", steps.forget_live, host)
    _give_back(outcome, now_live if now_live and now_live.slot != target.slot else None)
    if done.changed:
        _note(done, target, "stopped", [])
    # A candidate that failed has given the slot back to what was there before, which was good.
    if (
        undone
        and release is not None
        and target.release == release
        and not is_undone(host.layout, host.service, target.slot)
    ):
        done.step("undone", record, host.layout, steps.entry(host, target, "undone", [], undone))
    outcome.message = f"{target.slot} is stopped"
    return outcome


def _pause_or_warn(outcome: Outcome, target: SlotView) -> None:
    """Have a worker pause before its end; one that cannot is stopped all the same."""
    gate = steps.await_paused(outcome.host, target)
    outcome.gates.append(gate)
    if not gate.passed:
        outcome.warnings.append(
            f"the worker in {target.slot} was stopped before it had paused: {gate.reason}. What it had not "
            "acknowledged is delivered again, and counted once"
        )


def _give_back(outcome: Outcome, now_live: SlotView | None) -> None:
    """Let the live worker work again, when an abandoned handover left it paused; a drained one stays so."""
    paused = now_live and not now_live.unit.stopped and not now_live.admitted
    if outcome.host.is_worker and now_live and paused and not outcome.before.drained:
        outcome.record.step("give_back", steps.admit, outcome.host, now_live)


def _named(host: Host, view: ServiceView, slot: str | None, release: str | None, *, check: bool) -> SlotView | None:
    """Return the slot a wish is about; None when there is none yet."""
    target = view[slot] if slot else view.live
    if target is None:
        running = [found for found in view.slots.values() if not found.unit.stopped]
        if len(running) > 1:
            msg = f"both slots of {host.service} run and none is live: say which slot"
            raise SlotError(msg)
        target = running[0] if running else None
    if target and not (check and target.unit.stopped):
        _check_runs(target, release)
    return target


def _check_runs(target: SlotView, release: str | None) -> None:
    if release is not None and not target.unit.stopped and target.release != release:
        msg = f"{target.slot} runs {target.release}, not {release}: name the right slot or release"
        raise SlotError(msg)
