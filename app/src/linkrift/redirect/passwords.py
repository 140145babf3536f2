"""Takes the password that a visitor sends for a link, and tells whether it is the right one."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import parse_qs, urlsplit

import asyncpg
from aiohttp import web

from linkrift.link_passwords import MAXIMUM_LENGTH, LinkPasswords
from linkrift.password_queue import BusyError
from linkrift.postgres import Database, DatabaseAwayError
from linkrift.redirect.attempts import Attempts
from linkrift.redirect.enumeration import IPV6_PREFIX, Address

# A form with one password, each of its bytes percent-encoded, and some room.
MAXIMUM_BODY = 4096
BODY_SECONDS = 5.0
CONTENT_TYPE = "application/x-www-form-urlencoded"

# Attempts that are looked at together; who comes then is told to come again, and no store is asked for him.
ATTEMPTS_AT_ONCE = 32
# Of those, how many read a hash from PostgreSQL: that is faster than checking a password, which is done one by one. The
# other connections are for those who look up links.
READS_AT_ONCE = 2

_HASH = """
SELECT password_hash FROM links
WHERE short_code = $1 AND deleted_at IS NULL AND coalesce(guarded_is_active, is_active)
"""


class Outcome(Enum):
    """What became of an attempt."""

    RIGHT = auto()
    WRONG = auto()
    TOO_MANY = auto()
    BUSY = auto()
    GONE = auto()


@dataclass(frozen=True)
class Attempt:
    """An attempt; `wait` is after how many seconds the next one may be made."""

    outcome: Outcome
    wait: int = 0


class FormError(Exception):
    """A form that is not taken; `status` says why."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Passwords:
    """Checks passwords of links. The hash is read for each attempt: it is kept nowhere but in PostgreSQL."""

    def __init__(self, database: Database, attempts: Attempts, checker: LinkPasswords, *, timeout: float) -> None:
        """Prepare; `timeout` is what reading a hash may take, in seconds."""
        self._database = database
        self._attempts = attempts
        self._checker = checker
        self._timeout = timeout
        self._under_way = 0
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    async def check(self, code: str, password: str, address: Address | None) -> Attempt:
        """Try a password.

        An attempt is counted before anything is done for it, so that many at once are no way round the limits, and one
        over its limit costs PostgreSQL nothing. One that nobody could look at is taken back.

        Args:
            code: of the link.
            password: what the visitor sent.
            address: of the visitor; None: unknown, which is one address, too.

        Raises:
            DatabaseAwayError: there is nothing to compare with.
        """
        if self._under_way >= ATTEMPTS_AT_ONCE:
            return Attempt(Outcome.BUSY, 1)
        self._under_way += 1
        try:
            return await self._check(code, password, _visitor(address))
        finally:
            self._under_way -= 1

    async def _check(self, code: str, password: str, who: str) -> Attempt:
        admission = await self._attempts.admit(code, who)
        if admission.wait:
            return Attempt(Outcome.TOO_MANY, admission.wait)
        try:
            outcome = await self._compare(code, password)
        except DatabaseAwayError:
            await self._attempts.forgive(code, who, admission)
            raise
        if outcome is not Outcome.WRONG:
            await self._attempts.forgive(code, who, admission)
        return Attempt(outcome, 1 if outcome is Outcome.BUSY else 0)

    async def _compare(self, code: str, password: str) -> Outcome:
        try:
            row = await asyncio.wait_for(self._find_hash(code), self._timeout)
        except asyncio.TimeoutError as error:
            raise DatabaseAwayError("timed out") from error
        except asyncpg.PostgresError as error:
            raise DatabaseAwayError(str(error)) from error
        if row is None:
            return Outcome.GONE
        password_hash = row["password_hash"]
        if password_hash is None:
            # The owner took the password away a moment ago.
            return Outcome.RIGHT
        if len(password) > MAXIMUM_LENGTH:
            return Outcome.WRONG
        try:
            return Outcome.RIGHT if await self._checker.verify(password_hash, password) else Outcome.WRONG
        except BusyError:
            return Outcome.BUSY

    async def _find_hash(self, code: str) -> Mapping[str, str | None] | None:
        async with self._reads, self._database.connection("find_password") as connection:
            row: Mapping[str, str | None] | None = await connection.fetchrow(_HASH, code)
        return row


def is_from_our_page(request: web.BaseRequest) -> bool:
    """Tell whether a form was sent by our own page, or by something that is no browser.

    Another site's page could otherwise have its visitors try passwords, each from an address of their own.
    """
    headers = request.headers
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("Origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == headers.get("Host", "").lower()
    except ValueError:
        return False


async def read_password(request: web.BaseRequest) -> str:
    """Read the password from a form.

    Raises:
        FormError: it is too large, too slow, or no form.
    """
    if request.content_type != CONTENT_TYPE:
        raise FormError("415 Unsupported Media Type", "Send the password as a form.")
    try:
        body = await asyncio.wait_for(_read(request), BODY_SECONDS)
    except asyncio.TimeoutError as error:
        raise FormError("408 Request Timeout", "The form took too long.") from error
    except web.RequestPayloadError as error:
        raise FormError("400 Bad Request", "The form did not come whole.") from error
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=4, errors="strict")
    except ValueError as error:
        raise FormError("400 Bad Request", "This is not a form.") from error
    values = fields.get("password", [])
    if len(values) != 1:
        raise FormError("400 Bad Request", "Send one password.")
    return values[0]


async def _read(request: web.BaseRequest) -> bytes:
    """Read a body, however it comes, up to what a form may have."""
    body = b""
    if (request.content_length or 0) <= MAXIMUM_BODY:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > MAXIMUM_BODY:
                break
        else:
            return body
    raise FormError("413 Content Too Large", "The form is too large.")


def _visitor(address: Address | None) -> str:
    """Return the address, or the network that one visitor has with IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)
