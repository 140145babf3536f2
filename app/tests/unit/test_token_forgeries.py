"""Access tokens that are not ours, one for each way of attack, in the manner of Wycheproof's vectors.

Each differs from a good token in one thing, and each would be good for a verifier that overlooks it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import Any

import jwt
import pytest

from linkrift.api.tokens import MAXIMUM_LENGTH, TokenError, Tokens

SECRET = "made-up-secret-for-tests-0123456789"
OLD = "an-older-secret-for-tests-0123456789"
USER = uuid.UUID(int=7)
TOKENS = Tokens(SECRET, (OLD,), 60.0)
NOW = int(time.time())


def key_id(secret: str = SECRET) -> str:
    return str(jwt.get_unverified_header(Tokens(secret, (), 60.0).issue(USER))["kid"])


HEADER = {"alg": "HS256", "typ": "JWT", "kid": key_id()}
# Good for longer than these tests may take.
CLAIMS = {"iss": "linkrift", "aud": "linkrift-api", "sub": str(USER), "iat": NOW, "exp": NOW + 3600}


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def text(document: object) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def sign(header: object, claims: object, secret: str | bytes = SECRET, digest: str = "sha256") -> str:
    signed = f"{encode(text(header))}.{encode(text(claims))}"
    key = secret if isinstance(secret, bytes) else secret.encode()
    return f"{signed}.{encode(hmac.new(key, signed.encode(), digest).digest())}"


def header(**changes: Any) -> dict[str, Any]:
    return {**HEADER, **changes}


def claims(**changes: Any) -> dict[str, Any]:
    return {**CLAIMS, **changes}


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}


GOOD = sign(HEADER, CLAIMS)
HEAD, BODY, SIGNATURE = GOOD.split(".")
# As if the verifier had this as the public half of a pair of keys, and took it for a shared secret.
PUBLIC_KEY = b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
OWN_KEY = b"the key that the token brings itself 0123456789"


def other_spelling(part: str) -> str:
    """Return a text whose last character stands for the same bytes as a part's: the bits it has too many differ."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(part[-1])
    for bit in (1, 2):
        changed = part[:-1] + alphabet[last ^ bit]
        padding = "=" * (-len(part) % 4)
        if base64.urlsafe_b64decode(changed + padding) == base64.urlsafe_b64decode(part + padding):
            return changed
    raise AssertionError("this part has no other spelling")


