"""Access tokens: JWT signed with HS256, the key named by `kid`."""

from __future__ import annotations

import hashlib
import time
import uuid

import jwt

ALGORITHM = "HS256"
ISSUER = "linkrift"
AUDIENCE = "linkrift-api"
# Clocks of hosts differ a little.
LEEWAY_SECONDS = 5


class TokenError(Exception):
    """A token that is not good."""


class Tokens:
    """Issues and verifies access tokens. One key signs, several are accepted."""

    def __init__(self, secret: str, previous_secret: str, expiry: float) -> None:
        """Set the keys.

        Args:
            secret: signs, and is accepted.
            previous_secret: accepted only; empty: none.
            expiry: seconds that a token is good.
        """
        self._keys = {_key_id(key): key for key in (secret, previous_secret) if key}
        self._signing_id = _key_id(secret)
        self.expiry = int(expiry)

    def issue(self, user_id: uuid.UUID) -> str:
        """Return a token for a user."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": str(user_id), "iat": now, "exp": now + self.expiry}
        return jwt.encode(claims, self._keys[self._signing_id], ALGORITHM, headers={"kid": self._signing_id})

    def verify(self, token: str) -> uuid.UUID:
        """Return the user that a token was issued to.

        Raises:
            TokenError: it is expired, forged, or none at all.
        """
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = self._keys.get(key_id) if isinstance(key_id, str) else None
            if key is None:
                raise TokenError("unknown key")
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "sub", "iss", "aud"]},
            )
            return uuid.UUID(claims["sub"])
        except (jwt.InvalidTokenError, ValueError) as error:
            raise TokenError(str(error)) from error


def _key_id(secret: str) -> str:
    """Return a name for a key that tells nothing about it: a random key of 32 bytes cannot be guessed from a hash."""
    return hashlib.sha256(b"linkrift key id\0" + secret.encode()).hexdigest()[:16]
