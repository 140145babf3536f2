"""Passwords of accounts. A hash takes 64 MiB and a good part of a second."""

from __future__ import annotations

from argon2 import PasswordHasher

from linkrift.password_queue import PasswordQueue

THREADS = 2
# As many are done within seconds; who comes then is told to come again, rather than kept waiting.
WAITING = 32


class Passwords:
    """Hashes and verifies passwords without holding up other requests."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """Use a hasher; by default with the library's parameters (RFC 9106, low memory)."""
        chosen = hasher or PasswordHasher()
        self._queue = PasswordQueue(lambda: chosen, threads=THREADS, waiting=WAITING)
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash of a new password.

        Raises:
            BusyError: too many wait already.
        """
        return await self._queue.hash(password)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Tell whether a password is right; without a hash it never is, and telling takes as long.

        Raises:
            BusyError: too many wait already.
        """
        if password_hash is not None:
            return await self._queue.verify(password_hash, password)
        if self._nobody is None:
            self._nobody = await self._queue.hash("")
        return await self._queue.verify(self._nobody, password + "\0")

    def close(self) -> None:
        """Stop the threads."""
        self._queue.close()
