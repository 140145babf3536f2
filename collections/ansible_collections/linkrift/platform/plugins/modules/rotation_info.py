#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say which slots a balancer sends visitors to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation_info
short_description: Say which slots a balancer sends visitors to
description:
  - Asks the running HAProxy what it really does, and reads what its backends file says. Changes nothing.
  - While HAProxy reloads, its master names no worker, or nobody listens at its socket. That is waited for, 5 seconds at
    most.
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
options:
  path:
    description:
      - The backends file.
    type: path
    default: /etc/haproxy/linkrift-backends.cfg
  admin_socket:
    description:
      - Socket for commands to the worker.
    type: path
    default: /run/haproxy/admin.sock
  master_socket:
    description:
      - Socket of the master process. Without it workers of earlier reloads cannot be seen.
    type: path
    default: /run/haproxy-master.sock
  fleet_record:
    description:
      - Return what the fleet is to run, as M(linkrift.platform.fleet_record) does, with the same answer.
    type: bool
    default: false
  settle:
    description:
      - Seconds to wait first until what module rotation is doing in C(linkrift-op-rotation) has ended, and to fail if
        it has not. An operation goes on when the run that began it is gone, and what is found before its end would not
        last.
      - With 0, nothing is waited for, and RV(operations) tells what is under way.
    type: float
    default: 0
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
  - module: linkrift.platform.rotation
"""

EXAMPLES = r"""
- name: Ask the balancer
  linkrift.platform.rotation_info:
  register: balancer

- name: See that it does what its file says
  ansible.builtin.assert:
    that: balancer.differences == []
"""

RETURN = r"""
operations:
  description: What is under way, which may change what is told here.
  returned: success
  type: list
  elements: str
  sample: ["rotation redirect/app1-green ready by alice, since 2026-01-31T12:00:00Z"]
running:
  description: HAProxy answers.
  returned: success
  type: bool
  sample: true
loaded:
  description: The running HAProxy has loaded a backends file (not necessarily the one that lies there now).
  returned: success
  type: bool
  sample: true
current:
  description: What it has loaded and the file that lies there have the same servers and settings.
  returned: success
  type: bool
  sample: true
pid:
  description: Process of the worker that serves; null without one.
  returned: success
  type: int
  sample: 812
old_workers:
  description:
    - Processes of earlier reloads that still hold connections; empty while HAProxy does not run.
    - Null where nobody knows, which is not the same as none. That is without O(master_socket), and when the master does
      not name the worker that serves in time, with a warning.
  returned: success
  type: list
  elements: int
  sample: []
version:
  description: Version of the running HAProxy; empty without one.
  returned: success
  type: str
  sample: 2.6.12-1+deb12u2
states:
  description: What the file says, by service and server.
  returned: success
  type: dict
  sample: {redirect: {app1-blue: ready, app1-green: maint}}
rotation:
  description: The rotation as HAProxy really does it, as M(linkrift.platform.rotation) returns it.
  returned: success
  type: dict
  sample: {redirect: {backend: linkrift_redirect, servers: {}}}
record:
  description: The fleet record's entries, by service.
  returned: with O(fleet_record)
  type: dict
differences:
  description: Where HAProxy does other than the file says, in words.
  returned: success
  type: list
  elements: str
  sample: ["redirect/app1-green: maint, the file says ready"]
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _fleet_record
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import (
    Haproxy,
    HaproxyDownError,
    HaproxyError,
    Socket,
    View,
    Workers,
)
from ansible_collections.linkrift.platform.plugins.module_utils._operation_file import HOME, unsettled
from ansible_collections.linkrift.platform.plugins.module_utils._rotation import POLL, describe
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import (
    digest_in,
    parse_file,
    service_of,
)

_RELOAD_SECONDS = 5.0
"""How long HAProxy's master may name no worker that serves: it reads its files, and begins anew."""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/haproxy/linkrift-backends.cfg"},
            "admin_socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
            "master_socket": {"type": "path", "default": "/run/haproxy-master.sock"},
            "fleet_record": {"type": "bool", "default": False},
            "settle": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    operations = unsettled(HOME, ["rotation"], module.params["settle"])
    if operations and module.params["settle"] > 0:
        module.fail_json(msg=f"this balancer is still at work: {'; '.join(operations)}. Wait for it, and repeat this")
    master = module.params["master_socket"]
    haproxy = Haproxy(Socket(module.params["admin_socket"]), Socket(master) if master else None)
    try:
        result = _gather(haproxy, Path(module.params["path"]))
        if module.params["fleet_record"]:
            result["record"] = _fleet_record.read(_fleet_record.PATH)
    except (HaproxyError, OSError, _fleet_record.FleetRecordError) as error:
        module.fail_json(msg=str(error))
    if master and result["old_workers"] is None:
        module.warn(
            f"HAProxy's master at {master} named no worker that serves for {_RELOAD_SECONDS:g} s: nobody knows whether "
            "workers of earlier reloads are left"
        )
    module.exit_json(changed=False, operations=operations, **result)


def _gather(haproxy: Haproxy, path: Path) -> dict[str, Any]:
    """Ask both."""
    view, old = _look(haproxy)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    rotation = describe(view, text) if view else {}
    states: dict[str, dict[str, str]] = {}
    for (backend, server), remembered in sorted(parse_file(text).items()):
        states.setdefault(service_of(backend), {})[server] = remembered.state
    return {
        "running": view is not None,
        "loaded": bool(view and view.digest),
        "current": bool(view and view.digest and view.digest == digest_in(text)),
        "pid": view.pid if view else None,
        "old_workers": old,
        "version": view.version if view else "",
        "states": states,
        "rotation": rotation,
        "differences": _differences(states, rotation) if view else [],
    }


def _look(haproxy: Haproxy) -> tuple[View | None, list[int] | None]:
    """Look at the worker that serves, and at those that are left of earlier reloads; None for these: nobody knows."""
    end = time.monotonic() + _RELOAD_SECONDS
    while True:
        last = not haproxy.has_master or time.monotonic() >= end
        try:
            view = haproxy.view()
        except HaproxyDownError:
            return None, []
        except HaproxyError:
            # A worker that ends may break off what it says.
            if last:
                raise
        else:
            workers = _workers(haproxy)
            if workers and workers.current == view.pid:
                return view, list(workers.old)
            if last:
                return view, None
        time.sleep(POLL)  # between two looks, until a deadline


def _workers(haproxy: Haproxy) -> Workers | None:
    """Ask the master; None as well in the moment of a reload in which it begins anew and nobody listens."""
    try:
        return haproxy.workers()
    except HaproxyError:
        return None


def _differences(states: dict[str, dict[str, str]], rotation: dict[str, Any]) -> list[str]:
    """Compare what the file says with what HAProxy does."""
    real = {
        f"{service}/{name}": server["admin"]
        for service, entry in rotation.items()
        for name, server in entry["servers"].items()
    }
    said = {f"{service}/{name}": state for service, servers in states.items() for name, state in servers.items()}
    return [
        f"{name}: {real.get(name, 'unknown to HAProxy')}, the file says {said.get(name, 'nothing')}"
        for name in sorted(real.keys() | said.keys())
        if real.get(name) != said.get(name)
    ]


if __name__ == "__main__":
    main()
