"""The gate that looks at migrations finds what would hold visitors up, or break the release beside it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import tomllib

from tools.gates import BIN, MIGRATIONS, QUICK, ROOT, SERVERS, TOOLS, UNIT, Gate, run_stages


def test_every_place_with_tests_is_tried() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    tried = {word for gate in (UNIT, TOOLS) for word in gate.command if (ROOT / word).is_dir()}
    assert tried == set(settings["testpaths"])
    # Those with real servers are looked for in all of them.
    assert SERVERS.command[-2:] == ("-m", "servers")


def findings(*paths: Path | str) -> tuple[int, list[str]]:
    """Return the linter's exit status as the gate runs it, and the rules that it names."""
    (gate,) = (gate for gate in QUICK if gate.name == "squawk")
    done = subprocess.run(
        [BIN / gate.command[0], "--reporter", "json", *paths], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, [found["rule_name"] for found in json.loads(done.stdout)]


def test_every_migration_is_looked_at() -> None:
    (gate,) = (gate for gate in QUICK if gate.name == "squawk")
    assert gate.command[1:] == MIGRATIONS
    assert len(MIGRATIONS) >= 8
    assert findings(*MIGRATIONS) == (0, [])


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("ALTER TABLE links DROP COLUMN title;", "ban-drop-column"),
        ("DROP TABLE links;", "ban-drop-table"),
        ("ALTER TABLE links RENAME COLUMN title TO name;", "renaming-column"),
        ("ALTER TABLE links ALTER COLUMN title TYPE bytea USING title::bytea;", "changing-column-type"),
        ("ALTER TABLE links ADD COLUMN owner text NOT NULL;", "adding-required-field"),
        ("ALTER TABLE links ALTER COLUMN title SET NOT NULL;", "adding-not-nullable-field"),
        ("CREATE INDEX links_title_idx ON links (title);", "require-concurrent-index-creation"),
        ("ALTER TABLE links ADD CONSTRAINT titled CHECK (title <> '');", "constraint-missing-not-valid"),
    ],
)
def test_what_is_dangerous_is_found(tmp_path: Path, statement: str, rule: str) -> None:
    path = tmp_path / "000009_danger.up.sql"
    path.write_text(f"-- linkrift: expand\n{statement}\n")
    status, rules = findings(path)
    assert status == 1
    assert rules == [rule]
    # Who means it says so.
    path.write_text(f"-- linkrift: contract oldest=9\n-- Why.\n-- squawk-ignore {rule}\n{statement}\n")
    assert findings(path) == (0, [])


def test_the_end_says_why_a_gate_failed(capfd: pytest.CaptureFixture[str]) -> None:
    said = r"""
print("\x1b[2m│\x1b[0m E       AssertionError: 4 visitors failed")
for number in range(500): print("│ changed: [app1]", number)
print("│ FAILED")
print("│   molecule/default/tests/test_redirect.py::test_all - AssertionError: 4...")
print("1 failed, 284 passed")
"""
    long = Gate("long", ("python", "-c", said + "raise SystemExit(1)"), stream=True)
    silent = Gate("silent", ("python", "-c", "print('what it said last'); raise SystemExit(2)"))
    good = Gate("good", ("python", "-c", "print('E   nothing of it')"))
    assert run_stages([(long, silent, good), (good,)]) == 2
    assert capfd.readouterr().out.splitlines()[-7:] == [
        "1 gates were not run, since an earlier one failed",
        "long failed:",
        "    E       AssertionError: 4 visitors failed",
        "    molecule/default/tests/test_redirect.py::test_all - AssertionError: 4...",
        "silent failed:",
        "    what it said last",
        "1 passed, 2 failed",
    ]
