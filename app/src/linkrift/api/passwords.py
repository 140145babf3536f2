"""Passwords, hashed with argon2 in a few threads of their own: a hash takes 64 MiB and a good part of a second."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

THREADS = 2


class Passwords:
    """Hashes and verifies passwords without holding up other requests."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """Use a hasher; by default with the library's parameters (RFC 9106, low memory)."""
        self._hasher = hasher or PasswordHasher()
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash of a new password."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._hasher.hash, password)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Tell whether a password is right; without a hash it never is, and telling takes as long."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._verify, password_hash, password)

    def close(self) -> None:
        """Stop the threads."""
        self._executor.shutdown(wait=False)

    def _verify(self, password_hash: str | None, password: str) -> bool:
        if password_hash is None:
            if self._nobody is None:
                self._nobody = self._hasher.hash("")
            password_hash, password = self._nobody, password + "\0"
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
