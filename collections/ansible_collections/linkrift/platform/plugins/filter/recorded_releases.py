# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what the fleet runs, by the balancers' records together."""

from __future__ import annotations

DOCUMENTATION = r"""
name: recorded_releases
short_description: Tell which release of each service the fleet runs, by the records of several balancers
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - A balancer that was away has an older record; the newest entry of a service counts.
positional: _input
options:
  _input:
    description: Each balancer's C(record), from M(linkrift.platform.fleet_record).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Say what the fleet runs
  ansible.builtin.debug:
    msg: "{{ found.results | map(attribute='record') | linkrift.platform.recorded_releases }}"
"""

RETURN = r"""
_value:
  description: Release id by service; services that no record has are left out.
  type: dict
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._fleet_record import newest


def recorded_releases(records: Iterable[Mapping[str, Mapping[str, str]]]) -> dict[str, str]:
    """Return the release that the newest entry of each service names."""
    known = list(records)
    return {service: newest(known, service) for service in sorted({name for record in known for name in record})}


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"recorded_releases": recorded_releases}
