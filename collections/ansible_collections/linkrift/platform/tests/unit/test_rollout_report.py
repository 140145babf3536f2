# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of a rollout, as data and as a page."""

from __future__ import annotations

import html.parser
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.module_utils.testing import patch_module_args
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.linkrift.platform.plugins.filter.rollout_report import FilterModule, rollout_report
from ansible_collections.linkrift.platform.plugins.module_utils._access_log import Counts, Mark
from ansible_collections.linkrift.platform.plugins.module_utils._paths import Layout
from ansible_collections.linkrift.platform.plugins.modules import ledger_info

TEMPLATE = Path(__file__).parents[2] / "roles" / "rollout" / "templates" / "report.html.j2"
T0 = 1_790_000_000
OLD, NEW = "1.3.2+0d4b1c2a9f3e", "1.4.0+3f9c2a71b0de"
BARE: dict[str, Any] = {"id": "20260921T141320Z-0a1b2c", "result": "success", "started": T0, "ended": T0 + 92.72}


def log(*requests: tuple[int, str, str, int, int]) -> dict[str, Any]:
    """What module access_log_info returns for a balancer: of second, service, server, status, milliseconds."""
    counts = Counts([Mark("before", T0 - 60, T0), Mark("during", T0, T0 + 93)])
    lines = []
    for second, service, server, status, spent in requests:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(T0 + second))
        entry = {"time": stamp, "status": status, "frontend": "f", "backend": f"linkrift_{service}", "server": server}
        lines.append(
            json.dumps({**entry, "end": "--", "total_ms": spent, "retries": "0"}, separators=(",", ":")).encode()
        )
    counts.add_lines(lines, 0, math.inf)
    result: dict[str, Any] = json.loads(json.dumps({**counts.as_dict(), "unreadable": 1}))
    return result


def entry(second: float, action: str, **fields: Any) -> dict[str, Any]:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(T0 + int(second))) + f".{round(second % 1 * 1000):03d}Z"
    return {"time": stamp, "slot": "green", "release": NEW, "action": action, "passed": ["ready"], **fields}


def full() -> dict[str, Any]:
    return {
        **BARE,
        "purpose": "deploy",
        "by": "alice",
        "releases": {"redirect": {"from": OLD, "to": NEW}, "worker": NEW},
        "ledgers": {
            "app1": {"redirect": [entry(9.5, "live"), entry(4.25, "candidate")], "worker": []},
            "app2": {"redirect": [entry(20, "candidate", failed="not ready")]},
        },
        "steps": [
            {"host": "app1", "service": "redirect", "what": "rotation", "at": T0 + 8, "seconds": 0.4, "slot": "green"}
        ],
        "logs": {
            "lb1": log((-5, "redirect", "app1-blue", 302, 1), (5, "redirect", "app1-blue", 302, 3)),
            "lb2": log(
                (5, "redirect", "app1-green", 500, 7),
                (6, "api", "app3-blue", 200, 9),
                (7, "api", "<NOSRV>", 503, 0),
            ),
            "lb3": {"unreachable": True},
        },
    }


# -- data --------------------------------------------------------------------------------------------------------------


def test_what_was_done_and_when() -> None:
    report = rollout_report(full())
    assert (report["format"], report["seconds"]) == (1, 92.7)
    assert (report["started"], report["ended"]) == ("2026-09-21T14:13:20.000Z", "2026-09-21T14:14:52.720Z")
    assert report["releases"] == {"redirect": {"from": OLD, "to": NEW}, "worker": {"from": None, "to": NEW}}
    part = report["hosts"]["app1"]["redirect"]
    assert part["slot"] == "green"
    assert [(step["what"], step["offset"], step["seconds"]) for step in part["steps"]] == [
        ("candidate", 4.25, None),
        ("rotation", 8.0, 0.4),
        ("live", 9.5, 1.5),
    ]
    assert part["steps"][0]["passed"] == ["ready"]
    failed = report["hosts"]["app2"]["redirect"]
    assert (failed["slot"], failed["steps"][0]["failed"]) == (None, "not ready")


def test_visitors_of_all_balancers_are_added_up() -> None:
    report = rollout_report(full())
    during = report["visitors"]["during"]
    assert (during["requests"], during["failed"], during["p50_ms"], during["p99_ms"]) == (4, 2, 3, 9)
    assert "histogram" not in during
    assert report["visitors"]["before"]["requests"] == 1
    assert report["services"]["redirect"]["during"]["failed"] == 1
    assert report["hosts"]["app1"]["redirect"]["visitors"]["during"]["requests"] == 2, "of both slots"
    assert report["hosts"]["app1"]["worker"]["visitors"] == {}
    assert "app3" not in report["hosts"], "its service was not moved"
    assert (report["balancers"], report["uncounted"], report["unreadable"]) == (["lb1", "lb2"], ["lb3"], 2)


def test_a_host_that_was_lost_is_in_it_by_its_visitors() -> None:
    report = rollout_report({**full(), "ledgers": {}, "steps": []})
    assert report["hosts"]["app1"]["redirect"]["steps"] == []
    assert report["hosts"]["app1"]["redirect"]["visitors"]["during"]["failed"] == 1


def test_little_is_enough() -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("ledgers", "logs", "steps", "failures", "releases", "by", "why", "skipped")
    )
    for run in (BARE, {**BARE, **nothing}, {**BARE, "ledgers": {"app1": None}, "failures": {"app1": {}}}):
        report = rollout_report(run)
        assert (report["hosts"], report["visitors"], report["evidence"]) == ({}, {}, [])
    text = rollout_report({**BARE, "started": "2026-09-21T14:13:20Z", "ended": "2026-09-21T16:13:21+02:00"})
    assert text["seconds"] == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": ""}, "has no id"),
        ({"started": None, "ended": None}, "has no started, ended"),
        ({"result": "fine"}, "none of success"),
        ({"started": "soon"}, "soon is no time"),
        ({"started": "2026-09-21T14:13:20"}, "has no time zone"),
        ({"steps": [{"what": "x"}]}, "there is no report of this"),
    ],
)
def test_too_little_is_an_error(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AnsibleFilterError, match=complaint):
        rollout_report({**BARE, **change})


