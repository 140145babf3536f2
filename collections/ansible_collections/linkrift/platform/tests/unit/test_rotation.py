# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The steps of a rotation: their order, what happens when they are cut off anywhere, and how they fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import HaproxyDownError, HaproxyError, Workers
from ansible_collections.linkrift.platform.plugins.module_utils._rotation import RotationError, describe
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_file import BackendsFileError
from ansible_collections.linkrift.platform.tests.unit.rotation_fakes import FakeHaproxy, Killed, World


def services(*hosts: str) -> dict[str, Any]:
    """Return a service with two slots on each host."""
    return {
        "redirect": {
            "servers": [
                {"host": host, "address": f"192.0.2.{host[-1]}", "ports": {"blue": 8081, "green": 8181}}
                for host in hosts
            ]
        }
    }


def changes(**wishes: str) -> list[dict[str, str]]:
    """`app1_green="ready"` → a change."""
    return [
        {"service": "redirect", "host": name.split("_")[0], "slot": name.split("_")[1], "state": state}
        for name, state in wishes.items()
    ]


TWO = services("app1", "app2")
BLUE = changes(app1_blue="ready", app2_blue="ready")
SWITCH = changes(app1_green="ready", app1_blue="drain", app2_green="ready", app2_blue="maint")
SWITCHED = {"app1-green": "ready", "app1-blue": "drain", "app2-green": "ready", "app2-blue": "maint"}
ON_BLUE = {"app1-blue": "ready", "app2-blue": "ready", "app1-green": "maint", "app2-green": "maint"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return on_blue(tmp_path / "backends.cfg")


def moves_of(world: World, wanted: dict[str, Any], wishes: list[dict[str, str]]) -> list[str]:
    """Run a step and return its moves."""
    found: list[str] = []
    world.at_move = lambda _number, what: found.append(what)
    world.apply(wanted, wishes)
    return found


def test_switch_checks_first_then_writes_then_lets_in_then_takes_out(world: World) -> None:
    moves = [move for move in moves_of(world, TWO, SWITCH) if move not in ("look", "workers")]
    assert moves == [
        "set server linkrift_redirect/app1-green state drain",
        "set server linkrift_redirect/app1-green health down",
        "set server linkrift_redirect/app2-green state drain",
        "set server linkrift_redirect/app2-green health down",
        "write",
        "set server linkrift_redirect/app1-green weight 100",
        "set server linkrift_redirect/app1-green state ready",
        "set server linkrift_redirect/app2-green weight 100",
        "set server linkrift_redirect/app2-green state ready",
        "set server linkrift_redirect/app1-blue state drain",
        "set server linkrift_redirect/app2-blue state drain",
        "set server linkrift_redirect/app2-blue state maint",
    ]
    assert world.admins() == world.states() == SWITCHED


def test_haproxy_looks_through_the_file_while_a_check_is_waited_for(world: World) -> None:
    before = world.path.read_text()
    seen: list[tuple[str, bool, bool]] = []

    def note(_number: int, what: str) -> None:
        passing = world.servers["linkrift_redirect", "app1-green"].seen == "L7OK"
        if what == "write" or what.endswith("app1-green weight 100"):
            seen.append((what.rpartition("/")[2], passing, world.path.read_text() != before))

    world.at_move = note
    world.apply(TWO, SWITCH)
    assert seen == [("write", False, False), ("app1-green weight 100", True, True)]


def test_second_run_only_looks(world: World) -> None:
    world.apply(TWO, SWITCH)
    assert set(moves_of(world, TWO, SWITCH)) == {"look", "workers"}
    assert not world.apply(TWO, SWITCH).changed
    assert not world.rotation(TWO, SWITCH).predict().changed


GROWN = services("app1", "app2", "app3")
GROW = changes(app3_blue="ready", app1_green="ready", app1_blue="drain")


STEPS = pytest.mark.parametrize(
    ("wanted", "wishes", "result"),
    [
        pytest.param(TWO, SWITCH, SWITCHED, id="switch"),
        pytest.param(TWO, changes(app1_green="ready"), ON_BLUE | {"app1-green": "ready"}, id="let one in"),
        pytest.param(
            GROWN,
            GROW,
            ON_BLUE | {"app1-green": "ready", "app1-blue": "drain", "app3-blue": "ready", "app3-green": "maint"},
            id="new host and switch",
        ),
    ],
)


def on_blue(path: Path) -> World:
    """Return a balancer whose blue slots take traffic."""
    made = World(path, running=False)
    made.apply(TWO, BLUE)
    made.running = True
    made.load()
    made.guarded = True
    made.moves = 0
    return made


def happens(world: World, at: int, event: Callable[[], None]) -> None:
    """Have an event before the move of this number."""

    def interfere(number: int, _what: str) -> None:
        if number == at:
            event()

    world.at_move = interfere


def failure_of(world: World, wanted: dict[str, Any], wishes: list[dict[str, str]]) -> str | None:
    """Run a step and return why it failed, if it did."""
    try:
        world.apply(wanted, wishes)
    except (RotationError, HaproxyError) as error:
        return str(error)
    return None


def die() -> None:
    raise Killed


def break_socket() -> None:
    raise HaproxyError("the connection broke")


@STEPS
@pytest.mark.parametrize("then", ["nothing", "a reload"])
def test_run_that_is_killed_at_any_move_can_be_repeated(
    tmp_path: Path, wanted: dict[str, Any], wishes: list[dict[str, str]], result: dict[str, str], then: str
) -> None:
    for number in range(1, 100):
        world = on_blue(tmp_path / f"{number}.cfg")
        happens(world, number, die)
        try:
            world.apply(wanted, wishes)
        except Killed:
            world.at_move = lambda _number, _what: None
        else:
            break
        if then == "a reload":
            world.reload()
            world.guard("a reload after the death of a run")
        world.apply(wanted, wishes)
        assert world.admins() == world.states() == result, number
        assert not world.apply(wanted, wishes).changed
    assert number > 10


@STEPS
@pytest.mark.parametrize("event", ["reload", "slow reload", "restart"])
def test_reload_or_restart_at_any_move_is_no_obstacle(
    tmp_path: Path, wanted: dict[str, Any], wishes: list[dict[str, str]], result: dict[str, str], event: str
) -> None:
    number = met = 0
    while met == number:
        number += 1
        world = on_blue(tmp_path / f"{number}.cfg")

        def interfere(world: World = world, at: int = number) -> None:
            nonlocal met
            met = at
            if event == "slow reload":
                world.begin_reload()
                return
            world.reload()
            if event == "restart":
                world.old.clear()

        happens(world, number, interfere)
        world.apply(wanted, wishes)
        world.end_reload()
        assert world.admins() == world.states() == result, number
    assert number > 10


@STEPS
def test_socket_that_breaks_at_any_move_leaves_the_old_rotation_or_the_new(
    tmp_path: Path, wanted: dict[str, Any], wishes: list[dict[str, str]], result: dict[str, str]
) -> None:
    number = failed = 0
    for number in range(1, 100):
        world = on_blue(tmp_path / f"{number}.cfg")
        happens(world, number, break_socket)
        failure = failure_of(world, wanted, wishes)
        if failure is None:
            assert world.admins() == world.states() == result, number
        else:
            failed += 1
            # At the very first look nothing was done, and nothing has to be said of it.
            assert "The old rotation is back as it was" in failure or number == 1
            assert world.admins() == world.states() == ON_BLUE, number
        if world.moves < number:
            break
    assert failed > 0


def test_what_only_the_old_worker_of_a_reload_heard_is_said_again(world: World) -> None:
    world.missed = 1
    world.apply(TWO, SWITCH)
    assert world.missed == 0
    assert world.admins()["app1-green"] == "ready"


def test_candidate_that_dies_while_haproxy_restarts_gets_no_request(world: World) -> None:
    """It had passed its check, at a worker that is gone."""

    def restart(_number: int, what: str) -> None:
        if what == "write" and not world.health:
            world.health["192.0.2.1:8181"] = 0
            world.reload()
            world.old.clear()

    world.at_move = restart
    with pytest.raises(RotationError, match=r"app1-green.*L4CON.*The old rotation is back as it was"):
        world.apply(TWO, SWITCH)
    assert world.admins() == world.states() == ON_BLUE


def test_drain_looks_twice_before_it_believes(world: World) -> None:
    """A request that was given to the server before it drained may be counted a moment later."""
    looks = 0

    def count_late(_number: int, what: str) -> None:
        nonlocal looks
        if what == "look" and world.admins()["app1-blue"] == "drain":
            looks += 1
            if looks == 1:
                world.requests["app1-blue"] = 2.0

    world.at_move = count_late
    world.apply(TWO, SWITCH)
    assert world.requests["app1-blue"] <= 0


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (0, r"redirect/app1-green .* DOWN, last check L4CON\. Nothing answers there"),
        (404, r"last check L7STS 404\. It answers as a standby: admit the slot"),
        (503, r"last check L7STS 503\. Look at the slot's journal"),
    ],
)
def test_server_that_fails_its_check_changes_nothing(world: World, health: int, words: str) -> None:
    text = world.path.read_text()
    world.health["192.0.2.1:8181"] = health
    with pytest.raises(RotationError, match=rf"{words}.*The old rotation is back as it was"):
        world.apply(TWO, SWITCH)
    assert world.path.read_text() == text
    assert not list(world.path.parent.glob(".*")), "a file that was looked through for nothing"
    assert world.admins() == ON_BLUE


