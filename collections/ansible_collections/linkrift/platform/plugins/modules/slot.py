#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the life of a service's slot on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: slot
short_description: Start, admit, commit and stop a slot of a service
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - A service has two slots on each host, V(blue) and V(green). One is live and serves; a new release, setting or secret
    is started in the other one, checked there, and only then made live.
  - Each state does only what is missing for it. After an interruption at any point, the same call goes on from there.
  - What a slot does is read from links, unit and files each time; nothing is cached.
  - The work is done by a transient unit, C(linkrift-op-<service>), so that it ends as it should when the connection or
    the control node is gone. Its journal has every step. Where systemd cannot start it, Ansible's own process does it.
  - One run at a time works on a service of a host. Whoever asks for the same meanwhile gets the same answer, and a
    warning whose work it was. Whoever asks for something else waits, O(lock_deadline) at most.
options:
  service:
    description: The service.
    type: str
    required: true
    choices: [api, redirect, worker]
  state:
    description:
      - V(candidate) pins the rendered environment for the slot, points the slot to O(release), starts it and gates it.
        One that does not pass all gates is stopped, the slot gets back what it had, and the result holds the evidence.
        When the release is live already with the same settings, nothing is done and the result is about the live slot.
      - The gates of V(candidate), within O(deadline), are C(ready), C(smoke), C(memory) and C(errors). C(ready) -
        C(/health/ready) answers 200 with that release O(successes) times in a row. C(smoke) - it answers real requests
        O(successes) times in a row, see the notes. C(memory) - its processes have no more than O(memory_bound) in use.
        C(errors) - since it was started, it has written no more lines of level error or worse than O(error_rate) allows
        (of a slot that is admitted already, those since the gates began).
      - V(admitted) lets the slot work, so that its C(/health) turns from 404 to 200. A worker first has the worker in
        the other slot pause, flush and acknowledge. A drained one first passes C(ready), C(smoke) and C(memory).
      - V(live) commits. The slot is the one that starts at boot, C(live) and C(current) point to it, the ledger has it.
        When it is live already but was stopped or lost its admission, it is started and admitted again. Where it is
        drained, it is started only.
      - V(warm) keeps what served before running, so that traffic can go back to it at once. A timer of the host stops
        it after O(warm_seconds), unless it is live again by then. Not for workers. Where it does not run, nothing is
        done.
      - V(drained) has the live slot take no work, through reboots and reruns, until V(admitted) ends that. Its process
        goes on, and C(/health) answers 404. A worker pauses, flushes and acknowledges. For the time in which a host is
        worked on, after the balancers send it nothing any more. Where nothing is live, nothing is done.
      - V(stopped) stops the slot for good, a worker after it has paused.
    type: str
    required: true
    choices: [candidate, admitted, live, warm, drained, stopped]
  release:
    description:
      - Id of the release. Required by V(candidate); otherwise the slot must run it.
    type: str
  slot:
    description:
      - Which slot. By default, V(candidate) and V(stopped) take the one that is not live; V(admitted) and V(live) take
        the live one, or, while nothing is live, the one that runs.
      - The live slot is never a candidate, and is stopped only with O(force).
    type: str
    choices: [blue, green]
  ports:
    description: Ports of the slots, where they are not the usual ones (8080 to 8082 for blue, 100 more for green).
    type: dict
    default: {}
    suboptions:
      blue:
        description: Port of blue.
        type: int
      green:
        description: Port of green.
        type: int
  address:
    description:
      - Where to ask for health. By default the address that the service listens on, by its environment.
      - A slot whose environment has C(LINKRIFT_TLS_CERTIFICATE) is asked by TLS. Its certificate must be signed by an
        authority of C(/etc/linkrift/tls/ca.pem), for the name in C(LINKRIFT_TLS_NAME), or else for this address.
    type: str
  deadline:
    description: Seconds that starting and passing the gate may take together; also for each other wait.
    type: float
    default: 60
  successes:
    description: Right answers in a row that the gate wants.
    type: int
    default: 3
  interval:
    description: Seconds between two questions of the gate.
    type: float
    default: 0.25
  request_timeout:
    description:
      - Seconds that one answer may take. Services wait less for what they depend on, so that they can say what is away.
    type: float
    default: 5
  stop_deadline:
    description: Seconds that stopping may take; more than TimeoutStopSec of the unit.
    type: float
    default: 90
  memory_bound:
    description:
      - MiB that all processes of the slot may have in use together (resident memory; what they share counts for each).
      - By default nine tenths of C(MemoryMax) of the unit; without either, there is no bound.
    type: float
  error_rate:
    description:
      - Lines of level error or worse that the slot, or systemd about it, may write in a minute. A slot that runs for
        less than a minute may write as many.
    type: float
    default: 0
  lock_deadline:
    description: Seconds to wait for another run on the same service that does something else.
    type: float
    default: 120
  by:
    description: Who does this, for the ledger. By default the user who became root.
    type: str
  force:
    description: With V(stopped), stop the live slot, too. Nothing is live then.
    type: bool
    default: false
  replace:
    description:
      - With V(candidate), stop what is kept warm in that slot first. For who has seen that no balancer sends to it.
    type: bool
    default: false
  undone:
    description:
      - With V(stopped), why O(release) was undone, for the ledger. No rollback leads to it then.
    type: str
  warm_seconds:
    description: With V(warm), for how long.
    type: float
    default: 900
