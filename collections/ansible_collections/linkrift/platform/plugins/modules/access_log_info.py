#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what visitors got from a balancer in a stretch of time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: access_log_info
short_description: Say what visitors got from a balancer in a stretch of time
version_added: 0.3.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Counts requests, failures, retries and times in the access log that role P(linkrift.platform.haproxy#role) has
    HAProxy write. Unlike HAProxy's counters, it survives reloads and restarts. Changes nothing.
  - The log knows whole seconds, and when a request ended. A stretch has its first second, and not its last one.
  - Only the stretch itself is read, however long the log is, and of what was rotated away only what is needed.
options:
  path:
    description: The log.
    type: path
    default: /var/log/linkrift/haproxy-access.log
  since:
    description: Seconds since the epoch. By default where the first of O(marks) begins; one of both is needed.
    type: float
  until:
    description: Seconds since the epoch. By default all that is there.
    type: float
  marks:
    description: Stretches that are counted by themselves, too, such as before, during and after a rollout.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the answer calls it.
        type: str
        required: true
      from:
        description: Seconds since the epoch, rounded down.
        type: float
        required: true
      until:
        description: Seconds since the epoch, rounded down. A mark has at least one second.
        type: float
        required: true
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
seealso:
  - plugin: linkrift.platform.rollout_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Count what visitors got in the last minute
  linkrift.platform.access_log_info:
    since: "{{ now(utc=true).timestamp() - 60 }}"
  register: minute

- name: Compare a rollout with the minute before it
  linkrift.platform.access_log_info:
    marks:
      - {name: before, from: "{{ began - 60 }}", until: "{{ began }}"}
      - {name: during, from: "{{ began }}", until: "{{ ended + 1 }}"}
  register: log

- name: See that nobody noticed
  ansible.builtin.assert:
    that: log.marks.during.total.failed == 0
"""

RETURN = r"""
total:
  description: Requests to all services.
  returned: success
  type: dict
  contains:
    requests: {description: Number of requests., type: int}
    failed:
      description: Those that the server's side failed, by a status of 500 or more, or by an answer that was cut off.
      type: int
    aborted: {description: Those that the visitor gave up., type: int}
    retried: {description: "Those that HAProxy sent once more, to the same server or to another one.", type: int}
    ends: {description: "HAProxy's termination states other than C(--), and how often each was seen.", type: dict}
    p50_ms: {description: Milliseconds within which half of the requests ended; V(null) without any., type: int}
    p99_ms: {description: The same for 99 percent., type: int}
    histogram:
      description:
        - Pairs of milliseconds and number of requests, for sums over several balancers. Times from 128 ms on are
          rounded up, by 1.6 percent at most.
      type: list
      elements: list
services:
  description: The same for each service. C(servers) has it for each slot; C(<NOSRV>) are answers that no slot gave.
  returned: success
  type: dict
  sample: {redirect: {requests: 4000, failed: 0, servers: {app1-blue: {requests: 2000, failed: 0}}}}
unrouted:
  description: The same for requests that belong to no service, such as those for a name that is not served here.
  returned: success
  type: dict
marks:
  description: C(total), C(services) and C(unrouted) of each mark, by its name.
  returned: success
  type: dict
unreadable:
  description: Requests that could not be counted, since their line is not whole. HAProxy cuts off what is too long.
  returned: success
  type: int
  sample: 0
files:
  description: Files that were read.
  returned: success
  type: list
  elements: str
  sample: [/var/log/linkrift/haproxy-access.log]
"""

import math
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _access_log
from ansible_collections.linkrift.platform.plugins.module_utils._access_log import AccessLogError, Mark


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": str(_access_log.PATH)},
            "since": {"type": "float"},
            "until": {"type": "float"},
            "marks": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "from": {"type": "float", "required": True},
                    "until": {"type": "float", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    marks = [Mark.between(mark["name"], mark["from"], mark["until"]) for mark in module.params["marks"]]
    if len({mark.name for mark in marks}) < len(marks):
        module.fail_json(msg="marks: two have the same name")
    since, until = module.params["since"], module.params["until"]
    if since is None:
        if not marks:
            module.fail_json(msg="since when? Give since, or marks")
        since = min(mark.since for mark in marks)
    try:
        counts, files = _access_log.read(
            Path(module.params["path"]), math.floor(since), math.inf if until is None else math.floor(until), marks
        )
    except AccessLogError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **counts.as_dict(), files=files)


if __name__ == "__main__":
    main()
