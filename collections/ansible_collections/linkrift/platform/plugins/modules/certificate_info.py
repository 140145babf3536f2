#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say whose certificates are in files or texts, and until when."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_info
short_description: Say whose certificates are in files or texts, and until when
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Reads the first certificate of each file, and of each text. Needs the program openssl and nothing else.
  - A file without a certificate, or an expired one, is an answer and no failure.
options:
  paths:
    description: Files, or patterns such as V(/etc/postgresql/*/main/*.crt). Ones that do not exist are left out.
    type: list
    elements: path
    default: []
  contents:
    description: Texts in PEM form, by a name of your own, such as certificates that are still in an inventory only.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Does the same.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Look at what the balancer has
  linkrift.platform.certificate_info:
    paths: [/etc/haproxy/certs/*.pem]
  register: found

- name: See that it lasts
  ansible.builtin.assert:
    that: found.certificates | rejectattr('error') | selectattr('days_left', 'lt', 21) | list == []
"""

RETURN = r"""
certificates:
  description:
    - One for each file and text; C(path) is the file or the name. C(error) says why there is none; then the others
      are null.
  returned: success
  type: list
  elements: dict
  contains:
    path: {description: File or name., type: str}
    subject: {description: Whose it is., type: str}
    issuer: {description: Who signed it., type: str}
    names: {description: DNS names and addresses that it is for., type: list, elements: str}
    serial: {description: Serial number in hexadecimal digits., type: str}
    not_before: {description: From when it is valid; UTC., type: str}
    not_after: {description: Until when it is valid; UTC., type: str}
    days_left: {description: Whole days until then; negative when it has expired., type: int}
    error: {description: Why there is no certificate; empty when there is one., type: str}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._certificates import (
    Certificate,
    CertificateError,
    iso,
    now_utc,
    read_chain,
    report,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "contents": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    found = [_facts(str(entry.path), entry.certificate, entry.error) for entry in report(module.params["paths"])]
    for name, text in sorted(module.params["contents"].items()):
        found.append(_of_text(name, str(text)))
    module.exit_json(changed=False, certificates=found)


def _of_text(name: str, text: str) -> dict[str, Any]:
    """Read a text's first certificate."""
    try:
        return _facts(name, read_chain(text)[0], "")
    except CertificateError as error:
        return _facts(name, None, str(error))


def _facts(path: str, certificate: Certificate | None, error: str) -> dict[str, Any]:
    """Return what is worth knowing."""
    return {
        "path": path,
        "subject": certificate.subject if certificate else None,
        "issuer": certificate.issuer if certificate else None,
        "names": list(certificate.names) if certificate else None,
        "serial": certificate.serial if certificate else None,
        "not_before": iso(certificate.not_before) if certificate else None,
        "not_after": iso(certificate.not_after) if certificate else None,
        "days_left": certificate.days_left(now_utc()) if certificate else None,
        "error": error,
    }


if __name__ == "__main__":
    main()
