"""What a JSON body must not be, before a model sees it: nested deeply, with numbers without end, with a name twice."""

from __future__ import annotations

import json
import re
from typing import Any

MAXIMUM_DEPTH = 8
# A number that JSON's writers can mean; more digits only cost time.
MAXIMUM_NUMBER = 32

# A text that does not end is left to the parser to refuse; it is taken to the end of the body all the same, so that
# nothing is looked at twice, whatever is sent.
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_LONG_NUMBER = re.compile(rb"[-+.0-9eE]{%d}" % (MAXIMUM_NUMBER + 1))


class BodyError(ValueError):
    """A body that is not read; the message says why."""


def check(data: bytes) -> None:
    """Look at a body's shape.

    Raises:
        BodyError: see above.
    """
    bare = _TEXT.sub(b'""', data)
    if _LONG_NUMBER.search(bare):
        raise BodyError(f"The body has a number of more than {MAXIMUM_NUMBER} characters.")
    depth = 0
    for match in _BRACKET.finditer(bare):
        depth += 1 if match[0] in b"[{" else -1
        if depth > MAXIMUM_DEPTH:
            raise BodyError(f"The body is nested more than {MAXIMUM_DEPTH} levels deep.")
    try:
        json.loads(data, object_pairs_hook=_once)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise BodyError("The body is not JSON.") from None


def canonical(data: bytes) -> bytes:
    """Return a body that was checked in the one form that all its spellings share."""
    return json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that is there twice: which one counts would be a matter of opinion."""
    known = dict(pairs)
    if len(known) != len(pairs):
        raise BodyError("The body has a name twice.")
    return known
