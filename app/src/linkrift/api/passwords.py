"""Passwords, hashed with argon2 in a few threads of their own: a hash takes 64 MiB and a good part of a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from linkrift.link_passwords import BusyError

THREADS = 2
# As many are done within seconds; who comes then is told to come again, rather than kept waiting.
WAITING = 32

Result = TypeVar("Result")


class Passwords:
    """Hashes and verifies passwords without holding up other requests."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """Use a hasher; by default with the library's parameters (RFC 9106, low memory)."""
        self._hasher = hasher or PasswordHasher()
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
        self._nobody: str | None = None
        self._free = WAITING

    async def hash(self, password: str) -> str:
        """Return the hash of a new password.

        Raises:
            BusyError: too many wait already.
        """
        return await self._run(self._hasher.hash, password)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Tell whether a password is right; without a hash it never is, and telling takes as long.

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

    def _verify(self, password_hash: str | None, password: str) -> bool:
        if password_hash is None:
            if self._nobody is None:
                self._nobody = self._hasher.hash("")
            password_hash, password = self._nobody, password + "\0"
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
