"""Access tokens: JWT signed with HS256, the key named by `kid`.

A token has one form, the one that `issue` gives it. What has another one is refused before its signature is looked at:
another algorithm, a key that it brings itself, a name twice, an extension that must be understood, a spelling of the
same bytes that is not ours.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

import jwt

ALGORITHM = "HS256"
ISSUER = "linkrift"
AUDIENCE = "linkrift-api"
# Clocks of hosts differ a little.
LEEWAY_SECONDS = 5
# Ours have about 330 characters.
MAXIMUM_LENGTH = 1024


class TokenError(Exception):
    """A token that is not good."""


class Tokens:
    """Issues and verifies access tokens. One key signs, several are accepted."""

    def __init__(self, secret: str, previous_secrets: Sequence[str], expiry: float) -> None:
        """Set the keys.

        Args:
            secret: signs, and is accepted.
            previous_secrets: accepted only.
            expiry: seconds that a token is good.
        """
        self._keys = {_key_id(key): key for key in (*previous_secrets, secret)}
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
        key = self._keys[self._key_of(token)]
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "sub", "iss", "aud"], "strict_aud": True},
            )
            if not all(type(claims.get(name, 0)) is int for name in ("exp", "iat", "nbf")):
                raise TokenError("a time is no whole number")
            return uuid.UUID(claims["sub"])
        except (jwt.InvalidTokenError, ValueError, OverflowError) as error:
            raise TokenError(str(error)) from error

    def _key_of(self, token: str) -> str:
        """Return the id of the key that a token names, if the token has the form of ours."""
        parts = token.split(".") if len(token) <= MAXIMUM_LENGTH else []
        if len(parts) != 3:
            raise TokenError("no token")
        header, _, _ = _object(parts[0]), _object(parts[1]), _bytes(parts[2])
        if header.keys() != {"alg", "typ", "kid"} or header["alg"] != ALGORITHM or header["typ"] != "JWT":
            raise TokenError("another form")
        key_id = header["kid"]
        if not isinstance(key_id, str) or key_id not in self._keys:
            raise TokenError("unknown key")
        return key_id


def _object(part: str) -> dict[str, Any]:
    """Read a part that is a JSON object with each name once."""
    try:
        found = json.loads(_bytes(part), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise TokenError("a part is not JSON") from error
    if not isinstance(found, dict):
        raise TokenError("a part is no object")
    return found


def _bytes(part: str) -> bytes:
    """Read a part in base64url; each text of bytes has one spelling only, without padding."""
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError) as error:
        raise TokenError("a part is not base64url") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise TokenError("a part is spelled in another way")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    known = dict(pairs)
    if len(known) != len(pairs):
        raise TokenError("a name is there twice")
    return known


def _key_id(secret: str) -> str:
    """Return a name for a key that tells nothing about it: a random key of 32 bytes cannot be guessed from a hash."""
    return hashlib.sha256(b"linkrift key id\0" + secret.encode()).hexdigest()[:16]
