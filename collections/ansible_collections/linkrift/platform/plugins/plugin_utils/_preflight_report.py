# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Preflight on the control node: what the inventory says, and one list of the findings of all hosts."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

try:
    from cryptography import x509
except ImportError as error:
    # Ansible needs it for its vault, so it is there; what only reads the documentation may go without.
    CRYPTOGRAPHY_ERROR: ImportError | None = error
else:
    CRYPTOGRAPHY_ERROR = None

from ansible_collections.linkrift.platform.plugins.module_utils._preflight import ERROR, WARNING, Finding


def host_findings(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], days: int) -> list[dict[str, str]]:
    """Return the findings of all hosts in one list, those of hosts that could not be asked included.

    Args:
        hosts: Names of the hosts.
        hostvars: Ansible's variable: `preflight_reached` is the answer of Python on the host, `preflight_looked` the
            result of module host_preflight, `preflight_certificates` that of module certificate_info. A host without
            them was not looked at, and has no findings.
        days: Days before its end from which on an installed certificate is worth a warning.
    """
    return [as_shown(name, finding) for name in hosts for finding in _of_host(hostvars[name], days)]


def _of_host(variables: Mapping[str, Any], days: int) -> list[Finding]:
    if "preflight_reached" not in variables:
        return []
    reached = variables["preflight_reached"]
    if reached.get("unreachable"):
        return [Finding("ssh", ERROR, f"cannot be reached: {_line(reached.get('msg'))}")]
    if reached.get("rc") != 0:
        said = _line(reached.get("stderr")) or _line(reached.get("stdout")) or _line(reached.get("msg"))
        return [Finding("python", ERROR, f"Python 3.10 or newer and sudo are needed: {said}")]
    found = []
    # The play goes on whatever becomes of the modules, so what they return says whether they came to their end.
    looked = variables.get("preflight_looked", {})
    if "findings" not in looked:
        return [Finding("module", ERROR, f"cannot be looked at: {_line(looked.get('msg')) or 'it gave no answer'}")]
    found += [Finding(**finding) for finding in looked["findings"]]
    installed = variables.get("preflight_certificates", {})
    if "certificates" not in installed:
        said = _line(installed.get("msg")) or "it gave no answer"
        return [*found, Finding("module", ERROR, f"its certificates cannot be looked at: {said}")]
    return [*found, *_installed(installed["certificates"], days)]


def _installed(certificates: Iterable[Mapping[str, Any]], days: int) -> list[Finding]:
    found = []
    for certificate in certificates:
        path, left = certificate["path"], certificate["days_left"]
        if certificate["error"]:
            found.append(Finding("certificates", ERROR, f"{path}: {certificate['error']}"))
        elif left < 0:
            found.append(Finding("certificates", ERROR, f"{path} ended on {certificate['not_after']}: renew it"))
        elif left < days:
            found.append(Finding("certificates", WARNING, f"{path} ends on {certificate['not_after']}: renew it"))
    return found


def _line(text: object) -> str:
    """The last line of a text that has something in it."""
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def group_findings(
    groups: Mapping[str, Iterable[str]], needed: Mapping[str, str], empty: Iterable[str]
) -> list[dict[str, str]]:
    """Return what is missing among the groups, and what should not be there.

    Args:
        groups: Ansible's variable.
        needed: Groups that need a host, and what for.
        empty: Groups that must have none, since somebody else's server does their work.
    """
    members = {name: list(groups.get(name, ())) for name in [*needed, *empty]}
    found = [f"group {name} has no host: {purpose}" for name, purpose in needed.items() if not members[name]]
    found += [
        f"group {name} has {', '.join(members[name])}, but linkrift_external says that somebody else's server is used"
        for name in empty
        if members[name]
    ]
    return [_of_inventory(Finding("groups", ERROR, text)) for text in found]


