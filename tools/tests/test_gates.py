"""The gate that looks at migrations finds what would hold visitors up, or break the release beside it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tools.gates import BIN, MIGRATIONS, QUICK, ROOT


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
