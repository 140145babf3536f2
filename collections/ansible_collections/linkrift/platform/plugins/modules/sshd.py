#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Configure the SSH server, and take it back unless a fresh connection confirms it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sshd
short_description: Configure the SSH server so that a mistake undoes itself
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - With O(state=present), writes one file that sshd reads before all others, after sshd has checked it together with
    them and every option has proved to take effect. Before the server reads it, a timer on the host is started that
    restores the former files. Then the module waits until the server answers with the new configuration.
  - With O(state=confirmed), stops that timer. It only does so in a connection that is not the one that made the change,
    and came to the configured port. Reset Ansible's connection in between.
  - With O(state=reverted), takes back what was not confirmed, or tells what the timer took back.
  - A timer that was lost with a reboot is made good by the next run with O(state=present).
attributes:
  check_mode:
    description: Checks the configuration, where sshd has run since the boot, and says what would change.
    support: full
  diff_mode:
    description: Shows the files before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  state:
    description:
      - What to do.
    type: str
    choices: [present, confirmed, reverted]
    default: present
  options:
    description:
      - Values by keyword of C(sshd_config). A list is written on one line; an empty one is left out.
    type: dict
    default: {}
  port:
    description:
      - Port to listen on, the only one. Where systemd listens for sshd, its socket unit is configured.
      - Where C(ufw) is active, the port is opened before it is used.
    type: int
    default: 22
  networks:
    description:
      - Addresses or networks that the port is opened to, or V(any).
    type: list
    elements: str
    default: [any]
  seconds:
    description:
      - How long the change waits for its confirmation.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Let nobody in with a password
  linkrift.platform.sshd:
    options:
      PasswordAuthentication: "no"
      PermitRootLogin: "no"
  register: change

- name: Open a fresh connection
  ansible.builtin.meta: reset_connection

- name: Keep it
  linkrift.platform.sshd:
    state: confirmed
  when: change is changed
"""

RETURN = r"""
files:
  description: Files that changed, or would.
  returned: with O(state=present)
  type: list
  elements: str
pending:
  description: Whether the change waits for its confirmation.
  returned: with O(state=present)
  type: bool
reverted:
  description: What was done to take a change back; empty when none was.
  returned: with O(state=reverted)
  type: list
  elements: str
why:
  description: Why it was taken back.
  returned: with O(state=reverted)
  type: str
confirmed:
  description: Whether the change was confirmed before, so that it stays. The answer may have been lost on its way.
  returned: with O(state=reverted)
  type: bool
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _sshd, _sshd_guard
from ansible_collections.linkrift.platform.plugins.module_utils._connection import find_connection
from ansible_collections.linkrift.platform.plugins.module_utils._firewall import (
    FirewallError,
    Rule,
    parse_added,
    parse_rules,
    without_comment,
)
from ansible_collections.linkrift.platform.plugins.module_utils._host_files import read_exactly
from ansible_collections.linkrift.platform.plugins.module_utils._listeners import listening_sockets
from ansible_collections.linkrift.platform.plugins.module_utils._sshd import Layout, SshdError
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import run_command

LAYOUT = Layout()
# Where the server separates its privileges; without it, it checks nothing.
RUN_DIRECTORY = Path("/run/sshd")


def missing_rules(module: AnsibleModule) -> list[Rule]:
    """Return the rules that the firewall lacks for the port; none where it is not active."""
    ufw = module.get_bin_path("ufw")
    if not ufw or "Status: active" not in run_command([ufw, "status"], 30).stdout.splitlines():
        return []
    present = set(map(without_comment, parse_added(run_command([ufw, "show", "added"], 30).stdout)))
    wanted = parse_rules([{"name": "ssh", "ports": [module.params["port"]], "sources": module.params["networks"]}])
    return [rule for rule in wanted if " ".join(rule.words) not in present]


def fail_reverted(module: AnsibleModule, message: str) -> None:
    """Take the change back at once, and fail."""
    _sshd.disarm(run_command)
    record = _sshd_guard.revert(LAYOUT.guard, message)
    module.fail_json(msg=f"{message}. Taken back: {'; '.join(record['reverted'] if record else [])}")