def test_what_a_check_found_is_told_while_the_next_one_is_on_its_way(world: World) -> None:
    world.health["192.0.2.1:8181"] = 404
    world.checking_since = world.time + 2
    with pytest.raises(RotationError, match=r"last check L7STS 404\. It answers as a standby"):
        world.apply(TWO, SWITCH, check_timeout=3)


def test_check_before_the_request_does_not_count(world: World) -> None:
    """The slot was fine while it was warm, and died since."""
    world.apply(TWO, SWITCH)
    world.sleep(1)
    assert world.servers[("linkrift_redirect", "app1-blue")].up
    world.health["192.0.2.1:8081"] = 0
    with pytest.raises(RotationError, match="app1-blue"):
        world.apply(TWO, changes(app1_blue="ready"))
    assert world.admins() == SWITCHED


def test_named_server_that_is_ready_but_down_is_a_failure(world: World) -> None:
    world.guarded = False
    world.health["192.0.2.1:8081"] = 503
    world.sleep(1)
    with pytest.raises(RotationError, match="app1-blue"):
        world.apply(TWO, changes(app1_blue="ready"))
    # Unnamed, it is a fact that the answer shows, and no obstacle to others.
    outcome = world.apply(TWO, changes(app2_green="ready"))
    assert outcome.view
    assert not outcome.view.servers[("linkrift_redirect", "app1-blue")].takes_traffic


