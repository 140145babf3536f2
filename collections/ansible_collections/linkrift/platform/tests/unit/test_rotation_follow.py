# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When a balancer follows its hosts: every situation that rollouts, drains and losses bring about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._rotation_follow import (
    Finding,
    HostView,
    SlotView,
    Word,
    judge,
)

FILE_AGE = 100.0
BEFORE, SINCE = 500.0, 40.0
"""Seconds ago: before the balancer was last told anything, and since."""


def word(
    status: int | None, live: str | None = "blue", committed: float | None = BEFORE, admitted: float = BEFORE
) -> Word:
    """Return what a slot says."""
    return Word(status, live, committed, admitted if status == 200 else None) if status else Word()


def host(blue: SlotView, green: SlotView, name: str = "app1") -> HostView:
    return HostView(name, {"blue": blue, "green": green}, FILE_AGE)


def ready(said: Word, *, serves: bool = True) -> SlotView:
    return SlotView("ready", serves, said)


def drain(said: Word) -> SlotView:
    return SlotView("drain", False, said)


def maint(said: Word) -> SlotView:
    return SlotView("maint", False, said)


GONE = word(None)
STILL_BLUE = word(200, "blue", BEFORE)
"""Blue is live since before the file was written."""
NOW_GREEN = word(200, "green", SINCE)
"""Green was made live since."""
SERVING = host(ready(STILL_BLUE), maint(GONE), "app9")

NOTHING = {
    "as it was": host(ready(STILL_BLUE), maint(GONE)),
    "live slot crashed, nothing beside it": host(ready(GONE, serves=False), maint(GONE)),
    "live slot crashed, an older release is warm": host(ready(word(503), serves=False), maint(STILL_BLUE)),
    "made live since, and died": host(ready(word(200, "green", SINCE)), maint(GONE)),
    "nobody answers": host(ready(GONE, serves=False), maint(GONE)),
    # A rollout, step by step.
    "candidate is up": host(ready(STILL_BLUE), maint(word(404))),
    "candidate is admitted": host(ready(STILL_BLUE), maint(STILL_BLUE)),
    "candidate waits for this balancer's check": host(ready(STILL_BLUE), drain(STILL_BLUE)),
    "both take visitors": host(ready(STILL_BLUE), ready(STILL_BLUE)),
    "both take visitors, and the new one dies": host(ready(STILL_BLUE), ready(GONE, serves=False)),
    "old slot drains": host(drain(STILL_BLUE), ready(STILL_BLUE)),
    "switched, not committed": host(maint(STILL_BLUE), ready(STILL_BLUE)),
    "committed": host(maint(word(200, "green", SINCE)), ready(word(200, "green", SINCE))),
    "committed, the old slot was stopped": host(maint(GONE), ready(word(200, "green", SINCE))),
    "committed at the moment of the switch": host(maint(STILL_BLUE), ready(word(200, "blue", FILE_AGE))),
    # Undone after the commit: balancers first.
    "sent back, not committed": host(ready(word(200, "green", BEFORE)), maint(word(200, "green", BEFORE))),
    "back, and the bad one was stopped": host(ready(word(200, "blue", SINCE)), maint(GONE)),
    "back, bad one dies before the commit": host(ready(word(200, "green", BEFORE)), maint(GONE)),
    # Drains.
    "out of the rotation, not yet told itself": host(drain(STILL_BLUE), maint(GONE)),
    "drained": host(drain(word(404)), maint(GONE)),
    "drained while this balancer was away": host(ready(word(404), serves=False), maint(GONE)),
    "drained with both slots running": host(drain(word(404)), drain(word(404))),
    "drained, and rebooting": host(drain(GONE), maint(GONE)),
    "taken out by hand": host(maint(STILL_BLUE), maint(GONE)),
    "taken out by hand, made live since": host(maint(NOW_GREEN), maint(NOW_GREEN)),
    "new here, not let in yet": host(maint(word(200, "blue", SINCE, SINCE)), maint(GONE)),
    # Releases that do not say which slot is live.
    "unknown, both answer": host(ready(word(200, None, None)), maint(word(200, None, None))),
    "unknown, both take visitors, and one dies": host(ready(GONE, serves=False), ready(word(200, None, None))),
    "unknown, drained": host(drain(word(200, None, None)), maint(GONE)),
    "unknown, taken out by hand": host(maint(word(200, None, None)), maint(GONE)),
    "says nonsense": host(ready(GONE, serves=False), maint(word(503, "purple"))),
}


