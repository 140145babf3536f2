"""What a benchmark found, as a table for people and a file for scripts."""

from __future__ import annotations

import json
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


def write(results: Sequence[Result], path: Path) -> None:
    """Write the results as a JSON list; an earlier file is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = [asdict(result) | {"ratio": result.ratio} for result in results]
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _text(number: float | None) -> str:
    return "-" if number is None else f"{number:g}"