def secret_findings(secrets: Mapping[str, object], needed: Mapping[str, int]) -> list[dict[str, str]]:
    """Return which secrets are missing, too short, or used twice; never their values.

    Args:
        secrets: The installation's, by name.
        needed: Those that the platform needs, and how many characters each has at least.
    """
    found = []
    for name, length in needed.items():
        value = str(secrets.get(name) or "")
        if not value:
            found.append(
                f"{name} is missing: make one with `python3 -c 'import secrets; print(secrets.token_urlsafe(32))'`"
            )
        elif len(value) < length:
            found.append(f"{name} has {len(value)} characters and needs {length}")
    names: dict[str, list[str]] = {}
    for name, secret in secrets.items():
        if secret:
            names.setdefault(str(secret), []).append(name)
    found += [
        f"{' and '.join(sorted(same))} are the same: each must be its own" for same in names.values() if len(same) > 1
    ]
    return [_of_inventory(Finding("secrets", ERROR, f"linkrift_secrets: {text}")) for text in found]


def certificate_findings(
    certificates: Mapping[str, str], needed: Mapping[str, Iterable[str]], now: datetime.datetime, days: int
) -> list[dict[str, str]]:
    """Return what is wrong with the installation's certificates.

    Args:
        certificates: PEM by name, with intermediate ones after the first.
        needed: DNS names that each needed one must carry; none for that of an authority.
        now: The time, with its zone.
        days: Days before its end from which on a certificate is worth a warning.

    Raises:
        ImportError: The Python library cryptography is missing.
    """
    if CRYPTOGRAPHY_ERROR is not None:
        raise CRYPTOGRAPHY_ERROR
    found: list[Finding] = []
    for name, names in needed.items():
        if not certificates.get(name):
            found.append(Finding("certificates", ERROR, f"{name}: there is none"))
            continue
        try:
            certificate = x509.load_pem_x509_certificate(certificates[name].encode())
        except ValueError as error:
            found.append(Finding("certificates", ERROR, f"{name}: it is no certificate in PEM form ({error})"))
            continue
        found += [
            Finding("certificates", severity, f"{name}: {text}")
            for severity, text in [*_time(certificate, now, days), *_form(certificate, list(names))]
        ]
    return [_of_inventory(finding) for finding in found]


def _time(certificate: x509.Certificate, now: datetime.datetime, days: int) -> list[tuple[str, str]]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end <= now:
        return [(ERROR, f"it ended on {end:%Y-%m-%d}: renew it")]
    if begin > now:
        return [(ERROR, f"it begins on {begin:%Y-%m-%d %H:%M} UTC only")]
    if (end - now).days < days:
        return [(WARNING, f"it ends in {(end - now).days} days, on {end:%Y-%m-%d}: renew it")]
    return []


def _form(certificate: x509.Certificate, names: list[str]) -> list[tuple[str, str]]:
    """What is wrong with a certificate whenever one looks at it."""
    if not names:
        # Python 3.13 (Debian 13) verifies as RFC 5280 says, sections 4.2.1.3 and 4.2.1.9.
        basic = _extension(certificate, x509.BasicConstraints)
        usage = _extension(certificate, x509.KeyUsage)
        if basic is None or not basic.ca:
            return [(ERROR, "it is no authority's certificate (basicConstraints CA:TRUE is missing)")]
        if usage is None or not usage.key_cert_sign:
            return [(ERROR, "it lacks keyUsage keyCertSign: Python 3.13 trusts nothing that it signed")]
        return []
    alternative = _extension(certificate, x509.SubjectAlternativeName)
    carried = {name.lower() for name in alternative.get_values_for_type(x509.DNSName)} if alternative else set()
    missing = [name for name in names if not {name.lower(), f"*.{name.lower().partition('.')[2]}"} & carried]
    return [(ERROR, f"it does not carry {', '.join(missing)}")] if missing else []


def _extension(certificate: x509.Certificate, kind: Any) -> Any:
    """The value of a certificate's extension of this class; None without one."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def as_shown(where: str, finding: Finding) -> dict[str, str]:
    """A finding as Ansible shows it; `line` is all of it in one."""
    return {"host": where, **finding.as_dict(), "line": f"{where}: {finding.severity}: {finding.message}"}


def _of_inventory(finding: Finding) -> dict[str, str]:
    return as_shown("inventory", finding)
