"""Ids that tie a request's log lines, events and answers together."""

from __future__ import annotations

import itertools
import secrets

HEADER = "X-Request-ID"
MAXIMUM_LENGTH = 128


class RequestIds:
    """Takes a request's id from its header or makes one, unique across processes and cheap."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8)
        self._numbers = itertools.count()

    def of(self, header: str | None) -> str:
        """Return the id for a request; a header that could do harm in a log or an answer is replaced."""
        if header and len(header) <= MAXIMUM_LENGTH and header.isascii() and header.isprintable():
            return header
        return f"{self._prefix}{next(self._numbers):08x}"
