"""Links in PostgreSQL."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import asyncpg

from linkrift import codes
from linkrift.links import ROW_COLUMNS, LinkState
from linkrift.postgres import Connection, Database

# 62**7 codes: a second attempt is rare, a third one has not been seen.
GENERATE_ATTEMPTS = 8

# What an owner may set or change.
Column = Literal[
    "original_url",
    "title",
    "is_active",
    "active_from",
    "expires_at",
    "redirect_status",
    "forward_query",
    "password_hash",
    "max_clicks",
]

# Without the password's hash: nothing outside PostgreSQL but the check of a password needs it.
_COLUMNS = f"id, short_code, title, created_at, updated_at, max_clicks, clicks_used, {ROW_COLUMNS}"
_OWN = "WHERE short_code = $1 AND user_id = $2 AND deleted_at IS NULL"
_OWNS = "WHERE user_id = $1 AND deleted_at IS NULL"

_ON_CONFLICT = "ON CONFLICT (short_code) DO NOTHING RETURNING"
_FIND = "\n".join(("SELECT", _COLUMNS, "FROM links", _OWN))
_FIRST_PAGE = "\n".join(("SELECT", _COLUMNS, "FROM links", _OWNS, "ORDER BY created_at DESC, id DESC LIMIT $2"))
_NEXT_PAGE = "\n".join(
    (
        *("SELECT", _COLUMNS, "FROM links", _OWNS),
        "AND (created_at, id) < ($3, $4) ORDER BY created_at DESC, id DESC LIMIT $2",
    )
)
_DELETE = "\n".join(("UPDATE links SET deleted_at = now()", _OWN, "RETURNING", _COLUMNS))


class CodeTakenError(Exception):
    """The code belongs to another link, or did before that was deleted."""


class OwnerGoneError(Exception):
    """The account of the one who asks is no longer there."""


@dataclass(frozen=True)
class StoredLink:
    """A link as it is stored.

    Attributes:
        password: which of its passwords is asked for, counted from 1; 0: none.
        clicks_used: how often it was followed since it has a maximum.
        limited: it has one.
    """

    id: uuid.UUID
    short_code: str
    original_url: str
    title: str | None
    is_active: bool
    active_from: datetime | None
    expires_at: datetime | None
    redirect_status: int
    forward_query: bool
    password: int
    max_clicks: int | None
    clicks_used: int
    limited: bool
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None

    def state(self) -> LinkState:
        """Return what the redirect service needs to know."""
        return LinkState.of_row(vars(self))


class Links:
    """Stores links. Each call may raise DatabaseAwayError; all but `create` see the owner's own links only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, owner: uuid.UUID, code: str | None, values: dict[Column, Any]) -> StoredLink:
        """Store a new link, under the owner's own code or under a new one.

        Args:
            owner: whose it is.
            code: the owner's own code; None: a new one.
            values: its columns, `original_url` at least.

        Raises:
            CodeTakenError: the owner's own code is taken.
            OwnerGoneError: there is no such account.
        """
        async with self._database.connection("create_link") as connection:
            for _ in range(GENERATE_ATTEMPTS):
                chosen = code or codes.generate()
                if code is None and codes.is_reserved(chosen):
                    continue
                link = await _insert(connection, owner, chosen, values)
                if link is not None:
                    return link
                if code is not None:
                    break
        raise CodeTakenError

    async def find(self, owner: uuid.UUID, code: str) -> StoredLink | None:
        """Return a link."""
        async with self._database.connection("find_own_link") as connection:
            return _link(await connection.fetchrow(_FIND, code, owner))

    async def page(self, owner: uuid.UUID, limit: int, after: tuple[datetime, uuid.UUID] | None) -> list[StoredLink]:
        """Return up to `limit` links, newest first, from the one after a cursor's place."""
        async with self._database.connection("list_links") as connection:
            if after is None:
                rows = await connection.fetch(_FIRST_PAGE, owner, limit)
            else:
                rows = await connection.fetch(_NEXT_PAGE, owner, limit, *after)
        return [StoredLink(**row) for row in rows]

    async def change(self, owner: uuid.UUID, code: str, changes: dict[Column, Any]) -> StoredLink | None:
        """Change columns of a link and return it; None: there is none."""
        if not changes:
            return await self.find(owner, code)
        assignments = [f"{column} = ${number}" for number, column in enumerate(changes, 3)]
        if changes.get("max_clicks", 0) is None:
            # Whoever sets a maximum again counts anew.
            assignments.append("clicks_used = 0")
        statement = "\n".join(("UPDATE links SET", ", ".join(assignments), _OWN, "RETURNING", _COLUMNS))
        async with self._database.connection("change_link") as connection:
            return _link(await connection.fetchrow(statement, code, owner, *changes.values()))

    async def delete(self, owner: uuid.UUID, code: str) -> StoredLink | None:
        """Mark a link as deleted and return it; None: there is none."""
        async with self._database.connection("delete_link") as connection:
            return _link(await connection.fetchrow(_DELETE, code, owner))


async def _insert(connection: Connection, owner: uuid.UUID, code: str, values: dict[Column, Any]) -> StoredLink | None:
    """Insert a link; None: the code is taken."""
    columns = ", ".join(("user_id", "short_code", *values))
    places = ", ".join(f"${number}" for number in range(1, len(values) + 3))
    statement = "\n".join(("INSERT INTO links (", columns, ") VALUES (", places, ")", _ON_CONFLICT, _COLUMNS))
    try:
        row = await connection.fetchrow(statement, owner, code, *values.values())
    except asyncpg.ForeignKeyViolationError as error:
        raise OwnerGoneError from error
    return _link(row)


def _link(row: asyncpg.Record | None) -> StoredLink | None:
    return None if row is None else StoredLink(**row)
