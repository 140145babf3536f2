"""Passwords of accounts. A hash takes 64 MiB and a good part of a second."""

from __future__ import annotations

from argon2 import PasswordHasher

from linkrift.password_queue import PasswordQueue

THREADS = 2
# As many are done within seconds; who comes then is told to come again, rather than kept waiting.
WAITING = 32


class Passwords(PasswordQueue):
    """Hashes and verifies passwords without holding up other requests."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """Use a hasher; by default with the library's parameters (RFC 9106, low memory)."""
        chosen = hasher or PasswordHasher()
        super().__init__(lambda: chosen, threads=THREADS, waiting=WAITING)
        self._nobody: str | None = None

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Tell whether a password is right; without a hash it never is, and telling takes as long.

        Raises:
            BusyError: too many wait already.
        """
        return await self._run(self._verify, password_hash, password)

    def _verify(self, password_hash: str | None, password: str) -> bool:
        if password_hash is None:
            if self._nobody is None:
                self._nobody = self._hash("")
            password_hash, password = self._nobody, password + "\0"
        return super()._verify(password_hash, password)
