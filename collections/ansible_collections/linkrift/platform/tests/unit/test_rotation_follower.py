# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program that follows the hosts: before HAProxy starts, while it runs, and beside runs of module rotation."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path

import pytest
import yaml

from ansible_collections.linkrift.platform.plugins.module_utils import _rotation_follower as follower_code
from ansible_collections.linkrift.platform.plugins.module_utils._gate import Answer
from ansible_collections.linkrift.platform.plugins.module_utils._paths import exclusive
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import Backend, Server
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_file import BackendsFile
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_follow import Word
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_follower import (
    ASK_SECONDS,
    LOOK_SECONDS,
    PATIENCE,
    RETRY_SECONDS,
    RETURN_PATIENCE,
    Follower,
    notify,
    read_word,
    run_program,
)
from ansible_collections.linkrift.platform.tests.unit.rotation_fakes import FakeHaproxy, World
from ansible_collections.linkrift.platform.tests.unit.test_rotation import BLUE, ON_BLUE, TWO, changes, services

ON_GREEN = {"app1-green": "ready", "app2-green": "ready", "app1-blue": "maint", "app2-blue": "maint"}


class Stage:
    """A balancer that serves two hosts on blue, and what its hosts say."""

    def __init__(self, path: Path) -> None:
        self.world = World(path, running=False)
        self.world.apply(TWO, BLUE)
        self.live = dict.fromkeys(("app1", "app2"), ("blue", 500.0))
        self.admitted = 500.0
        self.says = True
        self.asked: list[str] = []
        self.said: list[str] = []
        self.world.health = {server.address: 0 for server in self.servers() if server.slot == "green"}
        rotation = self.world.rotation(TWO)
        self.follower = Follower(
            file=rotation._file,
            haproxy=FakeHaproxy(self.world),
            asker=self.ask,
            say=self.said.append,
            clock=lambda: self.world.time,
            sleep=self.world.sleep,
        )
        self.file: BackendsFile = rotation._file
        written = time.time() - 100
        os.utime(path, (written, written))

    def servers(self) -> list[Server]:
        return [
            Server(f"app{number}", slot, f"192.0.2.{number}:{port}")
            for number in (1, 2)
            for slot, port in (("blue", 8081), ("green", 8181))
        ]

    def boot(self) -> None:
        """Have HAProxy start with the file as it is."""
        self.world.running = True
        self.world.load()

    def ask(self, _backend: Backend, server: Server) -> Word:
        self.asked.append(server.name)
        status = self.world.health.get(server.address, 200)
        if not status:
            return Word()
        live = self.live[server.host] if self.says else (None, None)
        return Word(status, *live, self.admitted if status == 200 else None)

    def say(self, slot: str, status: int, *hosts: str) -> None:
        """Have slots answer from now on."""
        for server in self.servers():
            if server.slot == slot and server.host in (hosts or ("app1", "app2")):
                self.world.health[server.address] = status

    def deploy(self, *, blue: int = 200) -> None:
        """Have all hosts made green live, which this balancer is not told."""
        self.say("green", 200)
        self.say("blue", blue)
        self.live = dict.fromkeys(self.live, ("green", 40.0))

    def round(self) -> None:
        """Let a moment pass, and look."""
        self.world.sleep(LOOK_SECONDS)
        self.follower.round()

    def rounds(self, seconds: float) -> None:
        end = self.world.time + seconds
        while self.world.time < end:
            self.round()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "backends.cfg")


@pytest.mark.parametrize("blue", [200, 0, 404, 503])
def test_after_a_boot_haproxy_begins_with_what_is_live(stage: Stage, blue: int) -> None:
    stage.deploy(blue=blue)
    stage.follower.first()
    assert stage.world.states() == ON_GREEN
    assert len(stage.said) == 2
    assert stage.said[0].startswith("redirect/app1-green takes visitors now: ")
    assert stage.world.time == 0


def test_after_a_boot_a_host_that_does_not_say_what_is_live_is_believed_all_the_same(stage: Stage) -> None:
    stage.says = False
    stage.deploy(blue=0)
    stage.follower.first()
    assert stage.world.states() == ON_GREEN