attributes:
  check_mode:
    description: Tells what would be done. What cannot be known yet, on a bare host, is said to be unknown.
    support: full
  diff_mode:
    description: Shows both slots before and after, and the names of settings that change, never a value.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
notes:
  - Smoke requests go to the slot's own port. A redirect slot must redirect C(/ping), the canary's link, to the canary's
    target, and answer 404 to a code that no link has, which it can know from PostgreSQL only. An api slot must list the
    canary's links for a token of 30 seconds, signed on the host with C(LINKRIFT_JWT_SECRET) of the slot's environment.
    A worker takes no requests; its C(/health/ready) reads the columns that it writes.
  - The canary, a link and an account that nobody can sign in to, comes with migration C(000004_canary) of the
    application. Following it is not counted as a click. Where it is missing, the gate fails and says so. Only releases
    that state a schema level below 4 cannot have it; C(smoke) has the verdict C(skipped) for them, with that reason.
seealso:
  - module: linkrift.platform.release
  - module: linkrift.platform.release_info
  - module: linkrift.platform.rotation
"""

EXAMPLES = r"""
- name: Start the new release in the slot that is not live
  linkrift.platform.slot:
    service: redirect
    state: candidate
    release: 1.4.0+3f9c2a71b0de
  register: candidate

- name: Let it answer the balancers' checks
  linkrift.platform.slot:
    service: redirect
    state: admitted
    slot: "{{ candidate.slot }}"

- name: Commit, after the rotation sends traffic to it
  linkrift.platform.slot:
    service: redirect
    state: live
    slot: "{{ candidate.slot }}"

- name: Have the worker of a host pause while the host is worked on
  linkrift.platform.slot:
    service: worker
    state: drained

- name: Stop the other one, after it is drained
  linkrift.platform.slot:
    service: redirect
    state: stopped
"""

RETURN = r"""
slot:
  description: The slot this is about.
  type: str
  returned: success, and when a gate failed
  sample: green
state:
  description: What the slot is now. C(live), C(candidate), C(warm) (admitted, so it can take traffic), or C(idle).
  type: str
  returned: success
  sample: candidate
port:
  description: The slot's port.
  type: int
  returned: success
  sample: 8181
release:
  description: Id of the release the slot has.
  type: str
  returned: success
  sample: 1.4.0+3f9c2a71b0de
config_digest:
  description:
    - Tells two configurations of this host apart (16 hexadecimal digits). It is keyed with a random value that never
      leaves the host, so that nobody can test guesses of a secret with it. Null before the first candidate.
  type: str
  returned: success
live:
  description: The live slot and its release; null when nothing is live.
  type: dict
  returned: success
  sample: {slot: blue, release: 1.3.2+0d4b1c2a9f3e}
slots:
  description: Both slots as they are now, or in check mode would be.
  type: dict
  returned: success
settings:
  description: What is different from the live slot's settings. Names only.
  type: list
  elements: str
  returned: success
  sample: [LINKRIFT_LOG_LEVEL changed]
steps:
  description: What was done, or in check mode would be done, in order.
  type: list
  elements: str
  returned: success
  sample: [pin, link, start, ledger]
