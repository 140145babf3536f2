"""Links in a process's own memory, bounded, the ones that do not exist kept apart from those that do."""

from __future__ import annotations

from collections import OrderedDict

from linkrift.links import LinkState

FRESH_SECONDS = 60.0
# While no message about a change can reach us.
FRESH_SECONDS_UNTOLD = 10.0
UNKNOWN_FRESH_SECONDS = 10.0
# The codes that do not exist get this part of the room, so that a scan of made-up codes pushes out no link.
UNKNOWN_SHARE = 0.1
_JITTER = 0.2


class Entry:
    """A link, ready to be answered from.

    Attributes:
        location: the Location header's value.
        version: of the link.
        gone: it answers 410.
        expires_at: it answers 410 from then on, seconds since 1970.
        fresh_until: until then it is used without asking, time.monotonic().
    """

    __slots__ = ("expires_at", "fresh_until", "gone", "location", "version")

    def __init__(self, state: LinkState, fresh_until: float) -> None:
        self.location = state.target.encode("ascii")
        self.version = state.version
        self.gone = state.gone
        self.expires_at = state.expires_at
        self.fresh_until = fresh_until


class MemoryCache:
    """The least recently used links go first.

    An entry stays after its time, to be answered from while no store can be asked.

    Attributes:
        links: code → entry, the most recently used last. The redirect path reads it directly.
        told: messages about changes reach us.
    """

    def __init__(self, size: int) -> None:
        """Make room for `size` links and a tenth of that of codes that do not exist."""
        self._size = size
        self._unknown_size = max(1, int(size * UNKNOWN_SHARE))
        self.links: OrderedDict[str, Entry] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self.told = False

    def store(self, code: str, state: LinkState | None, now: float) -> Entry | None:
        """Keep what a lookup found; None: there is no such link.

        Returns:
            The entry, where there is a link.
        """
        if state is None:
            self.links.pop(code, None)
            self._unknown[code] = now + UNKNOWN_FRESH_SECONDS
            if len(self._unknown) > self._unknown_size:
                self._unknown.popitem(last=False)
            return None
        self._unknown.pop(code, None)
        # Not all at once later, when many were loaded at once. Python's hash of a text differs from process to process.
        fresh = (FRESH_SECONDS if self.told else FRESH_SECONDS_UNTOLD) * (1 - _JITTER * (hash(code) % 256) / 256)
        entry = Entry(state, now + fresh)
        self.links[code] = entry
        self.links.move_to_end(code)
        if len(self.links) > self._size:
            self.links.popitem(last=False)
        return entry

    def is_unknown(self, code: str, now: float) -> bool:
        """Tell whether we know that there is no such link."""
        fresh_until = self._unknown.get(code)
        if fresh_until is None:
            return False
        if fresh_until <= now:
            del self._unknown[code]
            return False
        return True

    def forget(self, code: str, version: int) -> None:
        """A link changed, or came to be: ask again, unless that version is what we have."""
        self._unknown.pop(code, None)
        entry = self.links.get(code)
        if entry is not None and entry.version < version:
            del self.links[code]

    def doubt_all(self) -> None:
        """Messages may have been missed: ask again for everything, and keep it in case there is no answer."""
        self._unknown.clear()
        for entry in self.links.values():
            entry.fresh_until = 0.0

    def sizes(self) -> tuple[int, int]:
        """Return how many links, and how many unknown codes, are kept."""
        return len(self.links), len(self._unknown)