def test_evidence_is_text_and_its_end_is_kept() -> None:
    found = {
        "task": "Gate",
        "message": "not ready",
        "gate": {"verdict": "fail"},
        "evidence": {
            "unit": {"ActiveState": "active"},
            "journal": ["x" * 30_000, "the end"],
            "empty": [],
            "answer": " no ",
        },
    }
    [evidence] = rollout_report({**BARE, "failures": {"app1": found, "app2": {}}})["evidence"]
    assert (evidence["host"], evidence["what"], evidence["why"]) == ("app1", "Gate", "not ready")
    details = {detail["title"]: detail["text"] for detail in evidence["details"]}
    assert list(details) == ["gate", "unit", "journal", "answer"]
    assert json.loads(details["unit"]) == {"ActiveState": "active"}
    assert details["journal"].startswith("…xxx")
    assert details["journal"].endswith("the end")
    assert len(details["journal"]) <= 20_001
    assert details["answer"] == "no"


def test_the_filter_has_its_name() -> None:
    assert list(FilterModule().filters()) == ["rollout_report"]


# -- page --------------------------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """What is in a page; complains of elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open and self.open[-1] != "style" else ""


def page(run: dict[str, Any]) -> tuple[str, Page]:
    templar = Templar(loader=DataLoader(), variables={"rollout_report": rollout_report(run)})
    text = str(templar.template(trust_as_template(TEMPLATE.read_text(encoding="utf-8"))))
    return text, Page(text)


RUNS = [
    full(),
    BARE,
    {**full(), "result": "undone", "why": "app2 failed", "failures": {"app2": {"task": "Gate", "journal": ["line"]}}},
    {**BARE, "result": "failed", "skipped": ["stabilisation"]},
    {**BARE, "started": T0, "ended": T0},
]


@pytest.mark.parametrize("run", RUNS)
def test_the_page_needs_nothing_else(run: dict[str, Any]) -> None:
    text, found = page(run)
    names = {tag for tag, _attributes in found.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "form"}
    assert not re.search(r"https?://|url\(|@import|\son\w+=", text)
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize("run", RUNS)
def test_the_page_can_be_read_by_everybody(run: dict[str, Any]) -> None:
    _text, found = page(run)
    tags = found.tags
    assert ("html", {"lang": "en"}) in tags
    ids = [attributes["id"] for _tag, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in tags:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name, ids[0]) in ids, (tag, attributes)
        assert tag != "th" or attributes["scope"] in ("col", "row")
        assert tag != "table" or attributes["aria-labelledby"]
        # What can only be scrolled by a mouse cannot be read by others.
        assert attributes.get("class") != "wide" or (attributes["tabindex"] == "0" and attributes["aria-label"])
    assert [tag for tag, _attributes in tags].count("h1") == 1
    assert [tag for tag, _attributes in tags].count("main") == 1


def test_the_page_says_what_the_report_says() -> None:
    _text, found = page(RUNS[2])
    words = " ".join(found.text.split())
    for wanted in (
        "Deploy undone",
        "app2 failed. Every host is on what it ran before.",
        OLD,
        NEW,
        "4: 2 failed, 0 retried",
    ):
        assert wanted in words
    assert "its log could not be read: lb3" in words
    assert "failed: not ready" in words
    assert "app1redirectrotationgreen+8.0 s0.4 s" in words
    words = " ".join(page(RUNS[3])[1].text.split())
    assert "Left outstabilisation" in words
    assert "No host was touched." in words


def test_what_hosts_say_is_text_and_nothing_else() -> None:
    evil = "\"><script>alert(1)</script>'&"
    run = {
        "id": evil,
        "purpose": evil,
        "by": evil,
        "why": evil,
        "result": "failed",
        "started": T0,
        "ended": T0 + 1,
        "releases": {evil: {"from": evil, "to": evil}},
        "skipped": [evil],
        "ledgers": {evil: {evil: [entry(0.5, evil, slot=evil, passed=[evil]), entry(0.6, "x", failed=evil)]}},
        "logs": {
            evil: {**log((0, "redirect", "app1-blue", 302, 1)), "marks": {evil: log()["marks"]["during"]}},
            evil * 2: {},
        },
        "failures": {evil: {"task": evil, "message": evil, evil: evil}},
    }
    text, found = page(run)
    assert "<script" not in text
    assert found.text.count(evil) >= 12
    assert all("alert" not in name for _tag, attributes in found.tags for name in attributes)


# -- ledger ------------------------------------------------------------------------------------------------------------


def test_the_lines_of_one_rollout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(tmp_path)
    monkeypatch.setattr(ledger_info, "Layout", lambda: layout)
    path = layout.ledger("api")
    path.parent.mkdir(parents=True)
    lines = [
        entry(n, "live", by=by) for n, by in enumerate(["deploy r-1 (a)", "deploy r-10 (a)", "rollback r-1 (b)", "eve"])
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')

    def run(**arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            ledger_info.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    assert run(run="r-1")["entries"] == {"api": [lines[0], lines[2]], "redirect": [], "worker": []}
    assert run(services=["api"], limit=1)["entries"] == {"api": lines[-1:]}
    assert "1 at least" in run(limit=0)["msg"]