gate:
  description: How the last gate went, with figures. Empty when none was needed.
  type: dict
  returned: success, and when a gate failed
  sample: {name: ready, verdict: pass, successes: 3, required: 3, answers: 4, seconds: 0.8, deadline: 58.9, reason: ""}
gates:
  description:
    - All gates that were run, in order, as RV(gate) has them; the figures of C(memory) and C(errors) are in C(figures).
      The verdict is C(pass), C(fail), C(inconclusive) (nothing could be learnt, so it does not pass) or C(skipped).
  type: list
  elements: dict
  returned: success, and when a gate failed
  sample:
    - {name: memory, verdict: pass, figures: {mib: 118.2, processes: 3, bound_mib: 921.6}}
    - {name: errors, verdict: pass, figures: {lines: 0, allowed: 0.0, minutes: 1.0}}
evidence:
  description: The unit's state, the last answer, the error lines and the end of the journal, secrets masked.
  type: dict
  returned: when a gate failed
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._ledger import who_runs_this
from ansible_collections.linkrift.platform.plugins.module_utils._operation import Operation
from ansible_collections.linkrift.platform.plugins.module_utils._operation_answer import answer
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES, SLOTS, Layout

STATES = ("candidate", "admitted", "live", "warm", "drained", "stopped")

ARGUMENTS: dict[str, Any] = {
    "service": {"type": "str", "required": True, "choices": list(SERVICES)},
    "state": {"type": "str", "required": True, "choices": list(STATES)},
    "release": {"type": "str"},
    "slot": {"type": "str", "choices": list(SLOTS)},
    "ports": {"type": "dict", "default": {}, "options": {"blue": {"type": "int"}, "green": {"type": "int"}}},
    "address": {"type": "str"},
    "deadline": {"type": "float", "default": 60},
    "successes": {"type": "int", "default": 3},
    "interval": {"type": "float", "default": 0.25},
    "request_timeout": {"type": "float", "default": 5},
    "stop_deadline": {"type": "float", "default": 90},
    "memory_bound": {"type": "float"},
    "error_rate": {"type": "float", "default": 0},
    "lock_deadline": {"type": "float", "default": 120},
    "by": {"type": "str"},
    "force": {"type": "bool", "default": False},
    "replace": {"type": "bool", "default": False},
    "undone": {"type": "str"},
    "warm_seconds": {"type": "float", "default": 900},
}


def main() -> None:
    """Run the module."""
    # The services' user must be able to pass the directories that are made here, whatever umask sudo left.
    os.umask(0o022)
    module = AnsibleModule(
        ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "candidate", ["release"])],
        required_by={"undone": ["release"]},
    )
    answer(module, operation_of({**module.params, "by": module.params["by"] or who_runs_this()}), foresee)


def operation_of(params: Mapping[str, Any]) -> Operation:
    """Return the operation that does what the parameters wish for."""
    wished = [params["state"], params["slot"], params["release"]]
    return Operation(
        name=params["service"],
        work="_slot_work",
        request=params,
        purpose=f"{params['service']} {' '.join(str(word) for word in wished if word)}",
        by=params["by"],
        patience=params["lock_deadline"],
        # Starting, gating, pausing, handing over; what makes room is stopped, and what failed.
        bound=params["lock_deadline"] + 4 * params["deadline"] + 2 * params["stop_deadline"] + 60,
        apart=("by", "lock_deadline"),
        stamp=stamp(params["service"]),
    )


def stamp(service: str, root: Path = Path("/")) -> str:
    """Return what changes when the service's settings or its unit are rendered anew: a candidate has them then."""
    paths = (
        Layout(root).rendered_env(service),
        root / f"etc/systemd/system/linkrift-{service}@.service",
        root / f"etc/systemd/system/linkrift-{service}@.service.d",
    )
    found = (path.stat() for path in paths if path.exists())
    return " ".join(f"{entry.st_ino}:{entry.st_mtime_ns}" for entry in found)


def foresee(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the operation would do.

    Raises:
        WorkError: it would fail.
    """
    # Only where it is needed: loading it takes longer than all the rest of this module.
    from ansible_collections.linkrift.platform.plugins.module_utils import _slot_work

    return _slot_work.foresee(params)


if __name__ == "__main__":
    main()
