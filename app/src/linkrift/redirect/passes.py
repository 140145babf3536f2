"""What a visitor gets for a link's password: a signed cookie that opens this one link for a while."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

COOKIE = "__Secure-linkrift"
LIFETIME_SECONDS = 900

_PURPOSE = b"linkrift link pass 1\0"


class Passes:
    """Makes and checks passes. A pass is for one link, one of its passwords, and fifteen minutes."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Prepare.

        Args:
            keys: secrets; the first one signs, all are accepted.
        """
        self._keys = [hashlib.sha256(_PURPOSE + key.encode()).digest() for key in keys]

    def cookie(self, code: str, password: int, now: float) -> str:
        """Return the value of a Set-Cookie header.

        Sent back to this link only, over TLS only, and out of scripts' reach. Lax: a visitor who comes from another
        site's page brings it along.

        Args:
            code: of the link.
            password: which of the link's passwords was right.
            now: seconds since 1970.
        """
        until = int(now) + LIFETIME_SECONDS
        value = f"{until:x}.{self._sign(self._keys[0], code, password, until)}"
        return f"{COOKIE}={value}; Max-Age={LIFETIME_SECONDS}; Path=/{code}; Secure; HttpOnly; SameSite=Lax"

    def admits(self, cookies: str, code: str, password: int, now: float) -> bool:
        """Tell whether a Cookie header holds a good pass for a link; the arguments are those of `cookie`."""
        for part in cookies.split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE and self._is_good(value, code, password, now):
                return True
        return False

    def _is_good(self, value: str, code: str, password: int, now: float) -> bool:
        head, _, signature = value.partition(".")
        try:
            until = int(head, 16)
        except ValueError:
            return False
        if f"{until:x}" != head or not now < until <= now + LIFETIME_SECONDS + 60:
            return False
        given = signature.encode("utf-8", "replace")
        return any(hmac.compare_digest(self._sign(key, code, password, until).encode(), given) for key in self._keys)

    @staticmethod
    def _sign(key: bytes, code: str, password: int, until: int) -> str:
        text = f"{code}\0{password}\0{until:x}".encode()
        return base64.urlsafe_b64encode(hmac.digest(key, text, "sha256")).rstrip(b"=").decode()
