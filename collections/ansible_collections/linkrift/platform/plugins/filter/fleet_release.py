# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: which release a host without a live slot installs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_release
short_description: Tell which release a new or rebuilt host installs
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Returns what the fleet record says, so that a new or rebuilt host joins the others; where it says nothing, what the
    other hosts of the group run live; where nothing is live yet, the release to install first.
  - The hosts' state is what M(linkrift.platform.release_info) returned on each of them.
positional: _input
options:
  _input:
    description: The result of M(linkrift.platform.release_info) by host. Hosts without one do not count.
    type: dict
    required: true
  service:
    description: The service.
    type: str
    required: true
  fallback:
    description: Id of the release to take where nothing is live.
    type: str
    default: ""
  records:
    description: Each balancer's C(record), from M(linkrift.platform.fleet_record). The newest entry counts.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Take what the others run
  ansible.builtin.set_fact:
    wished: "{{ infos | linkrift.platform.fleet_release('redirect', '1.4.0+3f9c2a71b0de') }}"
"""

RETURN = r"""
_value:
  description: Id of the release; empty where nothing is live and no fallback was given.
  type: str
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.module_utils._fleet_record import newest


def fleet_release(
    infos: Mapping[str, Any],
    service: str,
    fallback: str = "",
    records: Iterable[Mapping[str, Mapping[str, str]]] = (),
) -> str:
    """Return what a host without a live slot installs.

    Args:
        infos: result of `release_info` by host name.
        service: name of the service.
        fallback: release to take where nothing is live.
        records: entries by service, as each balancer's fleet record has them.

    Raises:
        AnsibleFilterError: hosts run different releases, and no record says which of them is the fleet's.
    """
    noted = newest(records, service)
    if noted:
        return noted
    live: dict[str, list[str]] = {}
    for host, info in sorted(infos.items()):
        state = ((info or {}).get("services") or {}).get(service) or {}
        slot = state.get("live")
        release = ((state.get("slots") or {}).get(slot) or {}).get("release") if slot else None
        if release:
            live.setdefault(release, []).append(host)
    if len(live) > 1:
        found = "; ".join(f"{release} on {', '.join(hosts)}" for release, hosts in sorted(live.items()))
        msg = f"the hosts run different releases of {service} ({found}): finish or undo the rollout, then repeat this"
        raise AnsibleFilterError(msg)
    return next(iter(live), fallback)


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"fleet_release": fleet_release}
