"""Rounds of a sweep: those that are done are written down, so that a sweep that was broken off can go on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tools.lab import LabToolError

Row = Mapping[str, object]
"""What there is to say of a round, for a line of the table."""


class Rounds:
    """The rounds of one part."""

    def __init__(self, file: Path, *, resume: bool) -> None:
        """Begin, or go on.

        Args:
            file: Where rounds are written down, one JSON object a line.
            resume: Rounds that the file has are done; otherwise it begins anew.
        """
        self._file = file
        self.done: dict[str, Row] = {}
        self.failed: list[str] = []
        file.parent.mkdir(parents=True, exist_ok=True)
        if resume and file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self.done[entry["round"]] = entry["row"]
        else:
            file.write_text("", encoding="utf-8")

    def go(self, names: Iterable[str], run: Callable[[str], Row | None], *, patient: bool = False) -> None:
        """Run the rounds that are not done yet, and say how each went.

        Args:
            names: Of the rounds, in order.
            run: Runs one; None: there are no more.
            patient: Go on after one that failed.

        Raises:
            LabToolError: A round failed, and we are not patient.
        """
        for name in names:
            if name in self.done:
                say(f"{name}: done before")
                continue
            began = time.monotonic()
            try:
                row = run(name)
            except LabToolError as error:
                say(f"{name}: FAILED after {time.monotonic() - began:.0f} s: {error}")
                self.failed.append(name)
                if not patient:
                    raise
                continue
            if row is None:
                return
            took = time.monotonic() - began
            self._write(name, {**row, "took": f"{took:.0f} s"})
            say(f"{name}: {'  '.join(f'{key} {value}' for key, value in row.items())}  ({took:.0f} s)")

    def _write(self, name: str, row: Row) -> None:
        self.done[name] = row
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"round": name, "row": row}) + "\n")


def say(text: str) -> None:
    """Tell how far it is, with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def table(rows: Sequence[Row]) -> str:
    """Return rows in columns; a column that a row has not is empty there."""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    lines = [heads, *([str(row.get(head, "")) for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