def test_after_a_boot_nothing_is_changed_where_nothing_was_missed(stage: Stage) -> None:
    text = stage.world.path.read_text()
    stage.follower.first()
    assert (stage.world.path.read_text(), stage.said, len(stage.asked)) == (text, [], 4)


def test_first_look_waits_for_somebody_to_answer_but_not_for_long(stage: Stage) -> None:
    stage.say("blue", 0)
    stage.follower.first()
    assert 1 < stage.world.time < follower_code.FIRST_LOOK_SECONDS
    assert stage.world.states() == ON_BLUE
    # The network comes up while it waits.
    stage.world.time = 0
    ask = stage.ask

    def late(backend: Backend, server: Server) -> Word:
        if stage.world.time > 0.5:
            stage.deploy()
        return ask(backend, server)

    stage.follower._asker = late
    stage.follower.first()
    assert stage.world.states() == ON_GREEN


def test_one_host_that_is_away_does_not_hold_up_the_others(stage: Stage) -> None:
    stage.deploy(blue=0)
    stage.say("green", 0, "app2")
    stage.follower.first()
    assert stage.world.states() == {**ON_BLUE, "app1-green": "ready", "app1-blue": "maint"}


def test_missed_rollout_is_followed_with_patience_and_a_fresh_check(stage: Stage) -> None:
    stage.boot()
    stage.world.guarded = True
    stage.deploy()
    stage.rounds(PATIENCE - 2)
    assert stage.world.admins() == ON_BLUE
    moves: list[str] = []
    stage.world.at_move = lambda _number, what: moves.append(what)
    stage.rounds(ASK_SECONDS + 2)
    assert stage.world.admins() == stage.world.states() == ON_GREEN
    assert moves.index("set server linkrift_redirect/app1-green health down") < moves.index("write")
    assert "reload" not in moves


def test_what_is_over_before_patience_is_nothing(stage: Stage) -> None:
    stage.boot()
    stage.deploy()
    stage.rounds(PATIENCE - 1)
    stage.live = dict.fromkeys(stage.live, ("blue", 30.0))
    stage.rounds(ASK_SECONDS + 1)
    stage.live = dict.fromkeys(stage.live, ("green", 20.0))
    stage.rounds(PATIENCE - 1)
    assert (stage.world.admins(), stage.said) == (ON_BLUE, [])


def test_where_nobody_answers_any_more_there_is_no_patience(stage: Stage) -> None:
    stage.boot()
    stage.deploy(blue=0)
    stage.rounds(3)
    assert stage.world.admins() == stage.world.states() == ON_GREEN


def test_slots_are_asked_seldom_while_all_is_well(stage: Stage) -> None:
    stage.boot()
    stage.rounds(20)
    assert len(stage.asked) == 4 * (20 / ASK_SECONDS)
    stage.asked.clear()
    stage.say("blue", 503, "app2")
    stage.rounds(20)
    assert stage.asked.count("app2-green") > 15
    assert stage.asked.count("app1-green") <= 5
    assert (stage.world.admins(), stage.said) == (ON_BLUE, [])


def test_run_that_is_at_it_is_not_disturbed(stage: Stage) -> None:
    stage.boot()
    stage.deploy(blue=0)
    with exclusive(stage.file.lock, 0):
        stage.rounds(3)
    assert stage.world.admins() == ON_BLUE
    assert len(stage.said) == 1
    assert stage.said[0].startswith("cannot follow the hosts: another run changes the rotation")
    stage.rounds(RETRY_SECONDS)
    assert stage.world.admins() == ON_GREEN
    assert stage.said[-1] == "can follow the hosts again"


def test_what_a_run_has_done_meanwhile_is_not_done_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.boot()
    stage.deploy(blue=0)
    only_run = BackendsFile.only_run

    def after_a_run(self: BackendsFile, deadline: float) -> object:
        stage.world.apply(TWO, changes(app1_green="ready", app1_blue="maint", app2_green="ready", app2_blue="maint"))
        return only_run(self, deadline)

    monkeypatch.setattr(BackendsFile, "only_run", after_a_run)
    stage.rounds(3)
    assert (stage.world.admins(), stage.said) == (ON_GREEN, [])


