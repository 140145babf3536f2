"""Whether this slot is admitted to traffic: a file that the slot step makes and removes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

CACHE_SECONDS = 0.2


class Admission:
    """Looks at the admission file, at most every CACHE_SECONDS."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch a file; without one (development) the slot is always admitted."""
        self._path = path
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