def activate(module: AnsibleModule, texts: dict[Path, str], server: _sshd.Server, effective: dict[str, Any]) -> bool:
    """Write the files under guard and have the server read them; tell whether the change waits for a confirmation."""
    port, connection = module.params["port"], find_connection()
    rules = missing_rules(module)
    commands = server.commands(back=True) + [["ufw", "--force", "delete", *rule.words] for rule in rules]
    facts = {"connection": vars(connection) if connection else None, "port": port}
    _sshd.arm(LAYOUT, list(texts), commands, module.params["seconds"], facts, run_command)
    pid = _sshd.main_pid(run_command)
    before = listening_sockets(pid) if pid else frozenset()
    try:
        for rule in rules:
            module.run_command(["ufw", *rule.words, "comment", rule.name], check_rc=True)
        _sshd.write_texts(LAYOUT, texts)
        for command in server.commands(back=False):
            done = run_command(command, 60)
            if done.status != 0:
                fail_reverted(module, f"{' '.join(command)}: {done.stderr.strip()}")
    except (OSError, TimeoutError) as error:
        fail_reverted(module, str(error))
    if not server.by_socket and not _sshd.wait_for(lambda: _sshd.has_new_sockets(before, run_command), 10):
        fail_reverted(module, "the SSH server did not read its configuration within 10 s")
    if not _sshd.wait_for(lambda: _sshd.greets(effective, port), 5):
        fail_reverted(module, f"no SSH server answers on port {port} of the host itself")
    if connection is None:
        # A local connection cannot be locked out.
        confirm()
    return connection is not None


def confirm() -> None:
    """End the guard's watch."""
    _sshd_guard.claim(LAYOUT.guard, _sshd_guard.CONFIRMED)
    _sshd.disarm(run_command)


def present(module: AnsibleModule) -> dict[str, Any]:
    """Apply the configuration."""
    params = module.params
    if not module.check_mode:
        if _sshd.settle(LAYOUT, run_command, params["seconds"] + 90):
            module.warn("An earlier change of the SSH server, which nobody had confirmed, was taken back first.")
        RUN_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    server = _sshd.find_server(run_command)
    texts = _sshd.wanted_texts(LAYOUT, params["options"], params["port"], by_socket=server.by_socket)
    effective: dict[str, list[str]] = {}
    if RUN_DIRECTORY.is_dir():
        effective = _sshd.check(LAYOUT, texts, params["options"], run_command)
        _sshd.refuse_other_ports(effective, params["port"])
    changes = _sshd.different_files(texts)
    diff = [
        {
            "before_header": str(path),
            "after_header": str(path),
            "before": read_exactly(path) if path.is_file() else "",
            "after": text,
        }
        for path, text in changes.items()
    ]
    pending = activate(module, changes, server, effective) if changes and not module.check_mode else False
    return {
        "changed": bool(changes),
        "files": [str(path) for path in changes],
        "pending": pending,
        "diff": diff,
    }


def confirmed(module: AnsibleModule) -> dict[str, Any]:
    """Keep the change."""
    record_file = LAYOUT.guard / _sshd_guard.RECORD
    try:
        record = json.loads(record_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        module.fail_json(msg="no change waits for a confirmation: it came too late, or there was none")
    reason = _sshd.refuse_confirmation(record, find_connection())
    if reason:
        module.fail_json(msg=f"not confirmed: {reason}")
    if not module.check_mode and _sshd_guard.claim(LAYOUT.guard, _sshd_guard.CONFIRMED) is None:
        module.fail_json(msg="not confirmed: the time was up in this very moment")
    if not module.check_mode:
        _sshd.disarm(run_command)
    return {"changed": True}


def reverted(module: AnsibleModule) -> dict[str, Any]:
    """Take the change back, or tell what was."""
    file = LAYOUT.guard / _sshd_guard.REVERTED
    record: dict[str, Any] | None = None
    if not module.check_mode:
        _sshd.disarm(run_command)
        # The timer may have done its work just now: one of the two does it, not both.
        _sshd.wait_for(lambda: not _sshd.guard_is_busy(run_command), 60)
        record = _sshd_guard.revert(LAYOUT.guard, "the fresh connection failed")
    taken_back = record is not None
    if record is None and file.exists():
        record = json.loads(file.read_text(encoding="utf-8"))
    found = record or {"reverted": [], "why": ""}
    return {
        "changed": taken_back,
        "reverted": found["reverted"],
        "why": found["why"],
        "confirmed": record is None and (LAYOUT.guard / _sshd_guard.CONFIRMED).exists(),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "confirmed", "reverted"], "default": "present"},
            "options": {"type": "dict", "default": {}},
            "port": {"type": "int", "default": 22},
            "networks": {"type": "list", "elements": "str", "default": ["any"]},
            "seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    work = {"present": present, "confirmed": confirmed, "reverted": reverted}[module.params["state"]]
    try:
        result = work(module)
    except (SshdError, FirewallError, OSError, TimeoutError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
