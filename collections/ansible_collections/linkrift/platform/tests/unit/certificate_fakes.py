# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates for tests, and a HAProxy that remembers which one it was given."""

from __future__ import annotations

import datetime
import hashlib
import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import (
    HaproxyDownError,
    HaproxyError,
    LoadedCertificate,
)

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)

_SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass
class Made:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def key_pem(self, passphrase: bytes = b"") -> str:
        """The key."""
        lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock).decode()


def make(
    name: str = "go.example.com",
    names: Sequence[str] = (),
    days: int = 90,
    since: int = -1,
    issuer: Made | None = None,
    *,
    authority: bool = False,
    signs: bool = True,
) -> Made:
    """Make a certificate that is valid from `since` to `days` from now, signed by an issuer or by itself.

    With `authority` it may sign others, unless `signs` is off, as strict clients see it; with an issuer it is what they
    accept.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + datetime.timedelta(days=since))
        .not_valid_after(NOW + datetime.timedelta(days=days, minutes=5))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names or [name]]), critical=False)
    )
    if authority:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(identifier, critical=False)
        if signs:
            builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
    if issuer:
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(signer, critical=False)
    return Made(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def fingerprint(pem: str) -> str:
    """Return the SHA-1 of the first certificate in a text, as HAProxy shows it."""
    block = re.search(r"-----BEGIN CERTIFICATE-----(.*?)-----END", pem, re.DOTALL)
    assert block
    return hashlib.sha1(b64decode(block[1]), usedforsecurity=False).hexdigest().upper()


@dataclass
class FakeHaproxy:
    """Stands for the running HAProxy."""

    running: bool = True
    loaded: dict[str, str] = field(default_factory=dict)
    refuses: bool = False
    forgets: bool = False
    lists: dict[str, list[str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def _ask(self) -> None:
        if not self.running:
            raise HaproxyDownError("nothing listens")

    def certificate(self, path: str) -> LoadedCertificate | None:
        """See Haproxy."""
        self._ask()
        return LoadedCertificate(fingerprint(self.loaded[path])) if path in self.loaded else None

    def load_certificate(self, path: str, pem: str) -> None:
        """See Haproxy."""
        self._ask()
        self.calls.append("load_certificate")
        if self.refuses:
            raise HaproxyError("HAProxy does not take the certificate")
        if not self.forgets:
            self.loaded[path] = pem

    def patterns(self, path: str) -> list[str] | None:
        """See Haproxy."""
        self._ask()
        return self.lists.get(path)

    def replace_patterns(self, path: str, patterns: Sequence[str]) -> None:
        """See Haproxy."""
        self._ask()
        self.calls.append("replace_patterns")
        if self.refuses:
            raise HaproxyError("HAProxy does not take the list")
        if not self.forgets:
            self.lists[path] = list(patterns)
