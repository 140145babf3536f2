"""Hashes of passwords, made and checked in a few threads of their own; whom they would keep waiting is told so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from argon2 import PasswordHasher

Result = TypeVar("Result")


class BusyError(Exception):
    """More passwords wait to be checked than will be soon."""


class PasswordQueue:
    """Hashes and checks passwords with argon2 without holding up other requests."""

    def __init__(self, make_hasher: Callable[[], PasswordHasher], *, threads: int, waiting: int) -> None:
        """Prepare.

        Args:
            make_hasher: makes what hashes; called in a thread, for the first password: many processes see none.
            threads: passwords that are worked on at a time; each takes the hasher's memory.
            waiting: calls that may be under way, those included; who comes then is told to come again.
        """
        self._make_hasher = make_hasher
        self._hasher: PasswordHasher | None = None
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._free = waiting

    async def hash(self, password: str) -> str:
        """Return the hash of a new password.

        Raises:
            BusyError: too many wait already.
        """
        return await self._run(self._hash, password)

    async def verify(self, password_hash: str, password: str) -> bool:
        """Tell whether a password is right; for what is no hash, none is.

        Raises:
            BusyError: too many wait already.
        """
        return await self._run(self._verify, password_hash, password)

    def close(self) -> None:
        """Stop the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[..., Result], *arguments: str | None) -> Result:
        if self._free <= 0:
            raise BusyError
        self._free -= 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, call, *arguments)
        # Given back when the thread is done, not when the one who waited has gone.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, _future: object) -> None:
        self._free += 1

    def _get_hasher(self) -> PasswordHasher:
        if self._hasher is None:
            self._hasher = self._make_hasher()
        return self._hasher

    def _hash(self, password: str) -> str:
        return self._get_hasher().hash(password)

    def _verify(self, password_hash: str, password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            return self._get_hasher().verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
