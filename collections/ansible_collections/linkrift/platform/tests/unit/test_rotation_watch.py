# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import (
    COUNTERS,
    Haproxy,
    HaproxyDownError,
    Key,
    ServerView,
    Socket,
    View,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rotation import describe
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_watch import (
    BOUNDED,
    Baseline,
    RotationWatchError,
    Watch,
    run,
)
from ansible_collections.linkrift.platform.plugins.modules import rotation_watch as module

BLUE, GREEN = ("linkrift_redirect", "app1-blue"), ("linkrift_redirect", "app1-green")
NAMED = [{"service": "redirect", "host": "app1", "slot": "green"}]
Run = Callable[..., dict[str, Any]]


def server(key: Key, *, admin: str = "ready", status: str = "UP", check: str = "L7OK", **counters: int) -> ServerView:
    return ServerView(
        backend=key[0],
        name=key[1],
        admin=admin,
        status=status,
        running=status == "UP",
        check_status=check,
        check_code="200",
        check_detail="",
        scur=0,
        weight=100,
        address="192.0.2.1:8081",
        counters={**dict.fromkeys(COUNTERS, 0), **counters},
    )


def view(*servers: ServerView, pid: int = 7, stopping: bool = False) -> View:
    found = {(one.backend, one.name): one for one in servers}
    return View(pid=pid, stopping=stopping, version="2.6", digest="x", servers=found)


class ScriptedHaproxy(Haproxy):
    """Answers what it was told, the last thing again and again; time passes when somebody waits."""

    def __init__(self, *answers: View | Exception) -> None:
        super().__init__(Socket("admin"), None)
        self.answers: Iterator[View | Exception] = iter(answers)
        self.last: View | Exception = answers[-1]
        self.time = 0.0

    def view(self) -> View:
        answer = next(self.answers, self.last)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def watch(self, watch: Watch, seconds: float = 0) -> str:
        return run(watch, self, seconds=seconds, interval=1, clock=lambda: self.time, sleep=self.sleep)


def green(**counters: int) -> View:
    return view(server(BLUE, hrsp_5xx=9), server(GREEN, **counters))


def since(at_first: View, **bounds: int) -> Watch:
    return Watch([GREEN], bounds, Baseline.of_view(at_first))


@pytest.mark.parametrize("name", BOUNDED)
def test_a_counter_that_grew_is_told(name: str) -> None:
    at_first, now = green(**{name: 3, "stot": 10}), green(**{name: 5, "stot": 30})
    watch = since(at_first)
    assert watch.look(now) == f"redirect/app1-green: {name} grew by 2 (0 allowed)"
    figures = watch.figures()["redirect/app1-green"]
    assert (figures["requests"], figures[name], figures["status"]) == (20, 2, "UP")
    assert since(at_first, **{name: 2}).look(now) == ""
    assert since(at_first, **{name: 1}).look(now)


def test_what_may_grow_does() -> None:
    now = green(stot=100, hrsp_2xx=10, hrsp_3xx=80, hrsp_4xx=10)
    assert since(green()).look(now) == ""


def test_other_servers_do_not_matter_when_some_are_named() -> None:
    worse = view(server(BLUE, hrsp_5xx=99), server(GREEN))
    assert since(green()).look(worse) == ""
    watch = Watch([], {}, Baseline.of_view(green()))
    assert watch.look(worse) == "redirect/app1-blue: hrsp_5xx grew by 90 (0 allowed)"


def test_without_names_all_that_are_ready_are_watched() -> None:
    foreign = server(("stats", "x"), hrsp_5xx=5)
    watch = Watch([], {}, None)
    watch.look(view(server(BLUE, admin="drain", status="DRAIN"), server(GREEN), foreign))
    assert list(watch.figures()) == ["redirect/app1-green"]


def test_another_process_counts_from_nothing() -> None:
    watch = since(view(server(GREEN, hrsp_5xx=100, stot=1000)))
    assert watch.look(view(server(GREEN, hrsp_5xx=0, stot=5), pid=8)) == ""
    assert (watch.reloads, watch.figures()["redirect/app1-green"]["requests"]) == (1, 5)
    assert "grew by 1 (0" in watch.look(view(server(GREEN, hrsp_5xx=1, stot=9), pid=8))
    assert (watch.reloads, watch.figures()["redirect/app1-green"]["requests"]) == (1, 9)


def test_counts_from_before_a_reload_are_kept() -> None:
    watch = since(green(), hrsp_5xx=3)
    assert watch.look(green(hrsp_5xx=2)) == ""
    assert watch.look(view(server(GREEN, hrsp_5xx=2), pid=8)).startswith("redirect/app1-green: hrsp_5xx grew by 4")


def test_counters_that_somebody_cleared() -> None:
    watch = since(green(stot=50))
    watch.look(green(stot=7))
    assert watch.figures()["redirect/app1-green"]["requests"] == 7


def test_a_server_that_is_down_in_the_rotation_is_told() -> None:
    down = view(server(GREEN, status="DOWN", check="L4CON"))
    assert since(green()).look(down) == ("redirect/app1-green is in the rotation, but DOWN (last check L4CON 200)")
    for other in (
        server(GREEN, admin="drain", status="DRAIN"),
        server(GREEN, status="no check", check=""),
        server(GREEN, admin="maint", status="MAINT", check=""),
    ):
        assert since(green()).look(view(other)) == ""


