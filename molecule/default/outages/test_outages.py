"""What visitors, owners and hosts saw while one dependency after the other was away (outages.yml)."""

from __future__ import annotations

import functools
import json
from typing import Any, cast

import pytest

from tools.testing.lab_hosts import find_lab
from tools.testing.outages import judge
from tools.testing.outages.cases import CASES, Case
from tools.testing.outages.run import PARTS


@functools.cache
def results() -> dict[str, Any]:
    path = find_lab().directory / "outages.json"
    return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_visitors_go_on_and_owners_are_told(case: Case) -> None:
    (seen,) = (results()[part]["cases"][case.name] for part in PARTS if case.name in results()[part].get("cases", {}))
    assert judge.wrong_with_case(case, seen, results()["rate"]) == []


@pytest.mark.parametrize("part", PARTS)
def test_no_visitor_failed_who_need_not(part: str) -> None:
    assert judge.wrong_with_visits(part, results()[part]) == []


@pytest.mark.parametrize("part", PARTS)
def test_each_click_is_counted_and_none_twice(part: str) -> None:
    assert judge.wrong_with_counts(part, results()) == []


def test_a_slot_that_was_swapped_without_redis_sends_what_the_old_one_left() -> None:
    for figures in results()["stores"]["swapped"].values():
        assert judge.wrong_with_figures(figures) == []


def test_hostile_clients_are_sent_away() -> None:
    assert judge.wrong_with_hostile(results()["stores"]["hostile"]) == []


def test_a_scan_of_unknown_codes_costs_no_memory() -> None:
    assert judge.wrong_with_scan(results()["stores"]["scan"]) == []


def test_a_second_after_a_change_no_host_serves_what_was() -> None:
    assert judge.wrong_with_changes(results()["stores"]["changes"]) == []


@pytest.mark.parametrize(("part", "service"), [("stores", "worker"), ("processes", "redirect")])
def test_a_process_that_was_killed_is_there_again(part: str, service: str) -> None:
    assert judge.wrong_with_killed(results()[part][service]) == []


def test_nothing_is_on_its_way_at_the_end() -> None:
    assert judge.wrong_with_end(results()["settled"]) == []
