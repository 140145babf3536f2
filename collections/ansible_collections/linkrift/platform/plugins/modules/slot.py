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
  - One run at a time works on a service of a host.
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
    description: Seconds to wait for another run on the same service.
    type: float
    default: 10
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
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _slot
from ansible_collections.linkrift.platform.plugins.module_utils._ledger import who_runs_this
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES, SLOTS
from ansible_collections.linkrift.platform.plugins.module_utils._slot_lock import LockHeldError, only_run
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Gates, Host, SlotError
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import SystemdError

ARGUMENTS: dict[str, Any] = {
    "service": {"type": "str", "required": True, "choices": list(SERVICES)},
    "state": {"type": "str", "required": True, "choices": list(_slot.STATES)},
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
    "lock_deadline": {"type": "float", "default": 10},
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
    host = host_of(module.params)
    try:
        if module.check_mode:
            result = result_of(wish(host, module.params, check=True))
        else:
            purpose = f"state={module.params['state']}"
            with only_run(host.lock, purpose, host.by, module.params["lock_deadline"]):
                result = result_of(wish(host, module.params, check=False))
    except SlotError as error:
        module.fail_json(msg=str(error), **error.evidence)
    except (LockHeldError, SystemdError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error}. Correct that, and repeat this: it goes on from here")
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


def host_of(params: dict[str, Any], **parts: Any) -> Host:
    """Return the service's host for the module's parameters; `parts` replace what tests replace."""
    return Host(
        service=params["service"],
        ports={slot: port for slot, port in (params["ports"] or {}).items() if port},
        address=params["address"] or "",
        by=params["by"] or who_runs_this(),
        gates=Gates(
            deadline=params["deadline"],
            successes=params["successes"],
            interval=params["interval"],
            timeout=params["request_timeout"],
            stop_deadline=params["stop_deadline"],
            memory_bound=params["memory_bound"],
            error_rate=params["error_rate"],
        ),
        **parts,
    )


def wish(host: Host, params: dict[str, Any], *, check: bool) -> _slot.Outcome:
    """Carry out what the parameters wish for.

    Raises:
        SlotError: it cannot be.
    """
    slot, release = params["slot"], params["release"]
    if params["state"] == "candidate":
        return _slot.candidate(host, release, slot, replace=params["replace"], check=check)
    if params["state"] == "stopped":
        return _slot.stopped(host, slot, release, force=params["force"], undone=params["undone"] or "", check=check)
    if params["state"] == "warm":
        return _slot.warm(host, slot, release, seconds=params["warm_seconds"], check=check)
    wishes = {"admitted": _slot.admitted, "live": _slot.live, "drained": _slot.drained}
    return wishes[params["state"]](host, slot, release, check=check)


def result_of(outcome: _slot.Outcome) -> dict[str, Any]:
    """Return the module's result."""
    before, after = outcome.facts(now=False), outcome.facts(now=True)
    live = next((slot for slot, facts in after.items() if facts["state"] == "live"), None)
    facts = after[outcome.slot]
    return {
        "changed": outcome.record.changed,
        "slot": outcome.slot,
        "state": facts["state"],
        "port": facts["port"],
        "release": facts["release"],
        "config_digest": facts["config_digest"],
        "live": {"slot": live, "release": after[live]["release"]} if live else None,
        "slots": after,
        "settings": outcome.settings,
        "steps": outcome.record.steps,
        "gate": outcome.gates[-1].as_dict() if outcome.gates else {},
        "gates": [gate.as_dict() for gate in outcome.gates],
        "msg": outcome.message,
        "warnings": outcome.warnings,
        "diff": {
            "before_header": outcome.host.service,
            "after_header": outcome.host.service,
            "before": shown(before, []),
            "after": shown(after, outcome.settings if outcome.record.changed else []),
        },
    }


def shown(slots: dict[str, dict[str, Any]], settings: list[str]) -> str:
    """Return slots, and the names of changed settings, as lines for a diff."""
    lines = []
    for slot, facts in slots.items():
        marks = [mark for mark in ("active", "admitted", "enabled") if facts[mark]]
        described = ", ".join([facts["state"], *marks])
        lines.append(f"{slot}: {described}; release {facts['release'] or 'none'}; settings {facts['config_digest']}")
    return "".join(f"{line}\n" for line in [*lines, *settings])


if __name__ == "__main__":
    main()
