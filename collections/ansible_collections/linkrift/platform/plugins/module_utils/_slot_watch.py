# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Watch slots that serve: what a candidate's gates asked once is asked again and again, while visitors are on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils import _slot_gates as gates
from ansible_collections.linkrift.platform.plugins.module_utils import _slot_steps as steps
from ansible_collections.linkrift.platform.plugins.module_utils._gate import Answer, GateResult, Verdict
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Host, SlotError, SlotView, survey
from ansible_collections.linkrift.platform.plugins.module_utils._unit_load import current_run

JOURNAL_SECONDS = 5.0
"""Reading the journal costs more than asking a slot does, so it is read less often, and at the end."""


@dataclass(frozen=True)
class Patience:
    """How long and how strictly to watch; times in seconds.

    Attributes:
        seconds: how long; 0: once.
        interval: between two looks.
        failures: wrong answers in a row that are too many.
        since: from when on lines of level error count, since the epoch; None: from the beginning of the watch, or
            from a minute before it when it looks once.
    """

    seconds: float = 0
    interval: float = 1
    failures: int = 2
    since: float | None = None


@dataclass
class Watched:
    """A slot, and what was seen of it."""

    host: Host
    view: SlotView
    pid: int
    since: float
    looks: int = 0
    wrong: int = 0
    in_row: int = 0
    first_mib: float | None = None
    memory: GateResult = field(default_factory=lambda: GateResult("memory"))
    most_mib: float = 0.0
    errors: GateResult = field(default_factory=lambda: GateResult("errors"))
    last: Answer | None = None
    reason: str = ""
    """Why it is not well; empty while it is."""
    skipped: str = ""
    """Why it got no real requests; empty when it did."""
    journal_read: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures, for results."""
        return {
            "slot": self.view.slot,
            "release": self.view.release,
            "looks": self.looks,
            "wrong": self.wrong,
            "memory": {"first_mib": self.first_mib, **self.memory.figures, "mib": self.most_mib},
            "errors": dict(self.errors.figures),
            "smoke": f"skipped: {self.skipped}" if self.skipped else "asked",
            "reason": self.reason,
        }


def begin(host: Host, slot: str | None, patience: Patience) -> Watched | None:
    """Find the slot to watch; None: nothing of the service is live here.

    Args:
        host: the service on its host.
        slot: which slot; None: the live one.
        patience: how to watch.

    Raises:
        SystemdError, OSError: systemd, or a file, is out of reach.
    """
    view = survey(host)
    target = view[slot] if slot else view.live
    if target is None:
        return None
    since = patience.since
    if since is None:
        since = host.clock.time() - (0 if patience.seconds else 60)
    watched = Watched(host, target, current_run(host.systemd, target.unit.name).pid, since)
    # What an earlier run of the unit said is over.
    watched.since = max(since, gates.began(host, target))
    watched.skipped = gates.why_no_canary(host, target.release or "")
    if not watched.pid:
        watched.reason = f"{target.unit.name} does not run: {target.unit.describe()}"
    return watched


def watch(slots: Sequence[Watched], patience: Patience) -> None:
    """Look at slots until the time is up, or one of them is not well; the findings are in the slots.

    Raises:
        SystemdError, OSError: systemd, or a file, is out of reach.
    """
    if not slots:
        return
    clock = slots[0].host.clock
    end = clock.monotonic() + patience.seconds
    while not any(slot.reason for slot in slots):
        last = clock.monotonic() + patience.interval > end
        for slot in slots:
            look(slot, patience.failures, last=last)
        if last:
            return
        clock.sleep(patience.interval)


def look(slot: Watched, failures: int, *, last: bool) -> None:
    """Look at a slot once.

    Args:
        slot: what is watched.
        failures: wrong answers in a row that are too many.
        last: it is the last look: the journal is read, and one wrong answer is one too many, since none follows.
    """
    host, view = slot.host, slot.view
    slot.looks += 1
    run = current_run(host.systemd, view.unit.name)
    if run.pid != slot.pid:
        ended = host.systemd.show(view.unit.name).describe()
        slot.reason = f"{view.unit.name} ended, or was started again, while it was watched: it is {ended}"
        return
    verdict = _ask(slot)
    slot.in_row = 0 if verdict.right else slot.in_row + 1
    slot.wrong += not verdict.right
    slot.memory = gates.weigh(host, view, run)
    mib = float(slot.memory.figures["mib"])
    slot.first_mib = mib if slot.first_mib is None else slot.first_mib
    slot.most_mib = max(slot.most_mib, mib)
    now = host.clock.monotonic()
    if last or slot.journal_read is None or now - slot.journal_read >= JOURNAL_SECONDS:
        slot.journal_read = now
        slot.errors = gates.listen(host, view, slot.since)
    if verdict.final or slot.in_row >= failures or (last and slot.in_row):
        slot.reason = verdict.reason + (f" ({slot.in_row} times in a row)" if slot.in_row > 1 else "")
    elif not slot.memory.passed:
        slot.reason = slot.memory.reason
    elif slot.journal_read is not None and not slot.errors.passed:
        slot.reason = slot.errors.reason


def _ask(slot: Watched) -> Verdict:
    """Ask a slot for its health, and real requests; return the first thing that is wrong."""
    host, view = slot.host, slot.view
    slot.last = host.ask(view.slot, "/health", view.variables)
    admitted = _admitted(host, view.slot)
    verdict = judge_serving(slot.last, view.release or "", admitted=admitted)
    if verdict.right and host.is_worker and admitted:
        verdict = judge_work(slot.last, host.gates.overdue)
    if verdict.right and not slot.skipped:
        requests = gates.smoke_of(host, view)
        slot.last = requests.ask()
        verdict = requests.judge(slot.last)
    return verdict


def judge_serving(answer: Answer, release: str, *, admitted: bool) -> Verdict:
    """Judge `/health` of a slot that serves: 200, or, on a drained host, 404; from the right release."""
    expected = 200 if admitted else 404
    version = answer.body.get("version")
    if answer.status != expected:
        said = answer.error if answer.status is None else f"{answer.status}"
        return Verdict(f"/health answers {said}, not {expected}")
    if version != release:
        return Verdict(f"release {version} answers, not {release}: something else listens there", final=True)
    return Verdict()


def judge_work(answer: Answer, overdue: float) -> Verdict:
    """Judge `/health` of a worker that is admitted: it takes clicks, and stores them within some seconds."""
    if answer.body.get("paused") is True:
        return Verdict("the worker is paused, though it is admitted")
    late = answer.body.get("overdue_seconds", 0.0)  # older releases do not tell
    if not isinstance(late, (int, float)):
        return Verdict(f"/health has overdue_seconds {late!r}, which is no number", final=True)
    if late > overdue:
        return Verdict(
            f"the worker has had clicks to store for {late:g} s, of {overdue:g} s at most: its journal says why"
        )
    return Verdict()


def _admitted(host: Host, slot: str) -> bool:
    return host.layout.admission_file(host.service, slot).exists()


def refuse(slots: Sequence[Watched]) -> None:
    """Raise with evidence when a slot is not well.

    Raises:
        SlotError: one of them is not.
    """
    bad = [slot for slot in slots if slot.reason]
    if not bad:
        return
    told = "; ".join(f"{slot.host.service} in {slot.view.slot} ({slot.view.release}): {slot.reason}" for slot in bad)
    evidence = {slot.host.service: _evidence(slot) for slot in bad}
    msg = f"{told}. The evidence is in `evidence`"
    raise SlotError(msg, evidence=evidence, services={slot.host.service: slot.as_dict() for slot in slots})


def _evidence(slot: Watched) -> dict[str, Any]:
    with steps.evidence(slot.host, slot.view.slot, slot.since) as found:
        if slot.last:
            found["answer"] = slot.last.as_dict()
        if slot.errors.lines:
            found["errors"] = list(slot.errors.lines)
    return found
