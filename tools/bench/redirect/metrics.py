"""Figures of a service, as it tells them in Prometheus' text format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LINE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Metrics:
    """All figures of a service at a moment: name and labels, and the value."""

    samples: tuple[tuple[str, Mapping[str, str], float], ...]

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of what has this name and these labels; 0 where nothing has."""
        return sum(
            value
            for found, own, value in self.samples
            if found == name and all(own.get(label) == wanted for label, wanted in labels.items())
        )


def parse(text: str) -> Metrics:
    """Read the text."""
    matches = (_LINE.match(line) for line in text.splitlines() if not line.startswith("#"))
    return Metrics(
        tuple(
            (match["name"], dict(_LABEL.findall(match["labels"] or "")), float(match["value"]))
            for match in matches
            if match
        )
    )
