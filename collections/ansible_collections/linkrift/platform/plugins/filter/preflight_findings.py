# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: all that preflight found, in one list."""

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_findings
short_description: Gather what preflight found, in one list
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Takes what a play registered for each host, and looks at what the inventory says itself, which is groups, secrets
    and certificates.
positional: _input, hostvars
options:
  _input:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description:
      - Ansible's variable. C(preflight_reached) is the answer of Python on a host, C(preflight_looked) the result of
        M(linkrift.platform.host_preflight), C(preflight_certificates) that of
        M(linkrift.platform.certificate_info). A host without them was not looked at.
    type: dict
    required: true
  groups:
    description: Ansible's variable.
    type: dict
    required: true
  needed_groups:
    description: Groups that need a host, and what for.
    type: dict
    required: true
  empty_groups:
    description: Groups that must have no host, since somebody else's server does their work.
    type: list
    elements: str
    default: []
  secrets:
    description: The installation's secrets, by name. They appear nowhere.
    type: dict
    required: true
  needed_secrets:
    description: Secrets that the platform needs, and how many characters each has at least.
    type: dict
    required: true
  certificates:
    description: The installation's certificates, PEM by name.
    type: dict
    required: true
  needed_certificates:
    description: DNS names that each needed certificate must carry; none for that of an authority.
    type: dict
    required: true
  days:
    description: Days before its end from which on a certificate is worth a warning.
    type: int
    default: 21
"""

EXAMPLES = r"""
- name: Show all that was found
  ansible.builtin.debug:
    msg: "{{ groups['all'] | linkrift.platform.preflight_findings(hostvars, groups=groups, needed_groups={},
      secrets={}, needed_secrets={},
      certificates={'public': linkrift_certificates.public.certificate},
      needed_certificates={'public': ['go.example.com']}) }}"
"""

RETURN = r"""
_value:
  description: Findings with C(host), C(check), C(severity), C(message) and, of all that, one C(line). Errors first.
  type: list
  elements: dict
"""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._preflight import ERROR
from ansible_collections.linkrift.platform.plugins.plugin_utils._preflight_report import (
    certificate_findings,
    group_findings,
    host_findings,
    secret_findings,
)


def preflight_findings(
    hosts: Iterable[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    *,
    groups: Mapping[str, Iterable[str]],
    needed_groups: Mapping[str, str],
    empty_groups: Iterable[str] = (),
    secrets: Mapping[str, object],
    needed_secrets: Mapping[str, int],
    certificates: Mapping[str, str],
    needed_certificates: Mapping[str, Iterable[str]],
    days: int = 21,
) -> list[dict[str, str]]:
    """Return all findings, errors first, in the order of the hosts."""
    found = [
        *group_findings(groups, needed_groups, list(empty_groups)),
        *secret_findings(secrets, needed_secrets),
        *certificate_findings(certificates, needed_certificates, datetime.datetime.now(datetime.timezone.utc), days),
        *host_findings(hosts, hostvars, days),
    ]
    return sorted(found, key=lambda finding: finding["severity"] != ERROR)


class FilterModule:
    """Brings the filter to Ansible."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"preflight_findings": preflight_findings}