@pytest.mark.parametrize("wishes", [changes(app1_blue="drain", app2_blue="maint")])
def test_last_ready_server_stays_unless_asked(world: World, wishes: list[dict[str, str]]) -> None:
    with pytest.raises(RotationError, match="redirect would have no ready server left"):
        world.apply(TWO, wishes)
    assert world.admins() == ON_BLUE
    world.guarded = False
    world.apply(TWO, wishes, allow_empty=True)
    assert world.admins() == ON_BLUE | {"app1-blue": "drain", "app2-blue": "maint"}


TLS = {"ca_file": "/etc/linkrift/tls/ca.pem", "verify_host": "redirect.services.linkrift.internal"}


def test_tls_is_not_turned_on_or_off_under_live_servers(world: World) -> None:
    secure = {"redirect": {**TWO["redirect"], "tls": TLS}}
    text = world.path.read_text()
    for wanted in (lambda: world.apply(secure), lambda: world.rotation(secure).predict()):
        with pytest.raises(RotationError, match=r"redirect would be spoken to by TLS.*live \(app1-blue, app2-blue\)"):
            wanted()
    # Nor for a candidate: the backend is one for all of its servers.
    with pytest.raises(RotationError, match="Nothing was changed"):
        world.apply(secure, SWITCH, allow_empty=True)
    assert (world.path.read_text(), world.admins()) == (text, ON_BLUE)
    # In a maintenance window nobody is live.
    world.guarded = False
    world.apply(TWO, changes(app1_blue="drain", app2_blue="drain"), allow_empty=True)
    assert world.apply(secure).reloaded
    world.apply(secure, BLUE)
    with pytest.raises(RotationError, match="redirect would be spoken to without TLS"):
        world.apply(TWO)
    # Another name or authority is not another protocol; whoever cannot prove it is found down, and that is undone.
    assert world.apply({"redirect": {**TWO["redirect"], "tls": {**TLS, "ca_file": "/etc/other.pem"}}}).reloaded


