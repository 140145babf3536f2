# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read certificates with the program openssl, and report when those of this host expire.

Nothing here imports anything of the collection: hosts run this very file as a program (module certificate_metrics).
"""

from __future__ import annotations

import contextlib
import datetime
import glob
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.*?-----END \1-----", re.DOTALL)
_OPENSSL = "openssl"


class CertificateError(Exception):
    """Something is no certificate, or not the right one; the message never has key material in it."""


@dataclass(frozen=True)
class Certificate:
    """One X.509 certificate."""

    pem: str
    subject: str
    issuer: str
    serial: str
    """Hexadecimal digits in upper case, as HAProxy shows them."""
    names: tuple[str, ...]
    """DNS names and addresses it is for, in lower case."""
    not_before: datetime.datetime
    not_after: datetime.datetime
    fingerprint: str
    """SHA-1 of the whole certificate, as HAProxy shows it: a name for it, no protection."""
    public_key: str

    def days_left(self, now: datetime.datetime) -> int:
        """Return how many whole days are left; negative when it has expired."""
        return (self.not_after - now).days

    def covers(self, name: str) -> bool:
        """Tell whether it is for a host name, directly or by a wildcard for the first label."""
        first, dot, rest = name.lower().partition(".")
        return name.lower() in self.names or bool(first and dot and f"*.{rest}" in self.names)

    @property
    def is_own_issuer(self) -> bool:
        """Whether issuer and subject are the same."""
        return self.subject == self.issuer


def pem_blocks(text: str) -> tuple[list[str], list[str]]:
    """Return the certificates and the private keys in a text, in their order; anything else is left out."""
    certificates: list[str] = []
    keys: list[str] = []
    for block in _PEM.finditer(text):
        if block[1] in ("CERTIFICATE", "TRUSTED CERTIFICATE"):
            certificates.append(block[0].replace("\r", "") + "\n")
        elif block[1].endswith("PRIVATE KEY"):
            keys.append(block[0].replace("\r", "") + "\n")
    return certificates, keys


def openssl(*words: str, given: str = "") -> str:
    """Run openssl; secrets go in by standard input only.

    Raises:
        CertificateError: it is missing, hangs or fails.
    """
    try:
        done = subprocess.run(
            [_OPENSSL, *words],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise CertificateError("the program openssl is not installed on this host") from error
    except subprocess.TimeoutExpired as error:
        raise CertificateError(f"openssl {words[0]} did not end") from error
    if done.returncode != 0:
        # What openssl prints are its own words, never its input.
        said = " ".join((done.stderr or done.stdout).split())
        raise CertificateError(f"openssl {words[0]}: {said[:300]}")
    return done.stdout


def read_certificate(pem: str) -> Certificate:
    """Read one certificate.

    Raises:
        CertificateError: it is none.
    """
    said = openssl(
        "x509",
        "-noout",
        "-subject",
        "-issuer",
        "-serial",
        "-dates",
        "-fingerprint",
        "-sha1",
        "-nameopt",
        "RFC2253,-esc_msb,utf8",
        "-pubkey",
        "-ext",
        "subjectAltName",
        given=pem,
    )
    # OpenSSL 1.1 writes `SHA1 Fingerprint`, 3 writes `sha1 Fingerprint`.
    lines = re.findall(r"^(?:\w+ )?(subject|issuer|serial|notBefore|notAfter|Fingerprint)=(.*)$", said, re.MULTILINE)
    values = dict(lines)
    key = re.search(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", said, re.DOTALL)
    try:
        return Certificate(
            pem=pem,
            subject=values["subject"].strip(),
            issuer=values["issuer"].strip(),
            serial=values["serial"].strip().upper(),
            names=tuple(name.lower() for name in re.findall(r"(?:DNS|IP Address):([^,\s]+)", said)),
            not_before=_time(values["notBefore"]),
            not_after=_time(values["notAfter"]),
            fingerprint=values["Fingerprint"].replace(":", "").strip().upper(),
            public_key=key[0] if key else "",
        )
    except KeyError as error:
        raise CertificateError(f"openssl did not say the {error.args[0]} of a certificate") from error


def _time(text: str) -> datetime.datetime:
    """Read openssl's way to write a time, which is always UTC."""
    text = text.strip().removesuffix(" GMT") + " +0000"
    return datetime.datetime.strptime(text, "%b %d %H:%M:%S %Y %z")


def read_chain(text: str) -> list[Certificate]:
    """Read all certificates of a text in their order.

    Raises:
        CertificateError: there is none, or one that cannot be read.
    """
    blocks = pem_blocks(text)[0]
    if not blocks:
        raise CertificateError("no certificate in PEM form")
    return [read_certificate(block) for block in blocks]