def test_a_server_that_was_down_before_is_no_news_until_it_was_up() -> None:
    down = view(server(GREEN, status="DOWN", check="L4CON"))
    watch = since(down)
    assert watch.look(down) == ""
    assert watch.look(down) == ""
    assert watch.look(green()) == ""
    assert "but DOWN" in watch.look(down)
    assert "but DOWN" in Watch([GREEN], {}, None).look(down)
    assert "hrsp_5xx grew" in since(down).look(view(server(GREEN, status="DOWN", check="L4CON", hrsp_5xx=1)))


@pytest.mark.parametrize(("status", "down"), [("DOWN", {GREEN}), ("UP", set()), ("UP 1/2", set())])
def test_a_result_tells_who_was_down(status: str, down: set[Key]) -> None:
    at_first = view(server(GREEN, status=status), server(BLUE, admin="maint", status="MAINT", check=""))
    assert Baseline.of_result(result_of(at_first)).down == down


def test_a_server_that_haproxy_does_not_know() -> None:
    with pytest.raises(RotationWatchError, match=r"does not know redirect/app1-green \(it knows: redirect/app1-blue\)"):
        since(green()).look(view(server(BLUE)))


def test_watching_lasts_as_long_as_it_should() -> None:
    haproxy = ScriptedHaproxy(green())
    watch = since(green())
    assert haproxy.watch(watch, 10) == ""
    assert (haproxy.time, watch.looks) == (10, 11)


def test_watching_ends_with_the_first_failure() -> None:
    haproxy = ScriptedHaproxy(green(), green(), green(eresp=1))
    assert "eresp grew by 1" in haproxy.watch(Watch([GREEN], {}, None), 10)
    assert haproxy.time == 2


def test_the_first_look_is_the_baseline_where_none_is_given() -> None:
    assert ScriptedHaproxy(green(hrsp_5xx=7)).watch(Watch([GREEN], {}, None), 3) == ""


def test_a_reload_in_which_nobody_answers_is_waited_for() -> None:
    away = HaproxyDownError("nothing listens")
    haproxy = ScriptedHaproxy(away, view(server(GREEN), pid=7, stopping=True), view(server(GREEN), pid=8))
    watch = since(green())
    assert haproxy.watch(watch) == ""
    assert (watch.looks, watch.reloads) == (1, 1)
    with pytest.raises(RotationWatchError, match="does not answer since 10 s: nothing listens"):
        ScriptedHaproxy(away).watch(since(green()))


def result_of(seen: View) -> dict[str, Any]:
    """Return what rotation_info says, as it comes back through JSON."""
    result: dict[str, Any] = json.loads(json.dumps({"pid": seen.pid, "rotation": describe(seen, ""), "changed": False}))
    return result


def test_a_result_of_rotation_info_is_a_baseline() -> None:
    seen = green(stot=3)
    baseline = Baseline.of_result(result_of(seen))
    assert (baseline.pid, baseline.counters) == (7, Baseline.of_view(seen).counters)
    assert Baseline.of_result({"pid": None, "rotation": {}}) == Baseline(None, {})


@pytest.mark.parametrize("result", [{}, {"pid": 1, "rotation": []}, {"pid": "x", "rotation": {}}])
def test_something_else_is_none(result: dict[str, Any]) -> None:
    with pytest.raises(RotationWatchError, match="baseline is no result of rotation or rotation_info"):
        Baseline.of_result(result)


# --- the module ---


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module on a balancer that answers so, and return its result."""

    def call(*answers: View | Exception, **arguments: Any) -> dict[str, Any]:
        haproxy = ScriptedHaproxy(*answers)
        monkeypatch.setattr(module, "Haproxy", lambda admin, master: haproxy)
        monkeypatch.setattr("time.sleep", haproxy.sleep)
        monkeypatch.setattr("time.monotonic", lambda: haproxy.time)
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


def test_module_tells_that_all_is_well(start: Run) -> None:
    result = start(green(stot=30), servers=NAMED, baseline=result_of(green(stot=10)), seconds=5)
    assert (result["changed"], result["msg"], result["looks"]) == (False, "all is well: 20 requests", 6)
    assert list(result["servers"]) == ["redirect/app1-green"]


def test_module_fails_with_the_counters(start: Run) -> None:
    result = start(green(wredis=2), servers=NAMED, baseline=result_of(green()), bounds={"wredis": 1})
    assert result["failed"]
    assert result["msg"].startswith("visitors notice: redirect/app1-green: wredis grew by 2 (1 allowed)")
    assert result["servers"]["redirect/app1-green"]["wredis"] == 2


def test_module_in_check_mode_looks_once(start: Run) -> None:
    assert start(green(), seconds=60, _ansible_check_mode=True)["looks"] == 1


def test_module_needs_something_to_compare_with(start: Run) -> None:
    assert "nothing to compare with" in start(green())["msg"]
    assert "baseline is no result" in start(green(), baseline={"x": 1})["msg"]