def test_service_with_ready_servers_is_not_removed_unless_asked(world: World) -> None:
    api = {"api": TWO["redirect"]}
    with pytest.raises(RotationError, match="redirect would have no ready server left"):
        world.apply(api)
    with pytest.raises(RotationError, match="redirect would have no ready server left"):
        world.rotation(api).predict()
    world.guarded = False
    assert world.apply(api, allow_empty=True).reloaded


def test_last_server_that_answers_stays(world: World) -> None:
    world.guarded = False
    world.health["192.0.2.2:8081"] = 0
    world.sleep(1)
    with pytest.raises(RotationError, match=r"no server left that answers: app2-blue is DOWN \(last check L4CON\)"):
        world.apply(TWO, changes(app1_blue="drain"))
    assert world.admins() == ON_BLUE
    world.apply(TWO, changes(app1_blue="drain"), allow_empty=True)
    assert world.admins()["app1-blue"] == "drain"


def test_dead_server_may_leave_although_nobody_else_answers(world: World) -> None:
    world.guarded = False
    world.health |= {"192.0.2.1:8081": 0, "192.0.2.2:8081": 0}
    world.sleep(1)
    world.apply(TWO, changes(app1_blue="maint"))
    assert world.admins()["app1-blue"] == "maint"


def down(world: World, *ports: int) -> None:
    """Have the slots at these ports of both hosts die, which their checks find."""
    world.guarded = False
    world.health |= {f"192.0.2.{host}:{port}": 0 for host in (1, 2) for port in ports}


@pytest.mark.parametrize("required", [True, False])
def test_new_servers_that_die_while_old_ones_drain_end_the_wait(world: World, required: bool) -> None:
    text = world.path.read_text()
    world.requests["app1-blue"] = 30.0
    moves: list[str] = []

    def die_in_drain(_number: int, what: str) -> None:
        moves.append(what)
        if what == "set server linkrift_redirect/app2-blue state drain":
            down(world, 8181)

    world.at_move = die_in_drain
    began = world.time
    with pytest.raises(
        RotationError,
        match=r"redirect has no server left that answers: app1-green is DOWN \(last check L4CON\), app2-green is DOWN"
        r".*The old rotation is back as it was",
    ):
        world.apply(TWO, SWITCH, drain_required=required)
    assert world.time - began < 2
    assert (world.path.read_text(), world.admins()) == (text, ON_BLUE)
    # Those that answer come back before those that do not leave.
    after = moves[moves.index("set server linkrift_redirect/app2-blue state drain") + 1 :]
    assert [move.split()[-1] for move in after if " state " in move] == ["ready", "ready", "maint", "maint"]


