"""Part `redirect` of the bench: what is asked, how answers are read and checked, what becomes a figure."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from linkrift.api.stats import TOTALS
from tools.bench.redirect import api, engines, latency, memory, metrics, targets, throughput, worker, wrk
from tools.bench.redirect.measure import GONE, HITS, SECTIONS, prepared
from tools.bench.redirect.place import HERE, Processors
from tools.bench.redirect.requests import Links, each, ending, followed, mix, returning, shares, text
from tools.bench.redirect.servers import map_of
from tools.bench.results import Result
from tools.lab import LabToolError

# --- What is asked ----------------------------------------------------------------------------------------------------


def test_nine_of_ten_requests_follow_links() -> None:
    requests = mix(HITS, GONE, 20_000)
    assert Counter((request.method, request.status) for request in requests) == {
        ("GET", 302): 18_000,
        ("HEAD", 302): 800,
        ("GET", 404): 600,
        ("GET", 410): 600,
    }
    assert requests == mix(HITS, GONE, 20_000)
    assert shares(requests) == {302: 0.94, 404: 0.03, 410: 0.03}


def test_visitors_are_many_and_those_who_ask_for_nothing_are_new_ones() -> None:
    requests = mix(HITS, GONE, 20_000)
    assert len({request.address for request in requests if request.status == 302}) == 18_800
    assert {request.address for request in requests if request.status != 302} == {"*"}


def test_visitors_who_come_again_are_few_and_ask_for_the_same() -> None:
    requests = mix(HITS, GONE, 20_000)
    again = returning(requests, 1000)
    assert [(one.method, one.path, one.status) for one in again] == [
        (one.method, one.path, one.status) for one in requests
    ]
    known = {(one.address, one.agent, one.referrer) for one in again if one.status == 302}
    assert len(known) == len({address for address, _, _ in known}) == 1000
    assert {one.address for one in again if one.status != 302} == {"*"}


def test_links_of_the_requests_are_those_that_are_made() -> None:
    codes = {f"/{code}" for code in HITS.codes()}
    gone = {f"/{code}" for code in GONE.codes()}
    for request in mix(HITS, GONE, 50_000):
        assert (request.path in codes) == (request.status == 302)
        assert (request.path in gone) == (request.status == 410)


def test_links_are_made_by_one_statement() -> None:
    words = Links("many", 7).sql("a@b.test").split()
    statement = " ".join(words)
    assert statement.count(";") == 1
    assert "SELECT users.id, 'many' || to_char(number, 'FM000000')," in statement
    assert "'https://www.example.org/articles/' || number || '?utm_source=newsletter&" in statement
    assert "autumn', NULL FROM users, generate_series(1, 7) AS number WHERE users.email = 'a@b.test'" in statement
    assert "now() FROM" in " ".join(Links("gone", 7, gone=True).sql("a@b.test").split())
    assert Links("many", 2).codes() == ["many000001", "many000002"]


def test_others_are_asked_nothing_that_has_no_body() -> None:
    assert {(request.method, request.status) for request in followed(mix(HITS, GONE, 500))} == {("GET", 302)}


def test_a_file_has_a_request_a_line_with_all_its_fields() -> None:
    lines = text(ending(each(["abc"]))).decode().splitlines()
    assert [line.split("\t")[:3] for line in lines] == [
        ["GET", "/abc", "198.19.0.0"],
        ["GET", "/nobody-made-this", "*"],
    ]
    assert {line.count("\t") for line in lines} == {4}


def test_every_file_that_is_asked_for_is_prepared() -> None:
    assert set(prepared()) == {
        throughput.MIX,
        throughput.MIX_AGAIN,
        throughput.PLAIN,
        throughput.GETS,
        throughput.ONE,
        throughput.ONE_AGAIN,
        throughput.CANARY,
    }
    assert {request.path for request in prepared()[throughput.CANARY]} == {"/ping"}


def test_the_script_sends_what_a_balancer_would() -> None:
    script = (HERE / "load.lua").read_text(encoding="utf-8")
    for header in ("Host: ", "X-Forwarded-For: ", "X-Forwarded-Proto: https", "X-Request-ID: "):
        assert header in script
    for field in ("requests", "microseconds", "p50", "p99", "max", "errors", "statuses"):
        assert f'"{field}": ' in script


def test_the_map_has_every_link() -> None:
    lines = map_of(Links("hit", 3)).decode().splitlines()
    assert [line.split()[0] for line in lines] == ["/hit000001", "/hit000002", "/hit000003"]
    assert "/articles/3?" in lines[2]


def test_configurations_have_nothing_left_to_fill_in() -> None:
    for name in ("nginx.conf", "haproxy.cfg"):
        filled = (HERE / name).read_text(encoding="utf-8").format(address="198.18.9.21", port=9302, place="/run/x")
        assert "198.18.9.21:9302" in filled


# --- What is answered -------------------------------------------------------------------------------------------------

SAID = """Running 5s test @ http://198.18.9.21:8081
  1 threads and 16 connections
