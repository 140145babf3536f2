# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: who this run is."""

from __future__ import annotations

DOCUMENTATION = r"""
name: lease_owner
short_description: Say who this run is
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Names a run that is to change the fleet, for M(linkrift.platform.fleet_lock) and for ledgers.
  - Each call names another run, so keep what it returns, with C(ansible.builtin.set_fact).
positional: _input
options:
  _input:
    description: What the run does, such as V(deploy).
    type: str
    required: true
  user:
    description:
      - Who runs it, where Ansible cannot see that. AWX says so in C(awx_user_name). By default the user who became
        root, or who runs this.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Say who this run is, once
  ansible.builtin.set_fact:
    run: "{{ 'deploy' | linkrift.platform.lease_owner(user=awx_user_name | default('')) }}"
"""

RETURN = r"""
_value:
  description:
    - The run, as C(id), which begins with the time (UTC), C(by), C(control) (the process of ansible-playbook on the
      control node), and C(signed), all of it in one line.
  type: dict
  sample:
    id: 20260131T120000Z-3f9c2a
    by: alice@control
    control: {host: 5f1d7a84c0b2e963, process: 4711, started: "1180034"}
    signed: deploy 20260131T120000Z-3f9c2a (alice@control)
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.module_utils._lease import LeaseError, one_line, utc_now
from ansible_collections.linkrift.platform.plugins.plugin_utils._control_process import this_control, who_runs


def lease_owner(purpose: str, user: str = "") -> dict[str, Any]:
    """Return who this run is.

    Args:
        purpose: what it does.
        user: who runs it; empty to find out.

    Raises:
        AnsibleFilterError: the purpose is empty.
    """
    try:
        purpose = one_line("the purpose", str(purpose))
    except LeaseError as error:
        raise AnsibleFilterError(str(error)) from error
    run = f"{utc_now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    by = who_runs(os.environ, str(user or ""))
    return {"id": run, "by": by, "control": asdict(this_control()), "signed": f"{purpose} {run} ({by})"}


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"lease_owner": lease_owner}
