"""Whoever asks for one code after another that does not exist is told to slow down."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict

MAXIMUM_KEPT = 20_000
IPV6_PREFIX = 64
WINDOW_SECONDS = 60.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class UnknownCodes:
    """Counts, for each address, what it asked for and is not there. Over its limit it gets what is in memory only.

    Each process counts for itself: with n of them an address may ask about n times as much. What is kept is bounded:
    the addresses that were quiet longest are forgotten first.
    """

    def __init__(self, limit: int) -> None:
        """Prepare.

        Args:
            limit: how many unknown codes an address may ask for in a minute; 0: as many as it likes.
        """
        self._limit = limit
        self._pace = WINDOW_SECONDS / limit if limit else 0.0
        # When each address will have used nothing of its share, in the order of the last question.
        self._empty_at: OrderedDict[int, float] = OrderedDict()

    def note(self, address: Address | None, now: float) -> int:
        """Note that an address asked for a code that is not there.

        Args:
            address: of the visitor; None: unknown, and not counted.
            now: time.monotonic().

        Returns:
            After how many seconds it may ask again; 0: at once.
        """
        if not self._limit or address is None:
            return 0
        key = _key(address)
        empty_at = max(self._empty_at.pop(key, now), now) + self._pace
        excess = empty_at - now - WINDOW_SECONDS
        if excess > 0:
            # What is refused is not held against it, else it would never end.
            self._empty_at[key] = empty_at - self._pace
            return math.ceil(excess)
        self._empty_at[key] = empty_at
        if len(self._empty_at) > MAXIMUM_KEPT:
            self._empty_at.popitem(last=False)
        return 0

    def wait(self, address: Address | None, now: float) -> int:
        """Tell what `note` would answer, and note nothing."""
        if not self._limit or address is None:
            return 0
        return max(0, math.ceil(self._empty_at.get(_key(address), now) + self._pace - now - WINDOW_SECONDS))

    def size(self) -> int:
        """Return how many addresses are kept."""
        return len(self._empty_at)


def _key(address: Address) -> int:
    """Return the address, or the network that one visitor has with IPv6; never both the same."""
    if address.version == 4:
        return int(address)
    return (int(address) >> (128 - IPV6_PREFIX)) + (1 << 64)
