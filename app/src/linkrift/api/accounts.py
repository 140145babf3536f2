"""Accounts in PostgreSQL."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

import asyncpg

from linkrift.postgres import Database


class EmailTakenError(Exception):
    """There is an account with that address."""


@dataclass(frozen=True)
class StoredAccount:
    """An account as it is stored."""

    id: uuid.UUID
    email: str
    password_hash: str = field(repr=False)
    is_active: bool


class Accounts:
    """Stores accounts. Each call may raise DatabaseAwayError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, email: str, password_hash: str) -> uuid.UUID:
        """Store a new account and return its id.

        Raises:
            EmailTakenError: the address has one.
        """
        async with self._database.connection("create_account") as connection:
            try:
                created: uuid.UUID = await connection.fetchval(
                    "INSERT INTO users (email, password_hash) VALUES ($1, $2) RETURNING id", email, password_hash
                )
            except asyncpg.UniqueViolationError as error:
                raise EmailTakenError from error
        return created

    async def find(self, email: str) -> StoredAccount | None:
        """Return the account with an address."""
        async with self._database.connection("find_account") as connection:
            row = await connection.fetchrow(
                "SELECT id, email, password_hash, is_active FROM users WHERE email = $1", email
            )
        return None if row is None else StoredAccount(**row)
