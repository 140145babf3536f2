"""What is made of what was seen of outages: whatever is wrong is said."""

from __future__ import annotations

import copy
import http.server
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tools.testing.outages import judge
from tools.testing.outages.cases import CASES, QUESTIONS, Case
from tools.testing.outages.on_host import figures, hostile, watch

HOSTS = ("app1", "app2", "app3")
TARGET = "https://example.org/1"
FIGURES = {"redis": 0.0, "postgresql": 0.0, "spooled": 0.0, "dropped": 0.0, "waiting": 0.0, "spool_bytes": 0.0}
Results = dict[str, Any]


def answer(status: int, *, api: bool) -> dict[str, Any]:
    kind = "application/problem+json" if api and status >= 400 else "text/plain"
    target = TARGET if status == 302 else ""
    return {"status": status, "kind": kind, "retry_after": status == 503, "location": target, "document": ""}


def outage(case: Case) -> dict[str, Any]:
    spooled = {"spooled": 10.0 if case.spooled else 0.0}
    return {
        "began": 100.0,
        "ended": 106.0,
        "visits": {"requests": 1200, "failed": 0},
        "answers": {
            name: [answer(case.answers[name], api=name in ("read", "write", "stats"))] * 3 for name in QUESTIONS
        },
        "before": dict.fromkeys(HOSTS, FIGURES),
        "during": {host: {**FIGURES, **({case.breaker: 2.0} if case.breaker else {})} for host in HOSTS},
        "after": {host: {**FIGURES, **spooled} for host in HOSTS},
        "again": dict(case.again),
    }


def part(*cases: Case) -> dict[str, Any]:
    return {
        "cases": {case.name: outage(case) for case in cases},
        "report": {"requests": 2000, "failed": 0, "failures": {}},
        "links": {"abc": {"answered": 1000, "stored": 1000, "told": 1000}},
    }


def change(name: str) -> dict[str, Any]:
    said = [{"says": f"302 {TARGET}", "first": 9.0, "last": 10.3}]
    said.append({"says": judge.MEANWHILE[name], "first": 10.31, "last": 13.0})
    return {"status": 200, "at": 10.0, "hosts": {host: copy.deepcopy(said) for host in HOSTS}}


@pytest.fixture
def results() -> Results:
    killed = {"host": "app2", "before": ["7"], "after": ["9"]}
    return {
        "rate": 200.0,
        "stores": {
            **part(*CASES),
            "hostile": {
                "slow": {"opened": 10, "left": 0, "ended": {"408": 9, "closed": 1}},
                "silent": {"opened": 10, "left": 0},
                "oversize": {"a field": {"400": 3}},
            },
            "scan": {
                "count": 1000,
                "statuses": {"404": 990, "429": 10},
                "before": dict.fromkeys(HOSTS, 60.0 * judge.MIB),
                "after": dict.fromkeys(HOSTS, 65.0 * judge.MIB),
            },
            "changes": {name: change(name) for name in judge.MEANWHILE},
            "worker": killed,
        },
        "processes": {**part(), "redirect": killed, "before": dict.fromkeys(HOSTS, FIGURES)},
        "settled": {"left": 0, "figures": dict.fromkeys(HOSTS, FIGURES)},
    }


def test_nothing_is_wrong_where_all_is_well(results: Results) -> None:
    assert judge.wrong(results) == []
    assert len(judge.summary(results)) == len(CASES)


def redis(found: Results) -> Results:
    return dict(found["stores"]["cases"]["Redis stopped"])


