"""Clicks of which only how many there were in a minute is kept: the last resort before some are lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from linkrift.clicks import event

MINUTE_MS = 60_000
KEYS = 50_000


class Run(NamedTuple):
    """Clicks on one link in one minute, and the ids that they have.

    Attributes:
        prefix: what the ids begin with.
        first: the number that the first of them ends with; the others follow.
    """

    code: str
    at_ms: int
    clicks: int
    prefix: str
    first: int

    def events(self) -> Iterator[str]:
        """Return the events; each time the same ones, so that they count once however often they are sent."""
        for number in range(self.first, self.first + self.clicks):
            yield event(f"{self.prefix}-{number:012x}", self.code, self.at_ms)


class MergedClicks:
    """Counts clicks by link and minute. What they said of the visitor is lost, that they were is not."""

    def __init__(self, keys: int = KEYS) -> None:
        """Keep at most `keys` different links and minutes."""
        self._keys = keys
        self._counts: dict[tuple[str, int], int] = {}
        self.clicks = 0

    def add(self, code: str, clicked_at_ms: int) -> bool:
        """Count a click; False: there is no room for another link or minute."""
        key = code, clicked_at_ms - clicked_at_ms % MINUTE_MS
        count = self._counts.get(key)
        if count is None and len(self._counts) >= self._keys:
            return False
        self._counts[key] = (count or 0) + 1
        self.clicks += 1
        return True

    def take(self, most: int) -> tuple[str, int, int] | None:
        """Take up to `most` clicks of one link and minute out: code, milliseconds, how many; None: there are none."""
        if not self._counts:
            return None
        key, count = self._counts.popitem()
        if count > most:
            self._counts[key] = count - most
            count = most
        self.clicks -= count
        return *key, count


def encode_runs(runs: list[Run]) -> str:
    """Return runs as the spool keeps them."""
    return json.dumps(runs, separators=(",", ":"))


def decode_runs(content: str) -> list[Run]:
    """Return what `encode_runs` was given."""
    return [Run(*fields) for fields in json.loads(content)]
