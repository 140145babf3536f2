"""The balancer with the shared address was lost while visitors came (balancer_lost.yml): what they noticed of it."""

from __future__ import annotations

import functools
import itertools
import json
from dataclasses import dataclass

import pytest

from tools.testing.lab_hosts import find_lab, get_host

# 1.1 s at rest. The machine that the lab is on has other things to do, and takes its time to end a host.
SILENCE = 5.0


@dataclass(frozen=True)
class Request:
    """One request of the load: when it began and ended (seconds since the host was to be lost), and how."""

    began: float
    ended: float
    fine: bool


@functools.cache
def lost() -> dict[str, object]:
    phase = json.loads((find_lab().directory / "releases.json").read_text(encoding="utf-8"))["balancer_lost"]
    found: dict[str, object] = phase["seen"]
    return found


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    at = float(str(lost()["at"]))
    lines = get_host("client1").file("/run/linkrift-load/balancer_lost.samples").content_string.splitlines()
    found = [tuple(map(float, line.split())) for line in lines]
    return [Request(began - at, began - at + took / 1000, bool(fine)) for began, took, fine in found]


def test_visitors_were_without_an_answer_for_seconds_only(requests: list[Request]) -> None:
    answers = sorted(request.ended for request in requests if request.fine)
    assert max(later - earlier for earlier, later in itertools.pairwise(answers)) < SILENCE
    assert len(answers) > 500


def test_only_what_was_open_and_what_came_meanwhile_failed(requests: list[Request]) -> None:
    failed = [request for request in requests if not request.fine]
    assert failed, "the host was not lost"
    first = min(request.ended for request in failed)
    assert first > 0
    # Nor did anything fail when the host came back.
    assert max(request.began for request in failed) < first + SILENCE


def test_the_address_stays_when_the_host_is_back() -> None:
    assert lost()["moved_back"] == []
