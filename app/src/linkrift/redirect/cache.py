"""Links in a process's own memory, bounded in bytes, the ones that do not exist kept apart from those that do."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from linkrift.links import LinkState

# Changes are heard of within a second, by message or by asking; this is for what nobody foresaw.
FRESH_SECONDS = 300.0
# While neither messages about changes reach us nor PostgreSQL tells what changed.
FRESH_SECONDS_UNTOLD = 10.0
UNKNOWN_FRESH_SECONDS = 10.0
# While no message can say that the link was made meanwhile.
UNKNOWN_FRESH_SECONDS_UNHEARD = 2.0
# The codes that do not exist get this part of the room, so that a scan of made-up codes pushes out no link.
UNKNOWN_SHARE = 0.05
JITTER = 0.2

# Bytes of the process's memory that a link takes, its target, its rules and its code's characters left out, and a code
# that does not exist; once others came and went, which leaves gaps.
LINK_BYTES = 310
RULES_BYTES = 160
UNKNOWN_BYTES = 210

# More moments than entries can be good until at a time.
_MOMENTS = 1024


# What the API stores; somebody else may have stored another one.
_FITS = re.compile("[!-~]+").fullmatch


class TargetError(ValueError):
    """A link's target is none that a visitor can be sent to."""


class Entry:
    """A link, ready to be answered from.

    Attributes:
        location: the Location header's value.
        version: of the link.
        gone: it answers 410.
        expires_at: it answers 410 from then on, seconds since 1970.
        fresh_until: until then it is used without asking, time.monotonic(); 0: a change of it may have been missed.
        rules: what else there is to it; None: nothing.
    """

    __slots__ = ("expires_at", "fresh_until", "gone", "location", "rules", "version")

    def __init__(self, state: LinkState, fresh_until: float) -> None:
        self.fill(state, fresh_until)

    def fill(self, state: LinkState, fresh_until: float) -> None:
        """Take over what is known now.

        Raises:
            TargetError: the target fits into no header.
        """
        if not _FITS(state.target):
            raise TargetError("the target has characters that fit into no header")
        self.location = state.target.encode("ascii")
        self.version = state.version
        self.gone = state.gone
        self.expires_at = state.expires_at
        self.fresh_until = fresh_until
        self.rules = state.rules


class MemoryCache:
    """The least recently used links go first.

    An entry stays after its time, to be answered from while no store can be asked.

    Attributes:
        links: code → entry, the most recently used last. The redirect path reads it directly.
        heard: messages about changes reach us.
        checked_until: PostgreSQL told what changed, and that is good enough until then, time.monotonic().
    """

    def __init__(self, maximum_bytes: int) -> None:
        """Make room; a twentieth of it is for codes that do not exist."""
        self._unknown_size = max(1, int(maximum_bytes * UNKNOWN_SHARE / UNKNOWN_BYTES))
        self._maximum = maximum_bytes - self._unknown_size * UNKNOWN_BYTES
        self._bytes = 0
        self.links: OrderedDict[str, Entry] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._moments: dict[int, float] = {}
        self.heard = False
        self.checked_until = float("-inf")

    def told(self, now: float) -> bool:
        """Tell whether a change of a link would reach us."""
        return self.heard or now < self.checked_until

    def store(self, code: str, state: LinkState | None, now: float) -> Entry | None:
        """Keep what a lookup found; None: there is no such link.

        Returns:
            The entry, where there is a link.

        Raises:
            TargetError: it has no target that fits into a header.
        """
        if state is None:
            self._drop(code)
            self._unknown[code] = self._moment(
                now + (UNKNOWN_FRESH_SECONDS if self.heard else UNKNOWN_FRESH_SECONDS_UNHEARD)
            )
            if len(self._unknown) > self._unknown_size:
                self._unknown.popitem(last=False)
            return None
        self._unknown.pop(code, None)
        # Not all at once later, when many were loaded at once. Python's hash of a text differs from process to process.
        fresh = FRESH_SECONDS if self.told(now) else FRESH_SECONDS_UNTOLD
        fresh_until = self._moment(now + fresh * (1 - JITTER * (hash(code) % 256) / 256))
        entry = self.links.get(code)
        if entry is None:
            entry = self.links[code] = Entry(state, fresh_until)
        else:
            # Filled anew: what lives long need not be looked at by the garbage collector as if it were young.
            weight = _weight(code, entry)
            entry.fill(state, fresh_until)
            self._bytes -= weight
            self.links.move_to_end(code)
        self._bytes += _weight(code, entry)
        while self._bytes > self._maximum and len(self.links) > 1:
            self._drop(next(iter(self.links)))
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
            self._drop(code)

    def doubt_all(self) -> None:
        """Changes may have been missed: ask again for everything, and keep it in case there is no answer."""
        self._unknown.clear()
        for entry in self.links.values():
            entry.fresh_until = 0.0

    def recent(self, count: int) -> list[str]:
        """Return the codes of the most recently used links, the latest first."""
        return list(islice(reversed(self.links), count))

    def defer(self, codes: Sequence[str]) -> None:
        """Let links be the least recently used ones, the last one least of all."""
        for code in codes:
            if code in self.links:
                self.links.move_to_end(code, last=False)

    def sizes(self) -> tuple[int, int]:
        """Return how many links, and how many unknown codes, are kept."""
        return len(self.links), len(self._unknown)

    def used_bytes(self) -> int:
        """Return how much memory they take, as it is reckoned here."""
        return self._bytes + len(self._unknown) * UNKNOWN_BYTES

    def _moment(self, exactly: float) -> float:
        """Return a moment that all entries of its tenth of a second share: one of its own takes each 32 bytes."""
        tenth = int(exactly * 10)
        moment = self._moments.get(tenth)
        if moment is None:
            if len(self._moments) >= _MOMENTS:
                self._moments.clear()
            moment = self._moments[tenth] = tenth / 10
        return moment

    def _drop(self, code: str) -> None:
        entry = self.links.pop(code, None)
        if entry is not None:
            self._bytes -= _weight(code, entry)


def _weight(code: str, entry: Entry) -> int:
    """Return the bytes that a link takes."""
    return LINK_BYTES + len(code) + len(entry.location) + (0 if entry.rules is None else RULES_BYTES)
