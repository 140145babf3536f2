"""Click events on their way from a redirect process to ClickHouse.

An entry of the Redis stream carries several events as one JSON array, so that neither Redis nor the worker handles
them one by one. Readers leave fields alone that they do not know and do without those that are missing: during a
rollout both releases write and read.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any
from uuid import UUID

from linkrift.codes import MAXIMUM_LENGTH

FIELD = b"events"
EVENTS_PER_ENTRY = 100

REQUEST_ID_LENGTH = 128
REFERRER_HOST_LENGTH = 253
USER_AGENT_LENGTH = 512
ADDRESS_LENGTH = 45
VISITOR_DIGITS = 16

# ClickHouse's DateTime begins in 1970 and ends in 2105.
_LATEST_MS = 4_291_747_199_000

_VISITOR = re.compile(f"[0-9a-f]{{{VISITOR_DIGITS}}}")
_COUNTRY = re.compile("[A-Z][A-Z0-9]")


class MalformedEventError(ValueError):
    """An event cannot be read; the message says why."""


@dataclass(slots=True)
class Click:
    """One click.

    Attributes:
        event_id: the same however often the event is delivered.
        code: the link's code.
        clicked_at_ms: milliseconds since 1970.
        request_id: of the request that it came with.
        referrer_host: host of the page that linked, or empty.
        user_agent: the visitor's program, cut to a bounded length.
        address: the visitor's network (/24 or /48), never the address itself.
        visitor: tells the visitors of one day apart, 16 hexadecimal digits, or empty.
        country: two letters that the edge found for the visitor, or empty.
    """

    event_id: str
    code: str
    clicked_at_ms: int
    request_id: str = ""
    referrer_host: str = ""
    user_agent: str = ""
    address: str = ""
    visitor: str = ""
    country: str = ""

    def document(self) -> dict[str, Any]:
        """Return the form that travels; empty fields stay at home."""
        document: dict[str, Any] = {"id": self.event_id, "code": self.code, "at": self.clicked_at_ms}
        optional = {
            "request": self.request_id,
            "referrer": self.referrer_host,
            "agent": self.user_agent,
            "network": self.address,
            "visitor": self.visitor,
            "country": self.country,
        }
        return {**document, **{key: value for key, value in optional.items() if value}}


class EventIds:
    """Ids for the events of a process: 74 random bits of its own, then a count. RFC 9562 calls that version 8."""

    def __init__(self) -> None:
        random = secrets.token_hex(8)
        self.prefix = f"{random[:8]}-{random[8:12]}-8{random[12:15]}-{secrets.choice('89ab')}{secrets.token_hex(2)[:3]}"
        self._next = 0

    def one(self) -> str:
        """Return an id that nobody has."""
        number = self._next
        self._next = number + 1
        return f"{self.prefix}-{number:012x}"

    def several(self, count: int) -> int:
        """Keep so many; returns the number that the first of them ends with."""
        first = self._next
        self._next += count
        return first


def field(name: str, value: str) -> str:
    """Return a field as it stands at the end of an event; an empty one stays at home."""
    return f',"{name}":{_quoted(value)}' if value else ""


def event(event_id: str, code: str, clicked_at_ms: int, request_id: str = "", more: str = "") -> str:
    """Return one event as it travels; `encode` would return the same, and take three times as long.

    Args:
        event_id: of its own.
        code: the link's; it has nothing that JSON would quote.
        clicked_at_ms: milliseconds since 1970.
        request_id: of the request that it came with.
        more: the other fields, in their order, each from `field`.
    """
    request = f',"request":{_quoted(request_id)}' if request_id else ""
    return f'{{"id":"{event_id}","code":"{code}","at":{clicked_at_ms}{request}{more}}}'


def entry(events: list[str]) -> str:
    """Return the content of one stream entry, from events made by `event`."""
    return f"[{','.join(events)}]"


def encode(clicks: list[Click]) -> str:
    """Return the content of one stream entry."""
    return json.dumps([click.document() for click in clicks], separators=(",", ":"))


def decode(data: bytes | None) -> tuple[list[Click], list[tuple[Any, str]]]:
    """Read the content of one stream entry.

    Returns:
        The events, and those that cannot be read, each with the reason.

    Raises:
        MalformedEventError: the entry as a whole cannot be read.
    """
    if data is None:
        raise MalformedEventError("no field 'events'")
    try:
        # Decoded here: the parser would let surrogates through that no text may have.
        documents = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise MalformedEventError(f"not JSON: {error}") from error
    if not isinstance(documents, list):
        raise MalformedEventError("not a list")
    # Only an escaped surrogate can make text that is not valid; looking for one here spares looking at each field.
    suspect = b"\\ud" in data or b"\\uD" in data
    results = [(document, _click_or_error(document, suspect)) for document in documents]
    clicks = [result for _, result in results if isinstance(result, Click)]
    rejected = [(document, str(result)) for document, result in results if isinstance(result, MalformedEventError)]
    return clicks, rejected


def request_id_of(content: str) -> str:
    """Return the request id of an event that cannot be read as a whole, as far as it has one."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    found = document.get("request") if isinstance(document, dict) else None
    return found[:REQUEST_ID_LENGTH] if isinstance(found, str) and found.isprintable() else ""


def _click_or_error(document: Any, suspect: bool) -> Click | MalformedEventError:
    try:
        return _click(document, suspect)
    except MalformedEventError as error:
        return error


def _click(document: Any, suspect: bool) -> Click:
    if not isinstance(document, dict):
        raise MalformedEventError("not an object")
    moment = document.get("at")
    if not isinstance(moment, int) or isinstance(moment, bool) or not 0 <= moment <= _LATEST_MS:
        raise MalformedEventError("'at' is not a time in milliseconds")
    event_id = _text(document, "id", 36, suspect)
    try:
        UUID(event_id)
    except ValueError as error:
        raise MalformedEventError("'id' is not a UUID") from error
    code = _text(document, "code", MAXIMUM_LENGTH, suspect)
    if not code:
        raise MalformedEventError("'code' is missing")
    return Click(
        event_id,
        code,
        moment,
        _text(document, "request", REQUEST_ID_LENGTH, suspect),
        _text(document, "referrer", REFERRER_HOST_LENGTH, suspect),
        _text(document, "agent", USER_AGENT_LENGTH, suspect),
        _text(document, "network", ADDRESS_LENGTH, suspect),
        _matching(document, "visitor", _VISITOR),
        _matching(document, "country", _COUNTRY),
    )


def _matching(document: dict[Any, Any], key: str, form: re.Pattern[str]) -> str:
    """Return a field where it has its form; a click counts without it."""
    value = document.get(key)
    return value if isinstance(value, str) and form.fullmatch(value) else ""


def _text(document: dict[Any, Any], key: str, maximum: int, suspect: bool) -> str:
    value = document.get(key, "")
    if not isinstance(value, str) or len(value) > maximum:
        raise MalformedEventError(f"{key!r} is not a text of at most {maximum} characters")
    if suspect:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise MalformedEventError(f"{key!r} is not valid text") from error
    return value
