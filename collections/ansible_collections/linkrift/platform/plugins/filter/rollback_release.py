# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: which releases a rollback leads to."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollback_release
short_description: Tell which releases a rollback leads to
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns one release for all hosts of a service, the one that was live and good before that of the fleet record, by
    the ledgers of all hosts together. What was undone does not count, and what a rollback left is not gone back to.
  - Where a rollout was interrupted, so that hosts run what the fleet record does not say yet, it is that of the record.
  - Refuses a release that was never live and good, was removed from every host, or does not fit the database's schema,
    and lists those that are possible.
positional: _input, services
options:
  _input:
    description: The result of M(linkrift.platform.release_info) by host. Hosts without one do not count.
    type: dict
    required: true
  services:
    description: The services to roll back.
    type: list
    elements: str
    required: true
  wished:
    description: A release to go back to, instead of the previous one.
    type: str
    default: ""
  schema:
    description: The database's C(level) and C(floor). Without them, the schema is not looked at.
    type: dict
  fleet:
    description: Release by service, as the fleet record has it.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: See where a rollback leads to
  ansible.builtin.debug:
    msg: "{{ found | linkrift.platform.rollback_release(['api', 'redirect'], fleet=recorded) }}"
  vars:
    found: {app1: "{{ hostvars.app1.looked }}", app2: "{{ hostvars.app2.looked }}"}
    recorded: {api: 1.4.0+3f9c2a71b0de, redirect: 1.4.0+3f9c2a71b0de}
"""

RETURN = r"""
_value:
  description: Id of a release by service.
  type: dict
  sample: {api: 1.3.2+0d4b1c2a9f3e, redirect: 1.3.2+0d4b1c2a9f3e}
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.module_utils._rollback import RollbackError, target


def rollback_release(
    facts: Mapping[str, Mapping[str, Any] | None],
    services: Iterable[str],
    wished: str = "",
    schema: Mapping[str, Any] | None = None,
    fleet: Mapping[str, str | None] | None = None,
) -> dict[str, str]:
    """Return the release that each service goes back to.

    Args:
        facts: what `release_info` returned, by host.
        services: names of services.
        wished: a release to go back to; empty: the previous one.
        schema: the database's `level` and `floor`.
        fleet: release by service, as the fleet record has it.

    Raises:
        AnsibleFilterError: there is none for a service; the message lists what is possible.
    """
    try:
        return {service: target(facts, service, wished, schema, (fleet or {}).get(service)) for service in services}
    except RollbackError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rollback_release": rollback_release}