def check_pair(certificate: Certificate, key: str) -> None:
    """See that a private key is the certificate's.

    Raises:
        CertificateError: it is another one's, has a passphrase, or is no key.
    """
    if "ENCRYPTED" in key:
        raise CertificateError("the private key has a passphrase, which nobody could type when HAProxy starts")
    try:
        public = openssl("pkey", "-pubout", "-passin", "pass:", given=key)
    except CertificateError as error:
        raise CertificateError("the private key cannot be read") from error
    if public.strip() != certificate.public_key.strip():
        raise CertificateError(f"the private key does not belong to the certificate for {certificate.subject}")


def check_order(chain: Sequence[Certificate]) -> None:
    """See that each certificate is followed by its issuer's, as visitors want them.

    Raises:
        CertificateError: one is not.
    """
    for certificate, issuer in itertools.pairwise(chain):
        if certificate.issuer != issuer.subject:
            raise CertificateError(
                f"the chain is out of order: after the certificate for {certificate.subject} comes the one for"
                f" {issuer.subject}, and not its issuer's ({certificate.issuer})"
            )


def check_time(certificate: Certificate, now: datetime.datetime) -> None:
    """See that a certificate is valid at a time.

    Raises:
        CertificateError: it has expired, or is not valid yet.
    """
    if now >= certificate.not_after:
        raise CertificateError(f"the certificate for {certificate.subject} expired on {iso(certificate.not_after)}")
    if now < certificate.not_before:
        raise CertificateError(
            f"the certificate for {certificate.subject} is valid from {iso(certificate.not_before)} only;"
            " is the clock right?"
        )


def check_names(certificate: Certificate, names: Iterable[str]) -> None:
    """See that a certificate is for all of the names.

    Raises:
        CertificateError: it is not.
    """
    missing = [name for name in names if not certificate.covers(name)]
    if missing:
        raise CertificateError(
            f"the certificate is not for {', '.join(missing)}; it is for {', '.join(certificate.names) or 'no name'}"
        )


def iso(when: datetime.datetime) -> str:
    """Write a time the way people and programs read it."""
    return when.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_utc() -> datetime.datetime:
    """Return the time."""
    return datetime.datetime.now(datetime.timezone.utc)


def find_files(patterns: Iterable[str]) -> list[Path]:
    """Return the files that match, each once, sorted; a pattern that matches nothing is no error."""
    return sorted({Path(found) for pattern in patterns for found in _matches(pattern) if Path(found).is_file()})


def _matches(pattern: str) -> list[str]:
    return glob.glob(pattern)  # noqa: PTH207 - patterns are absolute paths, which Path.glob does not take


@dataclass(frozen=True)
class Report:
    """What is in one file: its first certificate, or why there is none."""

    path: Path
    certificate: Certificate | None
    error: str


def report(patterns: Iterable[str]) -> list[Report]:
    """Read the first certificate of each file that matches."""
    return [_report(path) for path in find_files(patterns)]


def _report(path: Path) -> Report:
    try:
        return Report(path, read_chain(path.read_text(encoding="utf-8", errors="replace"))[0], "")
    except (CertificateError, OSError) as error:
        return Report(path, None, str(error))


def metrics(reports: Iterable[Report]) -> str:
    """Write what was found in Prometheus' text format."""
    found = list(reports)
    lines = [
        "# HELP linkrift_certificate_expiry_seconds Unix time at which a certificate of this host expires.",
        "# TYPE linkrift_certificate_expiry_seconds gauge",
    ]
    lines += [
        f'linkrift_certificate_expiry_seconds{{path="{_label(str(entry.path))}",'
        f'subject="{_label(entry.certificate.subject)}"}} {int(entry.certificate.not_after.timestamp())}'
        for entry in found
        if entry.certificate
    ]
    lines += [
        "# HELP linkrift_certificate_unreadable Whether a file that should hold a certificate has none.",
        "# TYPE linkrift_certificate_unreadable gauge",
    ]
    lines += [
        f'linkrift_certificate_unreadable{{path="{_label(str(entry.path))}"}} {int(entry.certificate is None)}'
        for entry in found
    ]
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def main(words: Sequence[str]) -> int:
    """Write the metrics of the files that match the patterns: `<output file> <pattern>…`."""
    output = Path(words[0])
    found = report(words[1:])
    for entry in found:
        if entry.error:
            sys.stderr.write(f"{entry.path}: {entry.error}\n")
    temporary = output.with_name(f".{output.name}.new")
    try:
        temporary.write_text(metrics(found), encoding="utf-8")
        temporary.chmod(0o644)
        temporary.replace(output)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
