"""Links' passwords: hashed by the API, checked by the redirect service, one by one in a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# OWASP's least for argon2id. A redirect process checks one at a time and must stay small meanwhile; how often one may
# be tried is limited besides.
TIME_COST = 2
MEMORY_KIB = 19 * 1024

MAXIMUM_LENGTH = 128

Result = TypeVar("Result")


class BusyError(Exception):
    """More passwords wait to be checked than will be soon."""


class LinkPasswords:
    """Hashes and checks passwords of links without holding up other requests."""

    def __init__(self, *, waiting: int) -> None:
        """Prepare; at most `waiting` calls are under way at a time."""
        self._hasher = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=1)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="argon2-links")
        self._free = waiting

    async def hash(self, password: str) -> str:
        """Return the hash of a new password.

        Raises:
            BusyError: too many wait already.
        """
        return await self._run(self._hasher.hash, password)

    async def verify(self, password_hash: str, password: str) -> bool:
        """Tell whether a password is right.

        Raises:
            BusyError: too many wait already.
        """
        return await self._run(self._verify, password_hash, password)

    def close(self) -> None:
        """Stop the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[..., Result], *arguments: str) -> Result:
        if self._free <= 0:
            raise BusyError
        self._free -= 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, call, *arguments)
        # Given back when the thread is done, not when the one who waited has gone.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, _future: object) -> None:
        self._free += 1

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
