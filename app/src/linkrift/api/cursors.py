"""Cursors: where a page of a list ended, as a text that means nothing to clients."""

from __future__ import annotations

import base64
import binascii
import uuid
from datetime import datetime, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class CursorError(ValueError):
    """A text that is no cursor of ours."""


def encode(created_at: datetime, link_id: uuid.UUID) -> str:
    """Return the cursor of the place after a link."""
    delta = created_at - _EPOCH
    microseconds = (delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds
    raw = microseconds.to_bytes(8, "big") + link_id.bytes
    return base64.urlsafe_b64encode(raw).decode("ascii")


def decode(cursor: str) -> tuple[datetime, uuid.UUID]:
    """Return the creation time and id of the link that a page ended with.

    Raises:
        CursorError: it is none of ours.
    """
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise CursorError("is not a cursor") from error
    microseconds = int.from_bytes(raw[:8], "big")
    # Up to the year 9999, what a datetime holds.
    if len(raw) != 24 or microseconds >= 253_402_300_800_000_000:
        raise CursorError("is not a cursor")
    seconds, rest = divmod(microseconds, 1_000_000)
    moment = datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest)
    return moment, uuid.UUID(bytes=raw[8:])
