# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: on which interface of a host each shared address belongs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: shared_interfaces
short_description: Say on which interface of a host each shared address belongs
version_added: 0.3.0
author: Linkrift Platform Team (@linkrift)
description:
  - Finds, for each address, the interface that has an address in the same network.
  - Fails where there is none, since nobody could reach the address there.
positional: _input, found
options:
  _input:
    description: The shared addresses, IPv4 and IPv6.
    type: list
    elements: str
    required: true
  found:
    description: What C(ip -json address show) says on the host.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Say where the address would be
  ansible.builtin.debug:
    msg: "{{ ['192.0.2.10'] | linkrift.platform.shared_interfaces(looked.stdout | from_json) }}"
"""

RETURN = r"""
_value:
  description: Dictionaries of C(address) and C(interface).
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.module_utils import _shared_address


def shared_interfaces(shared: Iterable[str], found: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return each address with its interface (see _shared_address.interfaces)."""
    try:
        return _shared_address.interfaces(shared, found)
    except _shared_address.SharedAddressError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Brings the filter to Ansible."""

    def filters(self) -> dict[str, object]:
        """Return the filters by name."""
        return {"shared_interfaces": shared_interfaces}
