#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Change which slots a balancer sends visitors to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation
short_description: Change which slots a balancer sends visitors to
description:
  - Writes HAProxy's backends file, the only place where the rotation is kept, and tells the running HAProxy in the same
    step through its admin socket. A switch needs no reload, and a restart, an upgrade or a reload at any moment comes
    back with the right rotation.
  - A server that becomes V(ready) first passes a fresh check while no visitor is sent to it. Only then do the servers
    that go to V(drain) or V(maint) stop taking requests, and the module waits until they have none left.
  - When a step fails, file and HAProxy are put back as they were, and the message names the server, what its last check
    found and what to do. A run that was killed is no obstacle, the same task again goes on from what it finds.
  - Servers not named in O(changes) keep the state that the file has for them. A new server begins in V(maint).
  - A change of addresses, ports or settings, or of which servers there are, needs a reload, which the module does and
    waits for. Only changes of state need none.
  - Where HAProxy does not run, only the file is written, RV(running) says so, and nothing was checked.
  - The work is done by a transient unit, C(linkrift-op-rotation), so that it ends as it should when the connection or
    the control node is gone. Its journal has every step. Where systemd cannot start it, Ansible's own process does it.
  - Only one run works at a time on a balancer. Whoever asks for the same meanwhile gets the same answer, and a warning
    whose work it was. Whoever asks for something else waits, O(lock_timeout) at most.
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
requirements:
  - HAProxy 2.4 or newer, started with C(-f) for O(main_config) and then for O(path)
options:
  services:
    description:
      - All services that this balancer serves, by name. Backend C(linkrift_<service>) gets a server C(<host>-<slot>)
        for each slot of each host. A service or host left out is removed from the file.
      - "Each is a dictionary of C(servers), a list of C(host), C(address) (IPv4 or IPv6) and C(ports) (C(blue) and
        C(green)); and, all optional, C(balance) (C(roundrobin), C(leastconn) or C(random); default C(roundrobin), the
        only one whose shares are exact at low load), C(retries) (3; of failed connections only, with another server
        each time), C(check) (C(path) /health, C(inter) 250ms, C(fastinter) 250ms, C(downinter) 250ms, C(timeout)
        2s, C(fall) 4, C(rise) 1), C(timeouts) (C(connect) 1s, C(server) 30s, C(queue) 5s) and C(tls)."
      - "C(tls) has requests and checks go over TLS 1.2 or newer: C(ca_file), a file on the balancer with the
        authorities to believe, and C(verify_host), a name that every server's certificate must carry. A server that
        cannot prove that is down. Both are needed; an empty dictionary, the default, means plain HTTP. While servers of
        the service are V(ready), it is neither turned on nor off: what runs there would go on speaking the other way."
    type: dict
    required: true
  changes:
    description:
      - Servers to bring to a state.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description:
          - The service.
        type: str
        required: true
      host:
        description:
          - The host, as in O(services).
        type: str
        required: true
      slot:
        description:
          - The slot.
        type: str
        choices: [blue, green]
        required: true
      state:
        description:
          - V(ready) takes requests. It must pass a fresh check before.
          - V(drain) takes none and is still checked. The module waits until it has none left.
          - V(maint) takes none and is not checked. The module waits until it has none left.
        type: str
        choices: [ready, drain, maint]
        required: true
  allow_empty:
    description:
      - Let a backend lose its last ready server. Its visitors then get an error.
    type: bool
    default: false
  reload:
    description:
      - Reload HAProxy where the change needs it. With V(false) the file is written, RV(reload_required) says so, and
        O(changes) must be empty in that case.
    type: bool
    default: true
  wait_old_workers:
    description:
      - Whatever goes to V(drain) or V(maint) also waits for the workers of earlier reloads to end. They know nothing of
        this change and go on sending requests of the connections that they hold.
    type: bool
    default: true
  check_timeout:
    description:
      - Seconds that a server has to pass a fresh check.
    type: float
    default: 15
  drain_timeout:
    description:
      - Seconds for the requests of a server, and for workers of earlier reloads, to end.
    type: float
    default: 60
  drain_required:
    description:
      - Requests that last longer put the old rotation back, and the module fails. With V(false) they are a warning, and
        go on where they are; for slots that run on afterwards.
    type: bool
    default: true
  reload_timeout:
    description:
      - Seconds for a new worker to serve and to have checked the servers that answered before.
    type: float
    default: 30
  lock_timeout:
    description:
      - Seconds to wait for another run on this balancer.
    type: float
    default: 120
  by:
    description:
      - Who does this, for others who have to wait and for the journal. By default the user who became root.
    type: str
  path:
    description:
      - The backends file.
    type: path
    default: /etc/haproxy/linkrift-backends.cfg
  main_config:
    description:
      - The configuration that HAProxy loads before it. Both are checked together.
    type: path
    default: /etc/haproxy/haproxy.cfg
  group:
    description:
      - Group of the file. Empty leaves it to the system.
    type: str
    default: haproxy
  admin_socket:
    description:
      - Socket for commands to the worker, level C(admin).
    type: path
    default: /run/haproxy/admin.sock
  master_socket:
    description:
      - Socket of the master process. Without it workers of earlier reloads cannot be seen.
    type: path
    default: /run/haproxy-master.sock
  lock_path:
    description:
      - File whose lock a run holds.
    type: path
    default: /run/linkrift-rotation.lock
  executable:
    description:
      - The program that checks the file.
    type: path
    default: /usr/sbin/haproxy
  unit:
    description:
      - The systemd unit to reload.
    type: str
    default: haproxy.service
