"""How figures are read, compared and written."""

from __future__ import annotations

import json
from pathlib import Path

from tools.bench.lab import busy_seconds, parse_recap
from tools.bench.results import Result, table, write

RECAP = """
PLAY RECAP *********************************************************************
app1                       : ok=10   changed=2    unreachable=0    failed=0    skipped=3    rescued=0    ignored=0
lb1                        : ok=5    changed=0    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0
"""


def test_a_recap_is_added_up() -> None:
    run = parse_recap(RECAP, 12.345, 6.0)
    assert (run.executions, run.changed, run.hosts, run.seconds) == (15, 2, 2, 12.3)


def test_results_have_a_ratio_where_there_is_a_baseline(tmp_path: Path) -> None:
    results = [Result("a", 3.0, "s", 2.0), Result("b", 1.0, "ms")]
    write(results, tmp_path / "bench" / "results.json")
    written = json.loads((tmp_path / "bench" / "results.json").read_text())
    assert [(row["name"], row["ratio"]) for row in written] == [("a", 1.5), ("b", None)]
    assert set(written[0]) == {"name", "value", "unit", "baseline", "ratio", "command"}
    assert table(results).splitlines()[1].split() == ["a", "3", "s", "2", "1.5"]


def test_a_part_leaves_the_figures_of_the_others(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write([Result("a", 1.0, "s"), Result("b", 1.0, "s")], file)
    write([Result("b", 2.0, "s")], file, keep=True)
    assert {row["name"]: row["value"] for row in json.loads(file.read_text())} == {"a": 1.0, "b": 2.0}
    write([Result("b", 3.0, "s")], file)
    assert {row["name"]: row["value"] for row in json.loads(file.read_text())} == {"b": 3.0}


def test_busy_time_never_falls() -> None:
    assert busy_seconds() <= busy_seconds()
