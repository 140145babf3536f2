"""Requests that may be repeated: one that makes a link makes one link, however often it arrives (`Idempotency-Key`).

What was answered is stored in PostgreSQL, in the transaction that makes the link. Whatever is killed in between,
there are both or neither; and of two requests with one key that come at once, the second waits at the first one's row.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from aiohttp import web

from linkrift.api import bodies
from linkrift.api.problems import ApiError
from linkrift.api.requests import read_json
from linkrift.api.store import Links, OwnerGoneError
from linkrift.postgres import Connection, Database, DatabaseAwayError

LOG = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
# The answer was given before.
REPLAYED = "Idempotency-Replayed"
KEEP = timedelta(hours=24)
# How long a request waits for another one with its key: less than a statement has.
WAIT_MILLISECONDS = 2000
CLEAN_SECONDS = 600.0
CLEAN_BATCH = 1000

# A text as RFC 8941 writes it, or without the quotes.
_KEY = re.compile(r'"([ !#-\[\]-~]{1,255})"|([!#-\[\]-~]{1,255})')

# Returns nothing where there is a row that still counts. One that another transaction is about to write is waited for.
_CLAIM = """
INSERT INTO idempotency_keys AS known (user_id, key_digest, fingerprint, short_code, answer) VALUES ($1, $2, $3, '', '')
ON CONFLICT (user_id, key_digest) DO UPDATE SET fingerprint = excluded.fingerprint, created_at = now()
WHERE known.created_at < now() - $4::interval
RETURNING true
"""
_FIND = "SELECT fingerprint, short_code, answer FROM idempotency_keys WHERE user_id = $1 AND key_digest = $2"
_KEEP = "UPDATE idempotency_keys SET short_code = $3, answer = $4 WHERE user_id = $1 AND key_digest = $2"
_CLEAN = """
DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_keys WHERE created_at < now() - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED
))
"""


@dataclass(frozen=True)
class Given:
    """An answer that was given before: the link's code, and the body."""

    code: str
    answer: str


class Attempt:
    """One request that makes a link."""

    def __init__(self, links: Links, given: Given | None = None) -> None:
        """Set where the link is made, or what was answered before."""
        self.links = links
        self.given = given

    async def keep(self, code: str, answer: str) -> None:
        """Remember the answer; without a key there is nothing to remember it by."""


class _KeyedAttempt(Attempt):
    def __init__(self, connection: Connection, owner: uuid.UUID, digest: bytes) -> None:
        super().__init__(Links(_Bound(connection)))
        self._connection = connection
        self._row = (owner, digest)

    async def keep(self, code: str, answer: str) -> None:
        await self._connection.execute(_KEEP, *self._row, code, answer)


class _Bound(Database):
    """Lends one connection, in the middle of a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._bound = connection

    @asynccontextmanager
    async def connection(self, query_type: str) -> AsyncIterator[Connection]:  # noqa: ARG002 - counted as one
        yield self._bound


class Idempotency:
    """Knows which requests were answered."""

    def __init__(self, database: Database, links: Links) -> None:
        """Use a database; `links` is where a request without a key makes its link."""
        self._database = database
        self._links = links

    @asynccontextmanager
    async def attempt(self, request: web.Request, owner: uuid.UUID) -> AsyncIterator[Attempt]:
        """Begin to answer a request; at the end of the block what it did is committed.

        Yields:
            The attempt; where it has an answer, that is to be given again.

        Raises:
            ApiError: 400 for a key that is none, 422 for one that came with another request, 409 while another request
                with it is being answered.
            OwnerGoneError: there is no such account.
            DatabaseAwayError: see Database.
        """
        key = read_key(request)
        if key is None:
            yield Attempt(self._links)
            return
        digest = hashlib.sha256(key.encode()).digest()
        fingerprint = await _fingerprint(request, key)
        try:
            async with self._database.connection("create_link") as connection, connection.transaction():
                if await _claim(connection, owner, digest, fingerprint):
                    yield _KeyedAttempt(connection, owner, digest)
                    return
                row = await connection.fetchrow(_FIND, owner, digest)
        except asyncpg.LockNotAvailableError as error:
            # The row of the key, or that of a code which another request is about to take.
            raise _busy() from error
        if row is None:
            raise _busy()
        if not hmac.compare_digest(row["fingerprint"], fingerprint):
            raise ApiError(422, f"The {HEADER} came with another request before.")
        yield Attempt(self._links, Given(row["short_code"], row["answer"]))

    async def run(self) -> None:
        """Delete what is kept no longer, until cancelled."""
        while True:
            try:
                while await self.clean() == CLEAN_BATCH:
                    pass
            except (DatabaseAwayError, asyncpg.PostgresError) as error:
                LOG.warning("old idempotency keys are deleted later: %s", error)
            await asyncio.sleep(CLEAN_SECONDS)

    async def clean(self) -> int:
        """Delete some of what is kept no longer and return how many they were."""
        async with self._database.connection("clean_idempotency_keys") as connection:
            status: str = await connection.execute(_CLEAN, KEEP, CLEAN_BATCH)
        return int(status.rpartition(" ")[2])


def read_key(request: web.Request) -> str | None:
    """Return a request's key, or None where it has none.

    Raises:
        ApiError: 400.
    """
    values = request.headers.getall(HEADER, ())
    if not values:
        return None
    match = _KEY.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        raise ApiError(400, f"{HEADER} must be 1 to 255 printable characters, such as a random UUID.")
    return match[1] or match[2]


async def _claim(connection: Connection, owner: uuid.UUID, digest: bytes, fingerprint: bytes) -> bool:
    """Write the row of a key; False: there is one."""
    await connection.execute(f"SET LOCAL lock_timeout = {WAIT_MILLISECONDS}")
    try:
        return bool(await connection.fetchval(_CLAIM, owner, digest, fingerprint, KEEP))
    except asyncpg.ForeignKeyViolationError as error:
        raise OwnerGoneError from error


async def _fingerprint(request: web.Request, key: str) -> bytes:
    """Return what tells a request from others, and nothing about it to who does not know the key."""
    body = bodies.canonical(await read_json(request))
    return hmac.digest(key.encode(), b"\0".join((request.method.encode(), request.path.encode(), body)), "sha256")


def _busy() -> ApiError:
    detail = f"Another request with this {HEADER} is being answered."
    return ApiError(409, detail, headers={"Retry-After": "1"})