attributes:
  check_mode:
    description: Says what would change, after every check that does not need the change to happen.
    support: full
  diff_mode:
    description: Shows the backends file before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
seealso:
  - module: linkrift.platform.rotation_info
"""

EXAMPLES = r"""
- name: Let visitors in on the blue slots, once they have passed a check
  linkrift.platform.rotation:
    services: "{{ haproxy_services }}"
    changes:
      - {service: redirect, host: app1, slot: blue, state: ready}
      - {service: redirect, host: app2, slot: blue, state: ready}

- name: Switch one host to its green slot
  linkrift.platform.rotation:
    services: "{{ haproxy_services }}"
    changes:
      - {service: redirect, host: app1, slot: green, state: ready}
      - {service: redirect, host: app1, slot: blue, state: drain}

- name: Write the file for the services of this inventory
  linkrift.platform.rotation:
    services:
      redirect:
        servers:
          - {host: app1, address: 198.18.0.11, ports: {blue: 8081, green: 8181}}
          - {host: app2, address: 198.18.0.12, ports: {blue: 8081, green: 8181}}
      api:
        servers:
          - {host: app1, address: 198.18.0.11, ports: {blue: 8080, green: 8180}}
        check: {fall: 3, rise: 2}

- name: Speak with the slots by TLS
  linkrift.platform.rotation:
    services:
      redirect:
        servers:
          - {host: app1, address: 198.18.0.11, ports: {blue: 8081, green: 8181}}
        tls: {ca_file: /etc/linkrift/tls/ca.pem, verify_host: redirect.services.linkrift.internal}
"""

RETURN = r"""
running:
  description: HAProxy answers. If it does not, only the file was written.
  returned: success
  type: bool
  sample: true
reload_required:
  description: The running HAProxy lacks a change that only a reload brings (in check mode, before the change).
  returned: success
  type: bool
  sample: false
reloaded:
  description: HAProxy was reloaded.
  returned: success
  type: bool
  sample: false
path:
  description: The backends file.
  returned: success
  type: str
  sample: /etc/haproxy/linkrift-backends.cfg
pid:
  description: Process of the worker that serves; null without one.
  returned: success
  type: int
  sample: 812
version:
  description: Version of the running HAProxy; empty without one.
  returned: success
  type: str
  sample: 2.6.12-1+deb12u2
