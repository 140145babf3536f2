# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide where a balancer's rotation has to follow what its hosts say, because it was away when it was changed.

Module rotation is told by whoever runs a rollout, and knows more than a host can say: a slot that answers 200 may be a
candidate that nobody may be sent to yet, a warm one, or one that is being left. So a host is believed against the
backends file in two cases only:

- What it says is *younger than the file* is in what it says of that host: the slot was made live, or let work again,
  after this balancer was last told of it. A run tells the balancers first and the host last, so during a run the file
  is always the younger one.
- The slot that visitors are sent to does not answer, and the live one does. Then there is nothing to lose.

A host where nothing is `ready` was taken out by somebody, and stays out, but for the first case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.linkrift.platform.plugins.module_utils._paths import SLOTS, other_slot


@dataclass(frozen=True)
class Word:
    """What a slot answers at its health path.

    Attributes:
        status: of the answer; None without one.
        live_slot: which slot is live on its host; None: it does not say.
        live_seconds: since when.
        admitted_seconds: since when it is admitted itself.
    """

    status: int | None = None
    live_slot: str | None = None
    live_seconds: float | None = None
    admitted_seconds: float | None = None

    @property
    def good(self) -> bool:
        """It takes visitors."""
        return self.status == 200


@dataclass(frozen=True)
class SlotView:
    """A slot as the balancer and the slot itself see it.

    Attributes:
        state: what it is for the balancer: `ready`, `drain` or `maint`.
        serves: visitors who are sent there get answers, as far as the balancer knows.
        word: what the slot says.
    """

    state: str
    serves: bool
    word: Word


@dataclass(frozen=True)
class HostView:
    """A host's two slots of one service.

    Attributes:
        told_seconds: since when the balancer has these states for them.
        borrowed: the slot that is not live was let in because nobody else served, and nothing was changed since.
    """

    host: str
    slots: Mapping[str, SlotView]
    told_seconds: float
    borrowed: bool = False

    @property
    def live(self) -> tuple[str, float | None] | None:
        """Return the live slot, and for how many seconds it is that, as either slot says; None: neither says."""
        for view in self.slots.values():
            if view.word.live_slot in SLOTS:
                return view.word.live_slot, view.word.live_seconds
        return None


@dataclass(frozen=True)
class Finding:
    """A slot that has to take the place of its host's other one.

    Attributes:
        host: the host.
        slot: which slot.
        why: for people.
        urgent: whoever is sent to this host gets no answer; otherwise there is time to see whether a run is at it.
        borrowed: it is not the live one, which is to be back in its place once it answers.
        returns: it is that live one.
    """

    host: str
    slot: str
    why: str
    urgent: bool
    borrowed: bool = False
    returns: bool = False


def judge(hosts: Sequence[HostView]) -> list[Finding]:
    """Return what has to change for one service, given all of its hosts."""
    found = [finding for host in hosts if (finding := _judge_host(host))]
    if not found and not any(view.serves and view.state == "ready" for host in hosts for view in host.slots.values()):
        # Nobody serves the service at all: whoever takes visitors is better than an error, be it the older release.
        found = [finding for host in hosts if (finding := _last_resort(host))]
    return found


def _judge_host(host: HostView) -> Finding | None:
    if host.live is None:
        # It runs a release that does not say; of one slot that answers there can be no doubt.
        return _instead(host)
    live, seconds = host.live
    view, other = host.slots[live], host.slots[other_slot(live)]
    if view.state == "ready" or not view.word.good:
        return None
    if other.state == "ready":
        if not other.serves:
            return Finding(host.host, live, f"{other_slot(live)} does not answer and {live} is live", urgent=True)
        if seconds is not None and seconds < host.told_seconds:
            return Finding(host.host, live, f"{live} was made live {seconds:.0f} s ago, unknown here", urgent=False)
        if host.borrowed:
            return Finding(host.host, live, f"{live} is live and answers again", urgent=False, returns=True)
    elif "drain" in (view.state, other.state):
        seconds = view.word.admitted_seconds
        if seconds is not None and seconds < host.told_seconds:
            return Finding(host.host, live, f"{live} works again since {seconds:.0f} s, unknown here", urgent=False)
    return None


def _instead(host: HostView) -> Finding | None:
    """Return the slot that answers where the only one that visitors are sent to does not."""
    ready = [slot for slot, view in host.slots.items() if view.state == "ready"]
    if len(ready) != 1 or host.slots[ready[0]].serves:
        return None
    slot = other_slot(ready[0])
    if not host.slots[slot].word.good:
        return None
    return Finding(host.host, slot, f"{ready[0]} does not answer and {slot} does", urgent=True)


def _last_resort(host: HostView) -> Finding | None:
    finding = _instead(host)
    if finding is None:
        return None
    why = f"nothing else of the service answers; {finding.why}"
    return Finding(host.host, finding.slot, why, urgent=True, borrowed=True)