FORGERIES = {
    "nothing": "",
    "dots": "..",
    "no algorithm": f"{encode(text(header(alg='none')))}.{BODY}.",
    "no algorithm, the signature kept": f"{encode(text(header(alg='none')))}.{BODY}.{SIGNATURE}",
    "no algorithm, in capitals": f"{encode(text(header(alg='NONE')))}.{BODY}.",
    "no algorithm, mixed": f"{encode(text(header(alg='nOnE')))}.{BODY}.",
    "no algorithm, signed": sign(header(alg="none"), CLAIMS),
    "empty algorithm": sign(header(alg=""), CLAIMS),
    "algorithm null": sign(header(alg=None), CLAIMS),
    "algorithm left out": sign(without(HEADER, "alg"), CLAIMS),
    "algorithm in small letters": sign(header(alg="hs256"), CLAIMS),
    "algorithm with a blank": sign(header(alg="HS256 "), CLAIMS),
    "algorithms in a list": sign(header(alg=["HS256"]), CLAIMS),
    "a stronger algorithm": sign(header(alg="HS512"), CLAIMS, digest="sha512"),
    "another one of the same size": sign(header(alg="HS384"), CLAIMS, digest="sha384"),
    "signed with less than it says": sign(HEADER, CLAIMS, digest="sha1"),
    "RSA said, HMAC done": sign(header(alg="RS256"), CLAIMS),
    "RSA said, the public key taken for a secret": sign(header(alg="RS256"), CLAIMS, PUBLIC_KEY),
    "HMAC with a public key": sign(HEADER, CLAIMS, PUBLIC_KEY),
    "elliptic curves said": sign(header(alg="ES256"), CLAIMS),
    "Ed25519 said": sign(header(alg="EdDSA"), CLAIMS),
    "an ECDSA signature of zeros": f"{encode(text(header(alg='ES256')))}.{BODY}.{encode(bytes(64))}",
    "another key": sign(HEADER, CLAIMS, "another-secret-for-tests-0123456789"),
    "an empty key": sign(HEADER, CLAIMS, b""),
    "a key of zeros": sign(HEADER, CLAIMS, bytes(32)),
    "the old key under the new one's name": sign(HEADER, CLAIMS, OLD),
    "the new key under the old one's name": sign(header(kid=key_id(OLD)), CLAIMS),
    "the name of the key as the key": sign(HEADER, CLAIMS, key_id()),
    "key left out": sign(without(HEADER, "kid"), CLAIMS),
    "key null": sign(header(kid=None), CLAIMS),
    "key empty": sign(header(kid=""), CLAIMS),
    "key a number": sign(header(kid=0), CLAIMS),
    "key a list": sign(header(kid=[key_id()]), CLAIMS),
    "key an object": sign(header(kid={"$ne": ""}), CLAIMS),
    "key a path": sign(header(kid="../../../../dev/null"), CLAIMS, b""),
    "key a query": sign(header(kid="x' UNION SELECT 'key"), CLAIMS, b"key"),
    "key a command": sign(header(kid="| cat /etc/passwd"), CLAIMS),
    "key with a NUL": sign(header(kid=key_id() + "\0"), CLAIMS),
    "key in capitals": sign(header(kid=key_id().upper() + "A"), CLAIMS),
    "a key of its own": sign(header(jwk={"kty": "oct", "k": encode(OWN_KEY)}), CLAIMS, OWN_KEY),
    "a good one with a key of its own": sign(header(jwk={"kty": "oct", "k": encode(OWN_KEY)}), CLAIMS),
    "an address to get the key from": sign(header(jku="https://example.org/keys"), CLAIMS),
    "an address of a certificate": sign(header(x5u="https://example.org/chain"), CLAIMS),
    "a certificate of its own": sign(header(x5c=["AAAA"]), CLAIMS),
    "something to be understood": sign(header(crit=["exp"], exp=0), CLAIMS),
    "nothing to be understood": sign(header(crit=[]), CLAIMS),
    "not encoded": sign(header(b64=False, crit=["b64"]), CLAIMS),
    "compressed": sign(header(zip="DEF"), CLAIMS),
    "nested": sign(header(cty="JWT"), CLAIMS),
    "another type": sign(header(typ="at+jwt"), CLAIMS),
    "type left out": sign(without(HEADER, "typ"), CLAIMS),
    "algorithm twice": sign(text(HEADER)[:-1] + b', "alg": "HS256"}', CLAIMS),
    "algorithm twice, none first": sign(b'{"alg": "none", ' + text(HEADER)[1:], CLAIMS),
    "key twice": sign(text(HEADER)[:-1] + b', "kid": "' + key_id().encode() + b'"}', CLAIMS),
    "user twice": sign(HEADER, text(CLAIMS)[:-1] + b', "sub": "' + str(USER).encode() + b'"}'),
    "header no object": sign([HEADER], CLAIMS),
    "header no JSON": sign(b"{alg: HS256}", CLAIMS),
    "header with what follows": sign(text(HEADER) + b"{}", CLAIMS),
    "header no UTF-8": sign(b"\xff" + text(HEADER), CLAIMS),
    "header of depth": sign(b"[" * 600, CLAIMS),
    "claims no object": sign(HEADER, [CLAIMS]),
    "claims null": sign(HEADER, b"null"),
    "claims empty": f"{HEAD}..{SIGNATURE}",
    "expired": sign(HEADER, claims(exp=NOW - 60)),
    "expired at zero": sign(HEADER, claims(exp=0)),
    "expired before time began": sign(HEADER, claims(exp=-1)),
    "never expires": sign(HEADER, without(CLAIMS, "exp")),
    "expires null": sign(HEADER, claims(exp=None)),
    "expires in a text": sign(HEADER, claims(exp=str(NOW + 3600))),
    "expires at a fraction": sign(HEADER, claims(exp=NOW + 3600.5)),
    "expires true": sign(HEADER, claims(exp=True)),
    "expires at infinity": sign(HEADER, text(CLAIMS).replace(str(NOW + 3600).encode(), b"1e999")),
    "expires at no number": sign(HEADER, text(CLAIMS).replace(str(NOW + 3600).encode(), b"NaN")),
    "issued in the future": sign(HEADER, claims(iat=NOW + 3600)),
    "issued in a text": sign(HEADER, claims(iat=str(NOW))),
    "issued never": sign(HEADER, without(CLAIMS, "iat")),
    "not good yet": sign(HEADER, claims(nbf=NOW + 3600)),
    "not good before a text": sign(HEADER, claims(nbf="soon")),
    "another issuer": sign(HEADER, claims(iss="somebody")),
    "issuers in a list": sign(HEADER, claims(iss=["linkrift"])),
    "issuer in capitals": sign(HEADER, claims(iss="Linkrift")),
    "no issuer": sign(HEADER, without(CLAIMS, "iss")),
    "for somebody else": sign(HEADER, claims(aud="something")),
    "for many": sign(HEADER, claims(aud=["something", "linkrift-api"])),
    "for nobody": sign(HEADER, without(CLAIMS, "aud")),
    "for null": sign(HEADER, claims(aud=None)),
    "no user": sign(HEADER, without(CLAIMS, "sub")),
    "a user who is no id": sign(HEADER, claims(sub="admin")),
    "a user who is a number": sign(HEADER, claims(sub=7)),
    "a user who is an object": sign(HEADER, claims(sub={"id": str(USER)})),
    "signature cut": GOOD[:-2],
    "signature left out": f"{HEAD}.{BODY}.",
    "signature and its dot left out": f"{HEAD}.{BODY}",
    "signature cut to half": f"{HEAD}.{BODY}.{SIGNATURE[:20]}",
    "signature changed": f"{HEAD}.{BODY}.{'B' if SIGNATURE[0] == 'A' else 'A'}{SIGNATURE[1:]}",
    "signature twice": f"{GOOD}.{SIGNATURE}",
    "signature spelled in another way": f"{HEAD}.{BODY}.{other_spelling(SIGNATURE)}",
    "signature padded": f"{GOOD}=",
    "signature with what follows": f"{GOOD}====AAAA",
    "signature in the other alphabet": sign(HEADER, CLAIMS).rpartition(".")[0] + "." + "+/" * 21 + "A",
    "claims changed": f"{HEAD}.{encode(text(claims(sub=str(uuid.UUID(int=8)))))}.{SIGNATURE}",
    "parts in another order": f"{BODY}.{HEAD}.{SIGNATURE}",
    "a line break within": f"{HEAD}.{BODY[:10]}\n{BODY[10:]}.{SIGNATURE}",
    "a blank within": f"{HEAD}. {BODY}.{SIGNATURE}",
    "letters that are none of ours": "\u00e4" + GOOD,
    "encrypted": f"{encode(text({'alg': 'dir', 'enc': 'A256GCM', 'kid': key_id()}))}....",
    "oversize": sign(HEADER, claims(more="x" * MAXIMUM_LENGTH)),
    "oversize, by far": "a" * 10_000_000,
    "many dots": "." * 100_000,
}


def test_a_good_one_and_one_of_the_key_before() -> None:
    assert TOKENS.verify(GOOD) == USER
    assert TOKENS.verify(sign(header(kid=key_id(OLD)), CLAIMS, OLD)) == USER
    assert TOKENS.verify(TOKENS.issue(USER)) == USER
    assert TOKENS.verify(sign(HEADER, claims(nbf=NOW, more="x"))) == USER
    assert len(TOKENS.issue(USER)) < MAXIMUM_LENGTH // 2


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery(name: str) -> None:
    with pytest.raises(TokenError) as caught:
        TOKENS.verify(FORGERIES[name])
    for hidden in (SECRET, OLD, SIGNATURE):
        assert hidden not in str(caught.value)


def test_a_key_that_was_taken_away() -> None:
    token = sign(header(kid=key_id(OLD)), CLAIMS, OLD)
    with pytest.raises(TokenError, match="unknown key"):
        Tokens(SECRET, (), 60.0).verify(token)


def test_the_name_of_a_key_is_a_hash_of_more_than_the_key() -> None:
    assert key_id() != hashlib.sha256(SECRET.encode()).hexdigest()[:16]
    assert key_id() != key_id(OLD)