def test_one_new_server_that_answers_is_enough_to_wait(world: World) -> None:
    world.requests["app1-blue"] = 5.0

    def die_in_drain(_number: int, what: str) -> None:
        if what == "set server linkrift_redirect/app2-blue state drain":
            world.guarded = False
            world.health["192.0.2.1:8181"] = 0

    world.at_move = die_in_drain
    with pytest.raises(RotationError, match=r"redirect/app1-green .* passed no check within"):
        world.apply(TWO, SWITCH, check_timeout=3)
    assert world.requests["app1-blue"] <= 0


def test_nobody_is_needed_where_nobody_may_be_left(world: World) -> None:
    world.requests["app1-blue"] = 5.0

    def die_in_drain(_number: int, what: str) -> None:
        if what == "set server linkrift_redirect/app2-blue state drain":
            down(world, 8181)

    world.at_move = die_in_drain
    with pytest.raises(RotationError, match="passed no check within 3 s"):
        world.apply(TWO, SWITCH, check_timeout=3, allow_empty=True)
    assert world.requests["app1-blue"] <= 0


def test_new_servers_that_die_before_a_further_round_are_not_waited_for(world: World) -> None:
    """The drain is over, HAProxy is to be asked what it does, and the checks of that round would take their time."""

    def die_at_the_end(_number: int, what: str) -> None:
        if what == "set server linkrift_redirect/app2-blue state maint":
            down(world, 8181)
            world.sleep(1)

    world.at_move = die_at_the_end
    began = world.time
    with pytest.raises(RotationError, match=r"redirect has no server left that answers: .*old rotation is back"):
        world.apply(TWO, SWITCH, check_timeout=15)
    assert world.time - began < 5
    assert world.admins() == ON_BLUE


def test_drain_waits_for_requests_and_for_old_workers(world: World) -> None:
    world.requests["app1-blue"] = 3.0
    world.reload(lasting=5.0)
    began = world.time
    world.apply(TWO, SWITCH)
    assert world.time - began >= 5.0
    world.reload(lasting=9.0)
    began = world.time
    world.apply(TWO, changes(app1_blue="ready", app1_green="drain"), wait_old_workers=False)
    assert world.time - began < 2.0


def test_drain_goes_on_when_a_reload_leaves_nobody_at_the_masters_socket(world: World) -> None:
    class Reloading(FakeHaproxy):
        refusals = 3

        def workers(self) -> Workers | None:
            if self.refusals and world.admins()["app1-blue"] == "drain":
                self.refusals -= 1
                raise HaproxyDownError("nothing listens at master")
            return super().workers()

    rotation = world.rotation(TWO, SWITCH)
    rotation._haproxy = haproxy = Reloading(world)
    assert rotation.apply().changed
    assert haproxy.refusals == 0
    assert world.admins() == SWITCHED


def test_drain_past_its_deadline_puts_everything_back(world: World) -> None:
    text = world.path.read_text()
    world.requests["app1-blue"] = 30.0
    with pytest.raises(RotationError, match=r"app1-blue still has 1 requests in progress.*old rotation is back"):
        world.apply(TWO, SWITCH, drain_timeout=5)
    assert world.admins() == ON_BLUE
    assert world.path.read_text() == text
    world.requests.clear()
    pid = world.pid
    world.reload(lasting=30.0)
    with pytest.raises(RotationError, match=rf"workers of an earlier reload still hold connections \({pid}\)"):
        world.apply(TWO, SWITCH, drain_timeout=5)
    assert world.admins() == ON_BLUE


def test_drain_that_is_not_required_goes_on_where_it_is(world: World) -> None:
    world.requests["app1-blue"] = 30.0
    began = world.time
    outcome = world.apply(TWO, SWITCH, drain_timeout=5, drain_required=False)
    assert 5.0 <= world.time - began < 7.0
    assert world.admins() == SWITCHED
    [warning] = outcome.warnings
    assert "app1-blue still has 1 requests in progress. They go on there" in warning
    assert "the rest goes on where it is" in [step["what"] for step in outcome.steps]


