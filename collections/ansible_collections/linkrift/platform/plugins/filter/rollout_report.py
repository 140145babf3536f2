# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: the report of a rollout."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_report
short_description: Make the report of a rollout
version_added: 0.3.0
author: Linkrift Platform Team (@linkrift)
description:
  - Puts together what was done on each host, and what visitors got before, during and after it, summed over all
    balancers. The report of a rollout that failed is made of what there is.
positional: _input
options:
  _input:
    description:
      - The rollout. Needed are C(id), C(result) (V(success), V(undone) or V(failed)), and C(started) and C(ended),
        seconds since the epoch or times such as V(2026-01-31T12:00:00Z). The rest may be left out, which is C(purpose),
        C(by), C(why) it failed, and what follows.
      - C(releases), C(from) and C(to) of each service.
      - C(ledgers), the lines of this rollout by host and service, as M(linkrift.platform.ledger_info) returns them.
      - C(steps), other things that were done, a list of C(host), C(service), C(what), C(at) (when it was done), and
        perhaps C(seconds) and C(slot).
      - C(logs), what M(linkrift.platform.access_log_info) returned, by balancer.
      - C(failures), by host the C(task) that failed, its C(message), C(evidence), and whatever else is to be shown.
      - C(skipped), a list of what was left out on purpose.
    type: dict
    required: true
seealso:
  - plugin: linkrift.platform.access_log_info
    plugin_type: module
"""

EXAMPLES = r"""
- name: Make the report
  ansible.builtin.set_fact:
    rollout_report: "{{ run | linkrift.platform.rollout_report }}"
  vars:
    run:
      id: 20260131T120000Z-0a1b2c
      purpose: deploy
      by: alice@control
      result: success
      started: "{{ started }}"
      ended: "{{ ended }}"
      releases: {redirect: {from: 1.3.0+0d4b1c2a9f3e, to: 1.4.0+3f9c2a71b0de}}
      ledgers: "{{ {'app1': ledger.entries} }}"
      logs: "{{ logs.results }}"
"""

RETURN = r"""
_value:
  description:
    - The same, with times in UTC, C(seconds), and a C(format). C(hosts) has by host and service the C(slot) that went
      live, the C(steps) (C(what), C(at), C(offset) from the beginning, C(seconds), C(passed), C(failed)), and the
      C(visitors) of the host.
    - C(visitors) has for each mark of the logs C(requests), C(failed), C(aborted), C(retried), C(p50_ms) and C(p99_ms),
      and C(services) the same for each service. C(uncounted) names balancers whose log could not be read.
    - C(evidence) is a list of C(host), C(what) failed, C(why), and C(details), each a C(title) and a C(text).
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.plugin_utils import _rollout_report as report


def rollout_report(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of a rollout.

    Raises:
        AnsibleFilterError: something that is needed is missing, or makes no sense.
    """
    try:
        return report.make(run)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"there is no report of this: {error}") from error


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"rollout_report": rollout_report}
