# Copyright (c) 2026 Linkrift Platform Team
# MIT License (see LICENSE)
"""Filter: the servers that a balancer has for a service."""

from __future__ import annotations

DOCUMENTATION = r"""
name: slot_servers
short_description: List the servers that a balancer has for a service
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns host, address and the ports of both slots for each host of the group C(<service>_hosts), as
    M(linkrift.platform.rotation) wants them. The address is the one that P(linkrift.platform.addresses#filter) lists
    first.
positional: _input, groups, hostvars
options:
  _input:
    description: The service.
    type: str
    required: true
  groups:
    description: Ansible's variable C(groups).
    type: dict
    required: true
  hostvars:
    description: Ansible's variable C(hostvars).
    type: dict
    required: true
  ports:
    description: Ports of the slots C(blue) and C(green), where they are not the usual ones.
    type: dict
"""

EXAMPLES = r"""
- name: Show the servers
  ansible.builtin.debug:
    msg: "{{ 'redirect' | linkrift.platform.slot_servers(groups, hostvars) }}"
"""

RETURN = r"""
_value:
  description: Servers, in the group's order.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.module_utils._inventory import InventoryError, addresses_of
from ansible_collections.linkrift.platform.plugins.module_utils._paths import PORTS


def slot_servers(
    service: str,
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    ports: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Return a balancer's servers for a service.

    Args:
        service: name of the service.
        groups: hosts by group.
        hostvars: variables by host.
        ports: ports by slot, where they are not the usual ones.

    Raises:
        AnsibleFilterError: the service is unknown, or a host has no address.
    """
    if service not in PORTS:
        raise AnsibleFilterError(f"there is no service {service!r}: {', '.join(PORTS)}")
    try:
        return [
            {
                "host": host,
                "address": addresses_of([host], hostvars)[0],
                "ports": dict(ports or PORTS[service]),
            }
            for host in groups.get(f"{service}_hosts", ())
        ]
    except InventoryError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"slot_servers": slot_servers}