Requests/sec:  25000.00
{"requests": 10000, "microseconds": 2000000, "p50": 410, "p99": 1250, "max": 9000, "errors": {"connect": 0, "read": 0,\
 "write": 0, "status": 600, "timeout": 0}, "statuses": {"302": 9400, "404": 300, "410": 300}}
"""
EXPECTED = {302: 0.94, 404: 0.03, 410: 0.03}


def test_what_wrk_says_is_read() -> None:
    load = wrk.parse(SAID)
    assert (load.requests, load.per_second, load.p50_ms, load.p99_ms, load.max_ms) == (10_000, 5000, 0.41, 1.25, 9.0)
    assert load.statuses == {302: 9400, 404: 300, 410: 300}
    wrk.check(load, EXPECTED, "them")


@pytest.mark.parametrize("said", ["", "unable to connect", SAID.replace('"requests": 10000', '"requests": 0')])
def test_no_figures_are_no_figures(said: str) -> None:
    with pytest.raises(LabToolError):
        wrk.parse(said)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"timeout": 0', '"timeout": 1', "timeout"),
        ('"read": 0', '"read": 3', "read"),
        ('"status": 600', '"status": 900', "9.0%"),
        ('"404": 300', '"404": 200, "429": 100', "404"),
        ('"404": 300', '"404": 299, "429": 1', "429"),
        ('"302": 9400', '"302": 9399, "200": 1', "200"),
    ],
)
def test_wrong_answers_are_no_figure(old: str, new: str, words: str) -> None:
    assert old in SAID
    with pytest.raises(LabToolError, match=words):
        wrk.check(wrk.parse(SAID.replace(old, new)), EXPECTED, "them")


def test_a_run_that_ended_in_the_middle_of_the_requests_is_fine() -> None:
    said = SAID.replace('"404": 300', '"404": 320').replace('"302": 9400', '"302": 9380')
    wrk.check(wrk.parse(said), EXPECTED, "them")


def test_wrk_is_started_with_what_the_script_takes() -> None:
    ask = wrk.Ask("198.18.9.21:8081", "/run/x/mix", 16, 5.0, limit=7, count=True)
    assert wrk.command(ask, "/run/x/load.lua", "go.test") == (
        "wrk -t1 -c16 -d5s --timeout 5s -s /run/x/load.lua http://198.18.9.21:8081 -- /run/x/mix go.test 7 1"
    )


def test_figures_of_a_service_are_added_up_by_label() -> None:
    found = metrics.parse(
        "# HELP x_total words\n"
        'x_total{tier="redis",kind="a b}"} 3.0\n'
        'x_total{tier="memory",kind="a"} 4.0\n'
        "x_total_more 9.0\n"
        "y_total 1e+06\n"
    )
    assert found.sum("x_total") == 7
    assert found.sum("x_total", tier="redis") == 3
    assert found.sum("y_total") == 1_000_000
    assert found.sum("z_total") == 0


# --- What becomes of it -----------------------------------------------------------------------------------------------


def load(per_second: float, p99_ms: float = 1.0) -> wrk.Load:
    return wrk.Load(round(per_second * 2), 2.0, 0.5, p99_ms, 9.0, {}, {})


def test_the_median_of_the_rounds_counts() -> None:
    rounds = [load(100, 1.0), load(300, 5.0), load(200, 2.0)]
    assert throughput.median(rounds) == 200
    assert throughput.p99(rounds) == 2.0


def test_what_capturing_costs_is_a_share_of_what_there_is_without() -> None:
    assert throughput.capture_cost(97.0, 100.0) == 3.0
    assert throughput.median_cost([load(90), load(80), load(10)], [load(100)] * 3) == 20.0
    assert throughput.capture_cost(101.0, 100.0) == -1.0


def test_a_worker_is_measured_while_it_is_at_work() -> None:
    # It takes a second to begin.
    samples = [(10.0, 0), (11.0, 0), (11.5, 1000), (12.5, 51_000), (13.5, 101_000)]
    assert worker.rate(samples) == 50_000
    # The last ones, too few for a batch, wait for more.
    assert worker.rate([*samples, (14.5, 101_000), (18.5, 105_000)]) == 50_000
    with pytest.raises(LabToolError):
        worker.rate([(10.0, 0), (11.0, 5000)])


def test_no_round_asks_for_links_of_another() -> None:
    assert latency.parts(["a", "b", "c", "d", "e"], 2) == [["a", "b"], ["c", "d"]]
    assert latency.middle([{"p99_ms": 1.0}, {"p99_ms": 130.0}, {"p99_ms": 2.0}], "p99_ms") == 2.0


def test_memory_is_read_from_the_kernel() -> None:
    rollup = "55d0-7fff ---p 00000000 00:00 0 [rollup]\nRss:    102400 kB\nPss_Dirty: 7 kB\nPss:     51200 kB\n"
    assert (memory.mib(rollup, "Rss"), memory.mib(rollup, "Pss")) == (100.0, 50.0)


def test_clicks_are_made_inside_clickhouse() -> None:
    query = api.clicks_sql("hit000001", 1000)
    assert query.startswith("INSERT INTO linkrift_analytics.clicks (event_id,")
    assert "\n" not in query
    assert "'hit000001'" in query
    assert query.endswith("LIMIT 1000")


def test_a_target_that_is_missed_is_said() -> None:
    fine = [
        Result("redirect_hit_c16_vs_bare_aiohttp", 26_000, "1/s", 20_000),
        Result("click_capture_cost", 3.0, "%"),
        Result("redirect_rss_mib_100k", 99.0, "MiB", 40.0),
        Result("no_target", 1e9, "ms"),
    ]
    assert targets.missed(fine) == []
    worse = [
        Result("redirect_hit_c16_vs_bare_aiohttp", 25_900, "1/s", 20_000),
        Result("click_capture_cost", 3.1, "%"),
        Result("worker_events_per_s", 49_999, "1/s", 400_000),
    ]
    assert targets.missed(worse) == [
        "redirect_hit_c16_vs_bare_aiohttp is a ratio of 1.295, less than 1.3",
        "click_capture_cost is 3.1 %, more than 3",
        "worker_events_per_s is 49999 1/s, less than 50000",
    ]


def test_what_is_measured_has_a_processor_of_its_own() -> None:
    assert Processors.of(2) == Processors(server=0, load=1, second=1)
    assert Processors.of(8) == Processors(server=0, load=7, second=1)
    with pytest.raises(LabToolError):
        Processors.of(1)


# --- What runs on the host --------------------------------------------------------------------------------------------


def on_host(name: str, *words: str) -> str:
    script = HERE / "on_host" / f"{name}.py"
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


def test_a_family_is_found_and_bound() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"]) as parent:
        try:
            family = on_host("family", str(parent.pid)).split()
            deadline = time.monotonic() + 20
            while len(family) < 2 and time.monotonic() < deadline:
                family = on_host("family", str(parent.pid)).split()
            assert len(family) == 2
            assert family[0] == str(parent.pid)
            on_host("pin", "0", *family)
            for member in family:
                status = Path(f"/proc/{member}/status").read_text(encoding="ascii")
                assert "Cpus_allowed_list:\t0\n" in status
        finally:
            for member in on_host("family", str(parent.pid)).split():
                subprocess.run(["kill", member], check=False)


def test_scripts_for_hosts_can_be_read_by_their_python() -> None:
    for path in (HERE / "on_host").glob("*.py"):
        compile(path.read_text(encoding="utf-8"), str(path), "exec")


def test_both_engines_are_asked_what_the_api_asks() -> None:
    query = engines.totals(TOTALS, "hit010000")
    assert "%" not in query
    assert "uniqExact(toString(event_id))" in query
    assert " FROM linkrift_analytics.clicks WHERE code = 'hit010000' AND " in query


def test_sections_are_measured_in_an_order_that_does_not_disturb() -> None:
    # The slot starts anew for the memory, with as many processes as the settings say then: the second one changes them.
    assert list(SECTIONS) == ["redirects", "clicks", "memory", "second", "create", "stats"]
