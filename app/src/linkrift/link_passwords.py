"""Links' passwords: hashed by the API, checked by the redirect service, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linkrift.password_queue import PasswordQueue

if TYPE_CHECKING:
    from argon2 import PasswordHasher

# OWASP's least for argon2id. A redirect process checks one at a time and must stay small meanwhile; how often one may
# be tried is limited besides.
TIME_COST = 2
MEMORY_KIB = 19 * 1024

MAXIMUM_LENGTH = 128


class LinkPasswords(PasswordQueue):
    """Hashes and checks passwords of links without holding up other requests."""

    def __init__(self, *, waiting: int) -> None:
        """Prepare; at most `waiting` calls are under way at a time."""
        super().__init__(_make_hasher, threads=1, waiting=waiting)


def _make_hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=1)