def postgresql(found: Results) -> Results:
    return dict(found["stores"]["cases"]["PostgreSQL hung"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda found: redis(found)["visits"].update(failed=1), "Redis stopped: 1 of 1200 visitors failed"),
        (lambda found: redis(found)["visits"].update(requests=500), "only 500 visitors"),
        (lambda found: redis(found)["answers"]["write"][2].update(status=500), "write: 500 instead of 201"),
        (lambda found: redis(found)["answers"]["unread"][0].update(location="/elsewhere"), "leads to /elsewhere"),
        (lambda found: redis(found)["during"].update(dict.fromkeys(HOSTS, FIGURES)), "went on asking redis"),
        (lambda found: redis(found)["after"].update(dict.fromkeys(HOSTS, FIGURES)), "nothing was away"),
        (lambda found: redis(found)["again"].update(read=503), "afterwards the API answers"),
        (lambda found: postgresql(found)["answers"]["read"][0].update(retry_after=False), "503 without Retry-After"),
        (lambda found: postgresql(found)["answers"]["read"][0].update(kind="text/html"), "503 as text/html"),
        (lambda found: postgresql(found)["after"]["app1"].update(dropped=2.0), "app1: 2 clicks were dropped"),
        (lambda found: postgresql(found)["after"]["app1"].update(postgresql=2.0), "postgresql is not asked again"),
        (lambda found: postgresql(found)["after"]["app1"].update(spooled=5.0), "5 clicks went to the disk"),
        (lambda found: found["stores"]["report"].update(failed=1), "stores: 1 visitors failed"),
        (lambda found: found["stores"]["links"]["abc"].update(stored=999, told=999), "1000 visitors were sent on"),
        (lambda found: found["stores"]["links"]["abc"].update(stored=1001, told=1001), "1001 clicks counted"),
        (lambda found: found["stores"]["links"]["abc"].update(told=999), "the API tells of 999"),
        (lambda found: found["stores"]["links"]["abc"].update(answered=0), "nobody followed it"),
        (lambda found: found["processes"]["report"].update(failed=9), "processes: 9 visitors failed"),
        (lambda found: found["processes"]["links"]["abc"].update(stored=900, told=900), "100 clicks were lost"),
        (lambda found: found["processes"]["links"]["abc"].update(stored=1001, told=1001), "-1 clicks were lost"),
        (lambda found: found["processes"]["redirect"].update(after=["7"]), "were killed"),
        (lambda found: found["stores"]["hostile"]["slow"].update(left=3), "3 of 10 requests that never end"),
        (lambda found: found["stores"]["hostile"]["silent"].update(left=10), "10 connections that say nothing"),
        (lambda found: found["stores"]["hostile"]["slow"].update(ended={"302": 1}), "never end were answered"),
        (lambda found: found["stores"]["hostile"]["oversize"].update({"a field": {"302": 1}}), "a field was answered"),
        (lambda found: found["stores"]["scan"].update(statuses={"404": 999, "503": 1}), "unknown codes were answered"),
        (lambda found: found["stores"]["scan"].update(statuses={"404": 10}), "of 1000 only"),
        (lambda found: found["stores"]["scan"].update(statuses={"404": 10, "429": 990}), "of 1000 only"),
        (lambda found: found["stores"]["hostile"]["slow"].update(ended={"closed": 10}), "was told so"),
        (lambda found: found["stores"]["scan"]["after"].update(app3=99.0 * judge.MIB), "app3 grew by 39.0 MiB"),
        (lambda found: found["stores"]["scan"]["before"].update(app3=0.0), "app3 does not say how much memory"),
        (lambda found: found["stores"]["changes"]["changed"].update(status=503), "changed: the API answered 503"),
        (lambda found: found["stores"]["changes"]["deleted"]["hosts"]["app2"][0].update(last=11.2), "1.20 s after"),
        (lambda found: found["stores"]["changes"]["deleted"]["hosts"]["app2"].pop(), "was not asked any more"),
        (lambda found: found["stores"]["changes"]["disabled"]["hosts"]["app2"].pop(0), "never served what was before"),
        (lambda found: found["settled"].update(left=2), "2 entries of clicks wait"),
        (lambda found: found["settled"]["figures"].update(app1={**FIGURES, "waiting": 3.0}), "3 clicks wait in memory"),
    ],
)
def test_what_is_wrong_is_said(results: Results, spoil: Callable[[Results], object], words: str) -> None:
    found = copy.deepcopy(results)
    spoil(found)
    said = judge.wrong(found)
    assert len([line for line in said if words in line]) >= 1, said


def test_where_a_process_was_killed_what_it_held_may_be_lost(results: Results) -> None:
    results["processes"]["report"]["failed"] = 8
    results["processes"]["links"]["abc"].update(stored=990, told=990)
    assert judge.wrong(results) == []


# --- What runs on hosts ---------------------------------------------------------------------------------------------


def test_figures_are_summed_over_labels_that_are_not_named() -> None:
    text = '# HELP a_total x\na_total{kind="x"} 2.0\na_total{kind="y"} 3.0\nb 1e+06\n'
    wanted = ["a_total", 'a_total{kind="y"}', "b", "c"]
    assert figures.read(text, wanted) == {"a_total": 5.0, 'a_total{kind="y"}': 3.0, "b": 1e6, "c": 0.0}


class Moving(http.server.BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        Moving.asked += 1
        self.send_response(302)
        self.send_header("Location", "/old" if Moving.asked < 4 else "/new")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def moving() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moving) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_watch_tells_since_when_and_until_when_it_got_which_answer(
    moving: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "watching"
    monkeypatch.setattr(watch, "live_port", lambda: moving)
    monkeypatch.setattr(watch, "PAUSE_SECONDS", 0.0)
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch.watch, "127.0.0.1", "go.test", file, ["abc"])
        while not file.exists() or Moving.asked < 10:
            assert not watching.done()
        file.unlink()
        old, new = watching.result()["abc"]
    assert (old["says"], new["says"]) == ("302 /old", "302 /new")
    assert old["first"] <= old["last"] < new["first"] <= new["last"]  # type: ignore[operator] # they are numbers


@pytest.mark.parametrize(("said", "status"), [(b"HTTP/1.0 408 Request Time-out\r\n", "408"), (b"", ""), (b"\x15", "")])
def test_the_status_of_an_answer_that_may_be_none(said: bytes, status: str) -> None:
    assert hostile.status_of(said) == status
