# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a rollback leads to."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.filter.rollback_release import rollback_release

A, B, C, D = "1.0+aaaaaaaaaaaa", "1.1+bbbbbbbbbbbb", "1.2+cccccccccccc", "1.3+dddddddddddd"
LEVELS = {A: 3, B: 4, C: 4, D: 5}
SCHEMA = {"level": 5, "floor": 4}


def host(*course: tuple[int, str], pruned: str = "", undone: dict[str, int] | None = None) -> dict[str, Any]:
    """Return a host on which releases became live at some days of a month."""
    installed = sorted(LEVELS.keys() - {pruned})
    return {
        "services": {
            "api": {
                "history": [{"time": day(number), "release": release, "slot": "blue"} for number, release in course],
                "undone": {release: day(number) for release, number in (undone or {}).items()},
            }
        },
        "releases": [{"id": name, "complete": True, "record": {"schema_level": LEVELS[name]}} for name in installed],
    }


def day(number: int) -> str:
    return f"2026-01-{number:02}T00:00:00.000Z"


def back(facts: dict[str, Any], recorded: str | None = None, wished: str = "", **more: Any) -> str:
    """Return where the api goes back to."""
    return rollback_release(facts, ["api"], wished, fleet={"api": recorded}, **more)["api"]


def test_the_one_before_by_the_ledgers_of_all_hosts() -> None:
    facts = {"app1": host((1, A), (2, B), (3, C)), "app2": host((1, A), (3, C)), "app3": None}
    assert back(facts, C) == B
    assert back(facts) == B, "without a record, the last one is left"


def test_new_settings_and_a_restart_are_no_other_release() -> None:
    assert back({"app1": host((1, A), (2, B), (3, B))}, B) == A


def test_a_second_rollback_leads_further_back_and_not_to_what_the_first_one_left() -> None:
    facts = {"app1": host((1, A), (2, B), (3, C), (4, B))}
    assert back(facts, B) == A
    with pytest.raises(AnsibleFilterError, match=r"no good release came before 1\.0") as refused:
        back({"app1": host((2, A), (3, B), (4, A))}, A)
    assert f"Possible: {B} (live {day(3)}, on app1)" in str(refused.value)
    assert back({"app1": host((2, A), (3, B), (4, A))}, A, wished=B) == B


def test_an_interrupted_rollout_leads_back_to_the_record() -> None:
    facts = {"app1": host((1, A), (2, B), (3, C)), "app2": host((1, A), (2, B))}
    assert back(facts, B) == B


def test_a_rollout_that_was_killed_before_anything_was_live_leads_back_to_the_record() -> None:
    facts = {"app1": host((1, A), (2, B)), "app2": host((1, A), (2, B))}
    green = {"state": "warm", "release": C, "warm_until": None}
    facts["app2"]["services"]["api"] |= {"live": "blue", "slots": {"blue": {"state": "live"}, "green": green}}
    assert back(facts, B) == B
    green["warm_until"] = 1
    assert back(facts, B) == A, "that one is only kept warm"
    green |= {"warm_until": None, "release": A}
    assert back(facts, B) == A, "a rollback that was killed goes on"


def test_an_interrupted_rollback_goes_on() -> None:
    facts = {"app1": host((1, A), (2, B), (3, A)), "app2": host((1, A), (2, B))}
    assert back(facts, B) == A


def test_a_host_that_was_left_out_does_not_count_as_interrupted() -> None:
    facts = {"app1": host((1, A), (2, B)), "app2": host((1, A))}
    assert back(facts, B) == A


def test_what_was_undone_on_one_host_is_undone() -> None:
    facts = {"app1": host((1, A), (4, C), undone={B: 3}), "app2": host((1, A), (2, B), (5, C))}
    assert back(facts, C) == A
    with pytest.raises(AnsibleFilterError, match="it was undone"):
        back(facts, C, wished=B)
    facts = {
        "app1": host((1, A), (6, C), undone={B: 5}),
        "app2": host((1, A), (3, B), (6, C)),
        "app3": host(undone={B: 2}),
    }
    assert back(facts, C) == A, "the last time counts"
    again = {"app1": host((1, A), (4, C), undone={B: 3}), "app2": host((1, A), (4, B), (5, C))}
    assert back(again, C) == B, "it was good since"


def test_a_release_that_one_host_still_has_is_enough() -> None:
    facts = {"app1": host((1, A), (2, B), pruned=A), "app2": host((1, A), (2, B))}
    assert back(facts, B) == A
    facts["app2"] = host((1, A), (2, B), pruned=A)
    with pytest.raises(
        AnsibleFilterError, match=r"go back to 1\.0\+a+: it was removed from every host.*Possible: 1\.1"
    ):
        back(facts, B)


def test_an_incomplete_release_is_none() -> None:
    facts = {"app1": host((1, A), (2, B))}
    facts["app1"]["releases"][0]["complete"] = False
    with pytest.raises(AnsibleFilterError, match="removed from every host"):
        back(facts, B)


def test_the_database_has_the_last_word() -> None:
    facts = {"app1": host((1, A), (2, B), (3, C), (4, D))}
    assert back(facts, D, wished=B, schema=SCHEMA) == B
    with pytest.raises(AnsibleFilterError, match="schema level 3, and the database serves only 4 and newer") as refused:
        back(facts, D, wished=A, schema=SCHEMA)
    listed = str(refused.value).partition("Possible: ")[2]
    assert [part[:3] for part in listed.split("; ")] == ["1.3", "1.2", "1.1"]
    with pytest.raises(AnsibleFilterError, match="needs schema level 5, and the database is at 4"):
        back(facts, D, wished=D, schema={"level": 4, "floor": 0})
    assert back(facts, D, wished=A) == A, "without a look at the database"
    del facts["app1"]["releases"][0]["record"]
    with pytest.raises(AnsibleFilterError, match="does not say which schema"):
        back(facts, D, wished=A, schema=SCHEMA)


def test_what_was_never_live_is_no_way_back() -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"api was never live and good with it; the playbook deploy"
    ) as refused:
        back({"app1": host((1, A), (2, B))}, B, wished=D)
    assert f"Possible: {B} (live {day(2)}, on app1); {A}" in str(refused.value)


def test_nothing_to_go_back_to() -> None:
    with pytest.raises(AnsibleFilterError, match=r"nothing was ever live and good\. Possible: nothing"):
        back({"app1": {}, "app2": None})
    with pytest.raises(AnsibleFilterError, match=r"no good release came before 1\.0\+a+\. Possible: nothing"):
        back({"app1": host((1, A))}, A)
