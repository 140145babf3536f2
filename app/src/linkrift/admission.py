"""Whether this slot is admitted to traffic, and which slot is live: files that the slot step makes and removes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

CACHE_SECONDS = 0.2


class Admission:
    """Looks at the admission file, at most every CACHE_SECONDS."""

    def __init__(
        self, path: Path | None, live_link: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Watch a file; without one (development) the slot is always admitted.

        Args:
            path: the admission file.
            live_link: the link that names the service's live slot on this host.
            clock: seconds that only grow.
        """
        self._path = path
        self._live_link = live_link
        self._clock = clock
        self._looked_at = float("-inf")
        self._admitted = False

    def admitted(self) -> bool:
        """Tell whether the slot may take traffic."""
        if self._path is None:
            return True
        now = self._clock()
        if now - self._looked_at >= CACHE_SECONDS:
            self._admitted = self._path.exists()
            self._looked_at = now
        return self._admitted

    def standing(self) -> dict[str, str | float | bool | None]:
        """Return what a balancer that was away can learn from: what is so, and for how many seconds; None: unknown.

        Ages and no times: whoever asks need not have the same clock.
        """
        return {
            "admitted": self.admitted(),
            "admitted_seconds": _age(self._path),
            "live_slot": _target(self._live_link),
            "live_seconds": _age(self._live_link),
        }


def _age(path: Path | None) -> float | None:
    """Return how many seconds ago a file, or the link itself, was written."""
    if path is None:
        return None
    try:
        return round(max(0.0, time.time() - path.lstat().st_mtime), 3)
    except OSError:
        return None


def _target(link: Path | None) -> str | None:
    if link is None:
        return None
    try:
        return link.readlink().name
    except OSError:
        return None