def test_old_workers_need_the_master_socket(world: World) -> None:
    rotation = world.rotation(TWO, SWITCH)
    rotation._haproxy = FakeHaproxy(world, master=False)
    with pytest.raises(RotationError, match="give master_socket, or set wait_old_workers to false"):
        rotation.apply()
    rotation = world.rotation(TWO, SWITCH, wait_old_workers=False)
    rotation._haproxy = FakeHaproxy(world, master=False)
    rotation.apply()
    assert world.admins() == SWITCHED


def test_haproxy_that_does_not_run_gets_the_file(world: World) -> None:
    world.running = False
    outcome = world.apply(TWO, SWITCH)
    assert (outcome.changed, outcome.running, outcome.view) == (True, False, None)
    assert world.states() == SWITCHED


def test_haproxy_that_starts_meanwhile_is_told(world: World) -> None:
    world.running = False

    def start(_number: int, what: str) -> None:
        if what == "write":
            world.running = True

    world.at_move = start
    outcome = world.apply(TWO, SWITCH)
    assert outcome.running
    assert world.admins() == SWITCHED


def test_haproxy_without_admin_socket_is_an_error_unless_nothing_is_asked_of_it(world: World) -> None:
    class NoAdmin(FakeHaproxy):
        def view(self) -> Any:
            raise HaproxyDownError("nothing listens at admin")

    rotation = world.rotation(TWO, SWITCH)
    rotation._haproxy = NoAdmin(world)
    with pytest.raises(HaproxyError, match="its configuration needs `stats socket"):
        rotation.apply()
    rotation = world.rotation(GROWN, reload=False)
    rotation._haproxy = NoAdmin(world)
    assert not rotation.apply().running
    assert world.states()["app3-blue"] == "maint"


def test_new_servers_begin_in_maint_and_cost_one_reload(world: World) -> None:
    outcome = world.apply(GROWN)
    assert (outcome.reloaded, outcome.reload_required) == (True, False)
    assert world.admins() == ON_BLUE | {"app3-blue": "maint", "app3-green": "maint"}
    assert world.rotation(TWO).predict().reload_required


def test_reload_can_be_left_to_others(world: World) -> None:
    with pytest.raises(RotationError, match="allow the reload, or leave `changes` out"):
        world.apply(GROWN, GROW, reload=False)
    outcome = world.apply(GROWN, reload=False)
    assert (outcome.changed, outcome.reload_required, outcome.reloaded) == (True, True, False)
    assert not world.apply(GROWN, reload=False).changed
    world.reload()
    assert not world.apply(GROWN, reload=False).reload_required


def test_moved_server_waits_for_its_check_while_others_serve(world: World) -> None:
    moved = services("app1", "app2")
    moved["redirect"]["servers"][0]["address"] = "192.0.2.9"
    world.health["192.0.2.9:8081"] = 0
    with pytest.raises(RotationError, match=r"app1-blue \(192\.0\.2\.9:8081\).*old rotation is back"):
        world.apply(moved)
    assert world.servers[("linkrift_redirect", "app1-blue")].address == "192.0.2.1:8081"
    assert world.admins() == ON_BLUE
    world.health.clear()
    world.apply(moved)
    assert world.admins() == ON_BLUE


def test_backend_whose_servers_all_move_is_never_empty(world: World) -> None:
    moved = services("app1", "app2")
    for server in moved["redirect"]["servers"]:
        server["ports"] = {"blue": 9081, "green": 9181}
    world.apply(moved)
    assert world.admins() == ON_BLUE


def test_reload_that_is_refused_leaves_everything(world: World) -> None:
    text = world.path.read_text()
    world.refuses = True
    with pytest.raises(
        RotationError, match=r"did not take the new configuration.*journalctl -u haproxy.*rotation is back"
    ):
        world.apply(GROWN)
    assert world.path.read_text() == text