rotation:
  description:
    - The rotation as HAProxy really does it, asked at the end. Service, then server, then its C(host), C(slot),
      C(state) (what the file says), C(admin) (C(ready), C(drain) or C(maint)), C(status) (HAProxy's word),
      C(takes_traffic), C(check_status), C(check_code), C(check_detail), C(scur) (requests in progress), C(weight),
      C(address) and C(counters). Empty when HAProxy does not run.
  returned: success
  type: dict
  sample:
    redirect:
      backend: linkrift_redirect
      servers:
        app1-blue:
          {host: app1, slot: blue, state: ready, admin: ready, status: UP, takes_traffic: true, check_status: L7OK,
           check_code: "200", check_detail: "", scur: 0, weight: 100, address: "198.18.0.11:8081", counters: {}}
steps:
  description: What was done, with the seconds since the start.
  returned: success
  type: list
  elements: dict
  sample: [{at: 0.021, what: app1-green waits for a check}]
msg:
  description: A sentence for the operator.
  returned: always
  type: str
  sample: "redirect: 3 of 6 servers take traffic"
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._ledger import who_runs_this
from ansible_collections.linkrift.platform.plugins.module_utils._operation import Operation
from ansible_collections.linkrift.platform.plugins.module_utils._operation_answer import answer
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import SLOTS, STATES


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "dict", "required": True},
            "changes": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "service": {"type": "str", "required": True},
                    "host": {"type": "str", "required": True},
                    "slot": {"type": "str", "choices": list(SLOTS), "required": True},
                    "state": {"type": "str", "choices": list(STATES), "required": True},
                },
            },
            "allow_empty": {"type": "bool", "default": False},
            "reload": {"type": "bool", "default": True},
            "wait_old_workers": {"type": "bool", "default": True},
            "check_timeout": {"type": "float", "default": 15},
            "drain_timeout": {"type": "float", "default": 60},
            "drain_required": {"type": "bool", "default": True},
            "reload_timeout": {"type": "float", "default": 30},
            "lock_timeout": {"type": "float", "default": 120},
            "by": {"type": "str"},
            "path": {"type": "path", "default": "/etc/haproxy/linkrift-backends.cfg"},
            "main_config": {"type": "path", "default": "/etc/haproxy/haproxy.cfg"},
            "group": {"type": "str", "default": "haproxy"},
            "admin_socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
            "master_socket": {"type": "path", "default": "/run/haproxy-master.sock"},
            "lock_path": {"type": "path", "default": "/run/linkrift-rotation.lock"},
            "executable": {"type": "path", "default": "/usr/sbin/haproxy"},
            "unit": {"type": "str", "default": "haproxy.service"},
        },
        supports_check_mode=True,
    )
    answer(module, operation_of(module.params), foresee)


def operation_of(params: Mapping[str, Any]) -> Operation:
    """Return the operation that does what the parameters ask for."""
    changes = [
        f"{change['service']}/{change['host']}-{change['slot']} {change['state']}" for change in params["changes"]
    ]
    return Operation(
        name="rotation",
        work="_rotation_work",
        request=params,
        purpose=f"rotation {', '.join(changes) or 'of the services'}",
        by=params["by"] or who_runs_this(),
        patience=params["lock_timeout"],
        # A step is repeated twice where something else changes HAProxy meanwhile, and put back where it fails.
        bound=params["lock_timeout"]
        + 3 * (params["check_timeout"] + params["drain_timeout"] + 3 * params["reload_timeout"])
        + 5 * params["reload_timeout"]
        + 120,
        apart=("by", "lock_timeout"),
    )


def foresee(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the operation would do.

    Raises:
        WorkError: it would fail.
    """
    # Only where it is needed: loading it takes longer than all the rest of this module.
    from ansible_collections.linkrift.platform.plugins.module_utils import _rotation_work

    return _rotation_work.foresee(params)


if __name__ == "__main__":
    main()