@pytest.mark.parametrize("situation", NOTHING)
def test_nothing_is_to_be_done(situation: str) -> None:
    assert judge([NOTHING[situation], SERVING]) == []


SOMETHING = {
    "missed a rollout, the old slot is warm": (
        host(ready(NOW_GREEN), maint(NOW_GREEN)),
        "green",
        False,
        "made live 40 s",
    ),
    "missed a rollout, the old slot was stopped": (
        host(ready(GONE, serves=False), maint(NOW_GREEN)),
        "green",
        True,
        "blue does not answer and green is live",
    ),
    "missed a rollback": (
        host(maint(word(200, "blue", SINCE)), ready(word(200, "blue", SINCE))),
        "blue",
        False,
        "made live 40 s",
    ),
    "missed it, and what it knows was drained of visitors": (
        host(ready(word(404, "green", SINCE), serves=False), maint(word(200, "green", SINCE))),
        "green",
        True,
        "does not answer",
    ),
    "missed that the host was brought back": (
        host(drain(word(200, "blue", BEFORE, SINCE)), maint(GONE)),
        "blue",
        False,
        "works again since 40 s",
    ),
    "missed a deploy and that the host was brought back": (
        host(drain(GONE), maint(word(200, "green", SINCE, SINCE))),
        "green",
        False,
        "works again since 40 s",
    ),
    "drained on both sides, brought back": (
        host(drain(word(200, "blue", BEFORE, SINCE)), drain(word(404, "blue", BEFORE))),
        "blue",
        False,
        "works again",
    ),
    "switched, not committed, and the new one died": (
        host(maint(STILL_BLUE), ready(GONE, serves=False)),
        "blue",
        True,
        "green does not answer and blue is live",
    ),
    "unknown, only the other one answers": (
        host(ready(GONE, serves=False), maint(word(200, None, None))),
        "green",
        True,
        "blue does not answer and green does",
    ),
}


@pytest.mark.parametrize("situation", SOMETHING)
def test_the_hosts_are_followed(situation: str) -> None:
    view, slot, urgent, why = SOMETHING[situation]
    found = judge([view, SERVING])
    assert [(finding.host, finding.slot, finding.urgent) for finding in found] == [("app1", slot, urgent)]
    assert why in found[0].why


def test_where_nobody_serves_an_older_release_is_better_than_an_error() -> None:
    crashed = host(ready(word(503), serves=False), maint(STILL_BLUE))
    assert judge([crashed, SERVING]) == []
    (found,) = judge([crashed, replace(SERVING, slots=crashed.slots, host="app2")][:1])
    assert found == Finding(
        "app1",
        "green",
        "nothing else of the service answers; blue does not answer and green does",
        urgent=True,
        borrowed=True,
    )


def test_what_was_borrowed_is_given_back() -> None:
    """Otherwise a switch that was not committed looks the same, and is somebody else's business."""
    lent = host(maint(STILL_BLUE), ready(STILL_BLUE))
    assert judge([lent]) == []
    assert judge([replace(lent, borrowed=True)]) == [
        Finding("app1", "blue", "blue is live and answers again", urgent=False, returns=True)
    ]


@pytest.mark.parametrize(
    "situation", ["out of the rotation, not yet told itself", "taken out by hand", "unknown, drained"]
)
def test_what_somebody_took_out_stays_out_even_when_nobody_serves(situation: str) -> None:
    assert judge([NOTHING[situation]]) == []


def test_each_host_is_judged_by_itself() -> None:
    missed = host(ready(NOW_GREEN), maint(NOW_GREEN), "app2")
    assert [finding.host for finding in judge([SERVING, missed])] == ["app2"]
