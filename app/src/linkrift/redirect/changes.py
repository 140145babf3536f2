"""Which links changed lately, and how new a copy of each must be at least."""

from __future__ import annotations

from collections import OrderedDict

# Longer than Redis keeps a link.
KEEP_SECONDS = 310.0
MAXIMUM = 20_000


class Changes:
    """The versions that changed links have by now, for as long as a store may still hold older ones.

    Beyond MAXIMUM the oldest go; what is old in Redis all the same is there for minutes.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def note(self, code: str, version: int, now: float) -> bool:
        """Note that a link has a version by now; `now` is time.monotonic().

        Returns:
            Whether that is news.
        """
        known = self._known.get(code)
        # A code whose note is older than any copy may have been made anew since, and count from 1.
        if known is not None and known[0] >= version and known[1] > now - KEEP_SECONDS:
            return False
        while self._known:
            oldest, (_, noted_at) = next(iter(self._known.items()))
            if noted_at > now - KEEP_SECONDS and len(self._known) < MAXIMUM:
                break
            del self._known[oldest]
        self._known.pop(code, None)
        self._known[code] = (version, now)
        return True

    def at_least(self, code: str) -> int:
        """Return the version that a copy of a link must have; 0: any is good enough."""
        known = self._known.get(code)
        return 0 if known is None else known[0]
