"""What statistics ask ClickHouse for, on the lab's engine (Debian's) and on a current one, each on one processor."""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.bench.redirect.place import DIRECTORY as ON_HOST
from tools.bench.redirect.place import HERE, Place
from tools.bench.redirect.worker import COMMAND
from tools.bench.results import Result, say
from tools.lab import LabToolError

ROOT = HERE.parents[2]
DIRECTORY = ROOT / ".bench"
LOCK = HERE / "current_clickhouse.lock"
DATABASE = "linkrift_analytics"
TIMES = 5
_UNTIL = 4_000_000_000


def totals(statement: str, code: str) -> str:
    """Return the API's query for all clicks of a link."""
    query = " ".join((statement % {"code": f"'{code}'", "since": 0, "until": _UNTIL}).split())
    return query.replace("FROM clicks", f"FROM {DATABASE}.clicks")


def environment() -> Path:
    """Return the Python that has chdb, in an environment of its own: it is large, and nobody else needs it.

    Raises:
        LabToolError: It cannot be installed.
    """
    directory = DIRECTORY / "current-clickhouse"
    python, mark = directory / "bin/python", directory / "lock.sha256"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == digest:
        return python
    shutil.rmtree(directory, ignore_errors=True)
    commands: list[Sequence[str | Path]] = [
        [sys.executable, "-m", "venv", directory],
        [python, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", LOCK],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabToolError(f"a current ClickHouse cannot be installed: {done.stderr.strip()}")
    mark.write_text(digest)
    return python


def on_current(place: Place, schema: Sequence[str], clicks_sql: str, query: str) -> dict[str, Any]:
    """Make the clicks in a current ClickHouse, and ask; return its version, the row and the milliseconds.

    Raises:
        LabToolError: It fails.
    """
    asked = {
        "prepare": [f"CREATE DATABASE {DATABASE}", f"USE {DATABASE}", *schema, clicks_sql],
        "query": query,
    }
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        processor = str(place.processors.load)
        script = HERE / "on_host/current_clickhouse.py"
        done = subprocess.run(
            ["taskset", "-c", processor, environment(), script, directory, str(TIMES)],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise LabToolError(f"a current ClickHouse does not count: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(place: Place, code: str, clicks_sql: str, clicks: int, expected: int) -> list[Result]:
    """The query for a link's totals on the lab's engine, beside a current one.

    Args:
        place: Where; the lab's engine has the clicks already.
        code: The link that is asked for.
        clicks_sql: The query that made them.
        clicks: How many there are of all links.
        expected: How many of them are the link's.

    Raises:
        LabToolError: The current one finds something else.
    """
    say("the same clicks in a current ClickHouse")
    release = json.loads(place.run(f"{place.python()} {ON_HOST}/statements.py"))
    query = totals(release["totals"], code)
    old = [place.clickhouse_seconds(query) * 1000 for _ in range(TIMES)]
    current = on_current(place, release["schema"], clicks_sql, query)
    say(f"  ClickHouse {current['version']}")
    if int(current["row"][1]) != expected:
        raise LabToolError(f"the current ClickHouse found {current['row']}, not {expected} clicks")
    found, beside = (round(statistics.median(times), 1) for times in (old, current["milliseconds"]))
    return [Result("stats_query_old_engine_vs_current_ms", found, f"ms, {clicks} clicks", beside, COMMAND)]