def test_haproxy_started_without_the_file_is_told_apart(world: World) -> None:
    world.guarded = False
    world.loads_backends = False
    world.load()
    with pytest.raises(RotationError, match=r"the program was started without it.*must be restarted once"):
        world.apply(TWO)


def test_reload_that_finds_a_server_down_is_undone(world: World) -> None:
    text = world.path.read_text()

    def die(_number: int, what: str) -> None:
        if what == "reload":
            world.guarded = False
            world.health["192.0.2.2:8081"] = 503

    world.at_move = die
    with pytest.raises(RotationError, match="after the reload, servers that answered before do not: app2-blue is DOWN"):
        world.apply(GROWN)
    assert world.path.read_text() == text
    assert world.admins() == ON_BLUE


def test_lost_file_is_made_anew_from_what_haproxy_does(world: World) -> None:
    world.apply(TWO, SWITCH)
    text = world.path.read_text()
    world.path.unlink()
    world.apply(TWO)
    assert world.path.read_text() == text
    assert world.admins() == SWITCHED


def test_what_was_done_by_hand_is_put_right(world: World) -> None:
    world.servers[("linkrift_redirect", "app1-blue")].admin = "maint"
    world.servers[("linkrift_redirect", "app1-green")].admin = "ready"
    assert world.rotation(TWO).predict().changed
    assert world.apply(TWO).changed
    assert world.admins() == ON_BLUE


def test_what_cannot_be_put_back_is_said(world: World) -> None:
    world.health["192.0.2.1:8181"] = 503

    def stop(_number: int, what: str) -> None:
        world.running = world.time < 10

    world.at_move = stop
    with pytest.raises(RotationError, match=r"could NOT be put back .*run this again once HAProxy answers"):
        world.apply(TWO, SWITCH)


def test_file_that_cannot_be_written_stops_the_step(world: World) -> None:
    rotation = world.rotation(TWO, SWITCH)

    def refuse(_number: int, what: str) -> None:
        if what == "write":
            raise BackendsFileError("the disk is full")

    world.at_move = refuse
    with pytest.raises(RotationError, match=r"the disk is full.*The old rotation is back as it was"):
        rotation.apply()
    assert world.admins() == ON_BLUE


def test_check_mode_moves_nothing(world: World) -> None:
    text = world.path.read_text()
    found: list[str] = []
    world.at_move = lambda _number, what: found.append(what)
    outcome = world.rotation(GROWN, GROW).predict()
    assert outcome.changed
    assert outcome.reload_required
    assert "app3-blue" in outcome.after
    assert world.path.read_text() == text
    assert set(found) == {"look"}


def test_answer_says_what_haproxy_does(world: World) -> None:
    outcome = world.apply(TWO, SWITCH)
    assert outcome.view
    rotation = describe(outcome.view, outcome.after)
    server = rotation["redirect"]["servers"]["app1-green"]
    assert (server["host"], server["slot"], server["state"], server["admin"]) == ("app1", "green", "ready", "ready")
    assert server["takes_traffic"]
    assert [step["what"] for step in outcome.steps][:3] == [
        "redirect/app1-green waits for a check",
        "redirect/app2-green waits for a check",
        "backends file written",
    ]


def test_foreign_backends_are_left_alone(world: World) -> None:
    key = ("other", "server1")
    world.guarded = False
    world.servers[key] = type(world.servers[("linkrift_redirect", "app1-blue")])("192.0.2.77:1", "ready", 1)
    world.health["192.0.2.1:8181"] = 503
    with pytest.raises(RotationError, match="old rotation is back"):
        world.apply(TWO, SWITCH)
    outcome = world.apply(TWO, changes(app2_green="ready"))
    assert world.servers[key].admin == "ready"
    assert outcome.view
    assert set(describe(outcome.view, "")) == {"redirect"}
