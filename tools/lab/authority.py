"""The lab's certificate authority and the certificates of its servers."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tools.lab.files import write_private

_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 397
_RENEW_DAYS = 30


@dataclass(frozen=True)
class Authority:
    """A certificate authority with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # A host's clock may be a little behind.
        .not_valid_before(now - datetime.timedelta(minutes=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def ensure_authority(directory: Path) -> tuple[Authority, bool]:
    """Return the lab's authority (`ca.pem`, `ca.key`), and whether it had to be made.

    Args:
        directory: The lab's directory.
    """
    certificate_file, key_file = directory / "ca.pem", directory / "ca.key"
    # The certificate is written last: with it the authority is complete.
    if certificate_file.exists() and key_file.exists():
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        if isinstance(key, ec.EllipticCurvePrivateKey) and certificate.public_key() == key.public_key():
            return Authority(certificate, key), False
    fresh = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Linkrift lab {x509.random_serial_number() % 10**6}")])
    certificate = (
        _builder(name, name, fresh.public_key(), _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(fresh, hashes.SHA256())
    )
    write_private(key_file, _key_pem(fresh))
    write_private(certificate_file, _pem(certificate), mode=0o644)
    return Authority(certificate, fresh), True


def ensure_certificate(
    authority: Authority,
    directory: Path,
    name: str,
    dns_names: Sequence[str],
    addresses: Sequence[IPv4Address | IPv6Address] = (),
) -> bool:
    """Have a server certificate in `tls/<name>.pem` and `.key`; tell whether it had to be issued.

    A new one is issued when there is none, it is of another authority or for other names, or its time is nearly over.

    Args:
        authority: Who signs it.
        directory: The lab's directory.
        name: Name of the files.
        dns_names: Host names of the server, the first one its common name.
        addresses: Its addresses.
    """
    certificate_file, key_file = directory / "tls" / f"{name}.pem", directory / "tls" / f"{name}.key"
    wanted = x509.SubjectAlternativeName(
        [*(x509.DNSName(dns) for dns in dns_names), *(x509.IPAddress(address) for address in addresses)]
    )
    if certificate_file.exists() and key_file.exists() and _serves(certificate_file, key_file, authority, wanted):
        return False
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_names[0])])
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _builder(subject, authority.certificate.subject, key.public_key(), _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(signer, critical=False)
        .add_extension(wanted, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    write_private(key_file, _key_pem(key))
    write_private(certificate_file, _pem(certificate), mode=0o644)
    return True


def _serves(certificate_file: Path, key_file: Path, authority: Authority, wanted: x509.SubjectAlternativeName) -> bool:
    """Whether a certificate is good for what is wanted, for some time to come."""
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    try:
        certificate.verify_directly_issued_by(authority.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    left = certificate.not_valid_after_utc - _now()
    return names == wanted and certificate.public_key() == key.public_key() and left.days >= _RENEW_DAYS
