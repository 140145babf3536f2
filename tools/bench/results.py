"""What a benchmark found, as a table for people and a file for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One figure.

    Attributes:
        name: Its name; scripts rely on it.
        value: What was measured, in `unit`.
        unit: Such as ms, s, requests/s.
        baseline: What it is compared with, measured in the same run, in the same unit; None without one.
        command: The command that gives the figure.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    command: str = "make bench"

    @property
    def ratio(self) -> float | None:
        """Value divided by baseline, rounded to three places; None without a baseline."""
        return round(self.value / self.baseline, 3) if self.baseline else None


def table(results: Sequence[Result]) -> str:
    """Return the results in columns."""
    rows = [("name", "value", "unit", "baseline", "ratio")]
    rows += [
        (result.name, f"{result.value:g}", result.unit, _text(result.baseline), _text(result.ratio))
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def write(results: Sequence[Result], path: Path, *, keep: bool = False) -> None:
    """Write the results as a JSON list.

    Args:
        results: The figures.
        path: The file; an earlier one is replaced.
        keep: Those of an earlier file that were not measured this time stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = [asdict(result) | {"ratio": result.ratio} for result in results]
    if keep and path.exists():
        new = {row["name"] for row in content}
        content = [row for row in json.loads(path.read_text(encoding="utf-8")) if row["name"] not in new] + content
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Tell what is being done, on stderr, so that the table stands alone on stdout."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _text(number: float | None) -> str:
    return "-" if number is None else f"{number:g}"
