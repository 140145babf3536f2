# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._gate import Answer
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES, SLOTS, Layout, append_ledger
from ansible_collections.linkrift.platform.plugins.module_utils._release_facts import (
    HISTORY,
    release_facts,
    service_facts,
)
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Host
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed, Systemd
from ansible_collections.linkrift.platform.tests.unit.release_fakes import (
    fake_process,
    pretend_installed,
    use,
    went_live,
)

A, B = "1.0+aaaaaaaaaaaa", "1.1+bbbbbbbbbbbb"


def hosts(active: Sequence[str] = (), *, working: bool = True, timers: str = "") -> Any:
    """Return what makes hosts whose systemd knows these units as running, and says this of timers."""

    def systemctl(command: Sequence[str], deadline: float) -> Completed:
        if not working:
            return Completed(1, "", "System has not been booted with systemd as init system")
        if command[-1].endswith(".timer"):
            return Completed(0, timers, "")
        running = command[-1] in active
        lines = {"LoadState": "loaded" if running else "not-found", "ActiveState": "active" if running else "inactive"}
        return Completed(0, "".join(f"{name}={value}\n" for name, value in lines.items()), "")

    return lambda service, layout: Host(service, layout, Systemd(systemctl))


def test_a_bare_host_has_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert release_facts(layout) == []
    facts, warnings = service_facts(layout, SERVICES, hosts())
    assert warnings == []
    for service in SERVICES:
        assert (facts[service]["live"], facts[service]["current"]) == (None, None)
        for slot in SLOTS:
            found = facts[service]["slots"][slot]
            assert (found["release"], found["active"], found["admitted"], found["config_digest"]) == (
                None,
                False,
                False,
                None,
            )
    assert list(tmp_path.iterdir()) == [], "looking leaves no trace"


def test_a_host_without_systemd_is_a_warning(tmp_path: Path) -> None:
    facts, warnings = service_facts(Layout(tmp_path), ["api"], hosts(working=False))
    ledger = {"history": [], "undone": {}, "last": None}
    assert facts == {
        "api": {
            "live": None,
            "drained": False,
            "rendered": None,
            "slots": {},
            "current": None,
            "health": None,
            **ledger,
        }
    }
    assert "the slots of api cannot be looked at" in warnings[0]


def test_releases_and_who_uses_them(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    pretend_installed(layout, A)
    pretend_installed(layout, B, complete=False)
    use(layout, "api", "blue", A)
    use(layout, "api", "current", A)
    went_live(layout, A, "2026-01-01T00:00:00.000Z")
    fake_process(layout, 9, cwd=str(layout.release(B)))
    first, second = release_facts(layout)
    assert first["record"]["id"] == A
    del first["record"]
    assert first == {
        "processes": [],
        "id": A,
        "path": str(layout.release(A)),
        "complete": True,
        "good": True,
        "used_by": ["api/blue", "api/current"],
    }
    assert (second["complete"], second["good"], second["processes"], second["record"]) == (False, False, [9], None)


def test_what_the_slots_do(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    use(layout, "api", "blue", A)
    use(layout, "api", "green", B)
    use(layout, "api", "current", A)
    (layout.base / "api/live").symlink_to("blue")
    admission = layout.admission_file("api", "blue")
    admission.parent.mkdir(parents=True)
    admission.write_text(json.dumps({}))
    facts, _dummy = service_facts(layout, ["api"], hosts(["linkrift-api@blue.service"]))
    assert (facts["api"]["live"], facts["api"]["current"]) == ("blue", A)
    blue, green = facts["api"]["slots"]["blue"], facts["api"]["slots"]["green"]
    assert (blue["state"], blue["release"], blue["active"], blue["admitted"]) == ("live", A, True, True)
    assert (green["state"], green["release"], green["active"], green["admitted"]) == ("idle", B, False, False)


@pytest.mark.parametrize("content", ["{", "[]", '{"id": "other"}'])
def test_a_record_that_is_not_its_own_does_not_count(content: str, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    pretend_installed(layout, A)
    layout.release_record(A).write_text(content)
    (found,) = release_facts(layout)
    assert not found["complete"]


def test_when_a_warm_slot_is_stopped(tmp_path: Path) -> None:
    timers = (
        "Id=linkrift-cool-api-blue.timer\nActiveState=inactive\nNextElapseUSecRealtime=\n\n"
        "Id=linkrift-cool-api-green.timer\nActiveState=active\nNextElapseUSecRealtime=Sun 2026-11-22 00:00:00 UTC\n"
    )
    facts, _dummy = service_facts(Layout(tmp_path), ["api"], hosts(timers=timers))
    assert {slot: found["warm_until"] for slot, found in facts["api"]["slots"].items()} == {
        "blue": None,
        "green": 1795305600,
    }


def test_what_the_ledger_tells(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    went_live(layout, A, "2026-01-01T00:00:00.000Z")
    went_live(layout, B, "2026-01-02T00:00:00.000Z", slot="green", config_digest="1")
    went_live(layout, B, "2026-01-03T00:00:00.000Z", failed="not healthy")
    undone = {"time": "2026-01-04T00:00:00.000Z", "release": B, "action": "undone", "slot": "green", "by": "ops"}
    append_ledger(layout.ledger("api"), undone)
    facts, _dummy = service_facts(layout, ["api"], hosts())
    assert facts["api"]["history"] == [{"time": "2026-01-01T00:00:00.000Z", "release": A, "slot": "blue"}]
    assert facts["api"]["undone"] == {B: "2026-01-04T00:00:00.000Z"}
    assert facts["api"]["last"] == undone


def test_an_answer_stays_small_when_the_ledger_does_not(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for number in range(HISTORY + 5):
        went_live(layout, A, f"2026-01-01T00:00:00.{number:03}Z")
    facts, _dummy = service_facts(layout, ["api"], hosts())
    assert len(facts["api"]["history"]) == HISTORY
    assert facts["api"]["history"][-1]["time"].endswith(f"{HISTORY + 4:03}Z")


def test_how_the_live_slot_is(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    asked: list[tuple[str, str]] = []

    class Answering(Host):
        def ask(self, slot: str, path: str, variables: Any) -> Answer:
            asked.append((slot, path))
            return Answer(200, {"status": "ok", "version": A, "checks": {}})

    def make(service: str, layout: Layout) -> Host:
        return Answering(service, layout, hosts()(service, layout).systemd)

    facts, _dummy = service_facts(layout, ["api"], make, health=True)
    assert (facts["api"]["health"], asked) == (None, []), "nothing is live"
    use(layout, "api", "green", A)
    (layout.base / "api/live").symlink_to("green")
    facts, _dummy = service_facts(layout, ["api"], make, health=True)
    assert facts["api"]["health"] == {"code": 200, "status": "ok", "version": A, "error": ""}
    assert asked == [("green", "/health")]
    facts, _dummy = service_facts(layout, ["api"], make)
    assert (facts["api"]["health"], len(asked)) == (None, 1), "only when somebody wants to know"