def test_reload_that_begins_meanwhile_comes_first(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.boot()
    stage.deploy(blue=0)
    only_run = BackendsFile.only_run

    def after_a_reload(self: BackendsFile, deadline: float) -> object:
        stage.world.digest = "another file"
        return only_run(self, deadline)

    monkeypatch.setattr(BackendsFile, "only_run", after_a_reload)
    stage.rounds(3)
    assert (stage.world.admins(), stage.said) == (ON_BLUE, [])


def test_what_haproxy_does_counts_and_not_what_a_killed_run_wrote(stage: Stage) -> None:
    stage.boot()
    stage.say("green", 200)
    text = stage.world.path.read_text()
    stage.world.path.write_text(
        text.replace("8081 weight 100", "8081 weight 100 disabled").replace(
            "8181 weight 100 disabled", "8181 weight 100"
        )
    )
    assert stage.world.states() == ON_GREEN
    stage.rounds(ASK_SECONDS + PATIENCE + 2)
    assert (stage.world.admins(), stage.said) == (ON_BLUE, [])


def test_requests_that_are_under_way_are_not_waited_for(stage: Stage) -> None:
    """They end where they are: nobody stops that slot because of this, and the lock is not held for long."""
    stage.boot()
    stage.deploy()
    stage.world.requests = {"app1-blue": 1000.0}
    stage.world.old = {99: 1000.0}
    stage.rounds(ASK_SECONDS + PATIENCE + 2)
    assert stage.world.admins() == ON_GREEN
    assert stage.world.time < 30


def test_file_that_changes_for_one_host_is_no_younger_for_the_others(stage: Stage) -> None:
    """Otherwise the first that is followed, or that a run tells this balancer of, would hide the others."""
    stage.boot()
    stage.deploy()
    stage.live["app2"] = ("blue", 500.0)
    stage.rounds(ASK_SECONDS)
    stage.live["app2"] = ("green", 40.0)
    stage.rounds(PATIENCE - 2)
    assert stage.world.states() == {**ON_BLUE, "app1-green": "ready", "app1-blue": "maint"}
    stage.rounds(ASK_SECONDS + PATIENCE)
    assert stage.world.states() == ON_GREEN


def test_what_a_run_told_of_a_host_is_younger_than_what_that_host_did_before(stage: Stage) -> None:
    stage.boot()
    stage.deploy()
    stage.rounds(1)
    # Undone: this balancer was told to go there and back again.
    for slot, other in (("green", "blue"), ("blue", "green")):
        stage.world.apply(TWO, changes(**{f"app1_{slot}": "ready", f"app1_{other}": "maint"}))
        stage.rounds(1)
    stage.rounds(ASK_SECONDS + PATIENCE)
    assert stage.world.states() == {**ON_BLUE, "app2-green": "ready", "app2-blue": "maint"}


def test_while_a_reload_is_under_way_nothing_is_judged(stage: Stage) -> None:
    stage.boot()
    stage.deploy(blue=0)
    stage.world.digest = "another file"
    stage.rounds(3)
    assert (stage.asked, stage.world.admins()) == ([], ON_BLUE)


def test_file_of_somebody_else_is_left_alone(stage: Stage) -> None:
    stage.boot()
    stage.deploy(blue=0)
    text = stage.world.path.read_text().replace("    retries 3", "    retries 7\n    option abortonclose")
    stage.world.path.write_text(text)
    stage.rounds(3)
    assert stage.world.path.read_text() == text
    assert stage.said == [
        "cannot follow the hosts: the backends file is not as this version of module rotation writes it"
    ]


def test_new_balancer_waits_for_nobody(stage: Stage) -> None:
    stage.world.path.unlink()
    stage.world.apply(TWO)
    stage.say("blue", 0)
    stage.follower.first()
    assert (len(stage.asked), stage.world.time) == (4, 0)


def test_role_brings_all_modules_that_the_program_needs() -> None:
    needed, todo = set(), ["_rotation_follower"]
    directory = Path(follower_code.__file__).parent
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo += re.findall(r"^from \S+\.module_utils\.(\w+) import", (directory / f"{name}.py").read_text(), re.M)
            assert " import _" not in (directory / f"{name}.py").read_text()
    variables = yaml.safe_load((directory.parent.parent / "roles/haproxy/vars/main.yml").read_text())
    assert variables["__haproxy_follow_modules"] == [f"{name}.py" for name in sorted(needed)]


def test_without_a_file_there_is_nothing_to_follow(stage: Stage) -> None:
    stage.world.path.unlink()
    stage.follower.first()
    assert (stage.said, stage.asked) == ([], [])


def test_one_that_fails_its_check_does_not_keep_the_others_out(stage: Stage) -> None:
    """It answers this program, and not HAProxy."""
    stage.boot()
    stage.deploy(blue=0)
    ask = stage.ask
    stage.world.health["192.0.2.2:8181"] = 503
    stage.follower._asker = lambda backend, server: (
        Word(200, "green", 40.0, 40.0) if server.slot == "green" else ask(backend, server)
    )
    stage.rounds(2)
    assert stage.world.states() == {**ON_BLUE, "app1-green": "ready", "app1-blue": "maint"}
    assert any("app2-green" in line and line.startswith("cannot follow") for line in stage.said)
    lines = len(stage.said)
    moves = stage.world.moves
    stage.rounds(1)
    # Not again at once.
    assert (len(stage.said), stage.world.moves) == (lines, moves + 1)


def test_older_release_that_was_borrowed_goes_again_when_the_live_slot_is_back(stage: Stage) -> None:
    stage.boot()
    stage.say("green", 200)
    stage.say("blue", 503)
    stage.rounds(3)
    assert stage.world.admins() == ON_GREEN
    assert "nothing else of the service answers" in stage.said[0]
    stage.say("blue", 200)
    stage.rounds(RETURN_PATIENCE - 2)
    assert stage.world.admins() == ON_GREEN
    stage.rounds(ASK_SECONDS + 3)
    assert stage.world.admins() == ON_BLUE
    assert "blue is live and answers again" in stage.said[-1]


def test_what_was_borrowed_is_forgotten_once_a_run_changes_it(stage: Stage) -> None:
    """A switch that is not committed yet looks the same."""
    stage.boot()
    stage.say("green", 200)
    stage.say("blue", 503)
    stage.rounds(3)
    stage.say("blue", 200)
    for slot, other in (("blue", "green"), ("green", "blue")):
        stage.world.apply(
            TWO,
            changes(
                **{f"{host}_{slot}": "ready" for host in ("app1", "app2")},
                **{f"{host}_{other}": "maint" for host in ("app1", "app2")},
            ),
        )
        stage.rounds(1)
    stage.rounds(ASK_SECONDS + RETURN_PATIENCE + 3)
    assert stage.world.admins() == ON_GREEN


def test_new_hosts_stay_out(stage: Stage) -> None:
    stage.boot()
    stage.world.apply(services("app1", "app2", "app3"))
    stage.live["app3"] = ("blue", 10.0)
    stage.rounds(ASK_SECONDS + PATIENCE + 2)
    assert stage.world.admins()["app3-blue"] == "maint"
    assert stage.said == []


def test_what_a_slot_says_is_read_with_care() -> None:
    body = {"live_slot": "green", "live_seconds": 3, "admitted_seconds": 1.5}
    assert read_word(Answer(200, body)) == Word(200, "green", 3.0, 1.5)
    nonsense = {"live_slot": ["green"], "live_seconds": "3", "admitted_seconds": True}
    assert read_word(Answer(404, nonsense)) == Word(404)
    assert read_word(Answer(error="refused")) == Word()


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1")
        assert listener.recv(100) == b"READY=1"


def test_program_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_program(["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "out\nerr\n")
    monkeypatch.setattr(follower_code, "_PROGRAM_SECONDS", 0.05)
    assert run_program(["sleep", "5"]) == (124, "no end within 0.05 s")
