# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules as Ansible calls them: parameters, answers, failures."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _fleet_record, _rotation_work
from ansible_collections.linkrift.platform.plugins.module_utils import _operation_file as files
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import HaproxyDownError, HaproxyError
from ansible_collections.linkrift.platform.plugins.module_utils._rotation import Rotation
from ansible_collections.linkrift.platform.plugins.modules import rotation, rotation_info
from ansible_collections.linkrift.platform.tests.unit.rotation_fakes import FakeHaproxy, World

SERVICES = {
    "redirect": {"servers": [{"host": "app1", "address": "192.0.2.1", "ports": {"blue": 8081, "green": 8181}}]},
}
READY = [{"service": "redirect", "host": "app1", "slot": "blue", "state": "ready"}]
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module with paths of the test's own; the program that checks the file accepts everything."""

    def start(module: Any, **arguments: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "path": str(tmp_path / "backends.cfg"),
            "admin_socket": str(tmp_path / "admin.sock"),
            "master_socket": str(tmp_path / "master.sock"),
        }
        if module is rotation:
            given |= {
                "services": SERVICES,
                "main_config": str(tmp_path / "haproxy.cfg"),
                "lock_path": str(tmp_path / "lock"),
                "executable": "/bin/true",
                "group": "",
            }
        with patch_module_args(given | arguments), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return start


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A running balancer, found by both modules."""
    made = World(tmp_path / "backends.cfg", running=False)
    made.apply(SERVICES)
    made.running = True
    made.load()
    for module in (_rotation_work, rotation_info):
        monkeypatch.setattr(module, "Haproxy", lambda admin, master: FakeHaproxy(made, master is not None))
    timed = functools.partial(Rotation, clock=lambda: made.time, sleep=made.sleep)
    monkeypatch.setattr(_rotation_work, "Rotation", timed)
    return made


def test_host_without_haproxy_gets_the_file(run: Run, tmp_path: Path) -> None:
    foreseen = run(rotation, _ansible_check_mode=True)
    assert (foreseen["changed"], foreseen["diff"]["before"]) == (True, "")
    assert not (tmp_path / "backends.cfg").exists()
    result = run(rotation)
    assert (result["changed"], result["running"], result["rotation"], result["pid"]) == (True, False, {}, None)
    assert result["msg"].startswith("HAProxy does not run")
    assert result["diff"]["after"] == foreseen["diff"]["after"] == (tmp_path / "backends.cfg").read_text()
    assert not run(rotation)["changed"]
    info = run(rotation_info)
    assert (info["running"], info["loaded"], info["current"]) == (False, False, False)
    assert info["states"] == {"redirect": {"app1-blue": "maint", "app1-green": "maint"}}
    assert info["differences"] == []


def test_change_is_told_and_asked_back(run: Run, world: World) -> None:
    assert run(rotation, changes=READY, _ansible_check_mode=True)["changed"]
    result = run(rotation, changes=READY)
    assert (result["changed"], result["running"], result["reloaded"]) == (True, True, False)
    assert result["msg"] == "redirect: 1 of 2 servers take traffic"
    assert result["rotation"]["redirect"]["servers"]["app1-blue"]["takes_traffic"]
    assert "-    server app1-blue" not in result["diff"]["after"]
    assert not run(rotation, changes=READY)["changed"]
    info = run(rotation_info)
    assert (info["loaded"], info["current"], info["differences"]) == (True, True, [])
    assert (info["pid"], info["old_workers"]) == (world.pid, [])
    world.servers[("linkrift_redirect", "app1-green")].admin = "ready"
    assert run(rotation_info)["differences"] == ["redirect/app1-green: ready, the file says maint"]


def test_the_fleet_record_comes_along(run: Run, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fleet_record, "PATH", tmp_path / "fleet.json")
    assert "record" not in run(rotation_info)
    assert run(rotation_info, fleet_record=True)["record"] == {}
    (tmp_path / "fleet.json").write_text("nonsense")
    assert "fleet.json" in run(rotation_info, fleet_record=True)["msg"]


def test_failure_is_a_sentence(run: Run, world: World) -> None:
    world.health["192.0.2.1:8081"] = 404
    result = run(rotation, changes=READY, check_timeout=0.3)
    assert result["failed"]
    assert "admit the slot on its host first" in result["msg"]
    assert run(rotation, services={})["msg"] == "services: at least one service is needed"
    assert "no slot green on host app2" in run(rotation, changes=[READY[0] | {"host": "app2", "slot": "green"}])["msg"]


def test_reload_goes_through_systemd(run: Run, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run_program(command: list[str]) -> tuple[int, str]:
        asked.append(command)
        if command[0] == "systemctl":
            world.reload()
            return status, "unit is broken"
        return 0, ""

    monkeypatch.setattr(_rotation_work, "run_program", run_program)
    status = 0
    services = {"api": SERVICES["redirect"], **SERVICES}
    assert run(rotation, services=services)["reloaded"]
    assert asked[-1] == ["systemctl", "reload", "--", "haproxy.service"]
    status = 1
    result = run(rotation)
    assert result["failed"]
    assert "systemctl reload haproxy.service failed: unit is broken" in result["msg"]


def test_operation_says_what_it_is_about() -> None:
    params: dict[str, Any] = dict.fromkeys(("check_timeout", "drain_timeout", "reload_timeout", "lock_timeout"), 10.0)
    params["by"] = "me"
    wished = rotation.operation_of({**params, "services": SERVICES, "changes": READY})
    assert wished.by == "me"
    assert (wished.unit, wished.purpose) == ("linkrift-op-rotation.service", "rotation redirect/app1-blue ready")
    assert rotation.operation_of({**params, "changes": []}).purpose == "rotation of the services"
    assert wished.bound > 6 * 10
    patient = rotation.operation_of({**params, "services": SERVICES, "changes": READY, "lock_timeout": 99.0})
    assert patient.asked().identity == wished.asked().identity


def test_steps_are_told(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    real = _rotation_work.perform
    monkeypatch.setattr(_rotation_work, "perform", lambda params, progress: real(params, told.append))
    result = run(rotation, changes=READY)
    assert told == [step["what"] for step in result["steps"]]
    assert told


def test_program_that_is_missing_is_said(run: Run, tmp_path: Path) -> None:
    result = run(rotation, executable=str(tmp_path / "no-haproxy"))
    assert result["failed"]
    assert "no-haproxy" in result["msg"]
    assert not (tmp_path / "backends.cfg").exists()


def test_haproxy_without_our_backends_is_told_apart(run: Run, world: World) -> None:
    world.servers, world.digest = {}, None
    assert not run(rotation_info)["loaded"]
    result = run(rotation, reload=False)
    assert result["reload_required"]
    assert result["msg"] == "HAProxy runs, but has not loaded the backends file"


def test_info_waits_for_a_change_under_way(
    run: Run, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation_info, "HOME", tmp_path)
    path = files.create(
        tmp_path / "rotation", files.Asked("w", {}, "rotation redirect/app1-blue drain", "me", "now", "")
    )
    with files.working(path):
        [told] = run(rotation_info)["operations"]
        assert told == "rotation redirect/app1-blue drain by me, since now"
        assert told in run(rotation_info, settle=0.1)["msg"]
    assert run(rotation_info, settle=5)["operations"] == []


def test_info_says_when_haproxy_cannot_be_asked(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation_info, "_RELOAD_SECONDS", 0.1)

    def break_it(_number: int, _what: str) -> None:
        raise HaproxyError("no whole answer")

    world.at_move = break_it
    assert run(rotation_info)["msg"] == "no whole answer"


def test_info_looks_again_while_haproxy_reloads(run: Run, world: World) -> None:
    old, silent = world.pid, [3, 2, 1]

    def reload(_number: int, what: str) -> None:
        if what == "workers" and silent:
            if silent.pop() == 1:
                world.reload()
            raise HaproxyDownError("nothing listens at master")

    world.at_move = reload
    info = run(rotation_info)
    assert (info["pid"], info["old_workers"]) == (world.pid, [old]), "both of the same moment"
    assert world.pid != old
    assert silent == []


def test_info_does_not_mix_two_workers(run: Run, world: World) -> None:
    old, breaks = world.pid, ["look"]

    def reload(_number: int, what: str) -> None:
        if what == "workers" and world.pid == old:
            # After the look at the old one; the master names the new one.
            world.reload()
        elif what in breaks and world.pid != old:
            breaks.remove(what)
            raise HaproxyError("no whole answer")

    world.at_move = reload
    info = run(rotation_info)
    assert (info["pid"], info["old_workers"]) == (world.pid, [old])
    assert world.pid != old
    assert breaks == [], "what broke off is asked again"


def test_info_says_what_it_knows_without_the_master(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_number: int, what: str) -> None:
        if what == "workers":
            raise HaproxyDownError("nothing listens at master")

    # Whoever gives no such socket knows that.
    info = run(rotation_info, master_socket="")
    assert info["old_workers"] is None
    assert "named no worker" not in str(info.get("warnings"))
    world.at_move = silent
    monkeypatch.setattr(rotation_info, "_RELOAD_SECONDS", 0.1)
    info = run(rotation_info)
    assert (info["running"], info["current"], info["pid"], info["old_workers"]) == (True, True, world.pid, None)
    assert "named no worker that serves for 0.1 s" in str(info["warnings"])
