#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make a host's firewall let in exactly what is listed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall
short_description: Let in exactly what is listed, over IPv4 and IPv6
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Makes C(ufw) active with exactly the rules that are listed, incoming and routed traffic denied by default, outgoing
    allowed, and what is refused is logged at the lowest level.
  - Rules that are not listed are deleted, after new ones were added, so that what stays open never closes.
  - Rules stay as ufw's own, for C(ufw status) to show.
  - The answer of one module for all rules takes one look at the host; a task for each rule would take a second each.
attributes:
  check_mode:
    description: Says what would change. On a host without ufw everything would.
    support: full
  diff_mode:
    description: Shows the rules before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  rules:
    description:
      - What to let in.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - What it is for. Shown by C(ufw status).
        type: str
        required: true
      ports:
        description:
          - TCP ports. VRRP has none.
        type: list
        elements: int
        required: true
      protocol:
        description:
          - V(vrrp) is what balancers agree by on who has the address that they share. ufw knows it since 0.36.2; with
            an older one the module fails before anything is changed.
        type: str
        choices: [tcp, vrrp]
        default: tcp
      sources:
        description:
          - Addresses or networks that may connect, or V(any). With none at all there is no rule.
        type: list
        elements: str
        required: true
  keep_open:
    description:
      - Ports that the rules must let in from somewhere, such as SSH's. Otherwise nothing is done.
    type: list
    elements: int
    default: [22]
"""

EXAMPLES = r"""
- name: Let in operators, and the services to PostgreSQL
  linkrift.platform.firewall:
    rules:
      - {name: ssh, ports: [22], sources: [any]}
      - {name: postgresql, ports: [5432], sources: [192.0.2.11, "2001:db8::11"]}

- name: Let in operators, visitors, and what the other balancer says of the shared address
  linkrift.platform.firewall:
    rules:
      - {name: ssh, ports: [22], sources: [any]}
      - {name: visitors, ports: [80, 443], sources: [any]}
      - {name: shared address, protocol: vrrp, ports: [], sources: [192.0.2.12]}
"""

RETURN = r"""
added:
  description: Rules that were added, in ufw's words.
  returned: success
  type: list
  elements: str
  sample: ["allow 22/tcp comment 'ssh'"]
deleted:
  description: Rules that were deleted, in ufw's words.
  returned: success
  type: list
  elements: str
settings:
  description: What else was changed.
  returned: success
  type: list
  elements: str
  sample: ["incoming denied by default", "firewall enabled"]
"""

import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._firewall import (
    FirewallError,
    Rule,
    compare,
    parse_added,
    parse_rules,
    parse_settings,
)

DEFAULTS = Path("/etc/default/ufw")
STATE = Path("/etc/ufw/ufw.conf")
# (direction, its setting in DEFAULTS, the setting's value, the policy's name for the command)
POLICIES = (
    ("incoming", "DEFAULT_INPUT_POLICY", "drop", "deny"),
    ("outgoing", "DEFAULT_OUTPUT_POLICY", "accept", "allow"),
    ("routed", "DEFAULT_FORWARD_POLICY", "drop", "deny"),
)


class Ufw:
    """The command ufw on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.path = module.get_bin_path("ufw")

    def __call__(self, *words: str) -> str:
        """Run the command; a failure ends the module with what it said."""
        _code, output, _error = self.module.run_command(
            [self.path, *words], check_rc=True, environ_update={"LC_ALL": "C"}
        )
        return str(output)

    def rules(self) -> list[str]:
        """Return the rules that are there; none on a host without ufw."""
        return parse_added(self("show", "added")) if self.path else []

    def knows(self, rule: Rule) -> bool:
        """Tell whether this version can have a rule; it says so without doing anything."""
        if not self.path:
            return True
        code, _output, _error = self.module.run_command([self.path, "--dry-run", *rule.words])
        return bool(code == 0)

    def missing_settings(self) -> list[tuple[str, list[str]]]:
        """Return what is not yet as it must be: a description, and the command's words for it (none for IPv6)."""
        found = parse_settings(DEFAULTS.read_text(encoding="utf-8")) if DEFAULTS.is_file() else {}
        missing: list[tuple[str, list[str]]] = []
        if found.get("IPV6") != "yes":
            missing.append(("IPv6 filtered, too", []))
        missing.extend(
            (f"{direction} {policy} by default", ["default", policy, direction])
            for direction, setting, value, policy in POLICIES
            if found.get(setting) != value
        )
        # Enough to see who was refused, and not every packet of an attack.
        if STATE.is_file() and parse_settings(STATE.read_text(encoding="utf-8")).get("LOGLEVEL") != "low":
            missing.append(("refusals logged", ["logging", "low"]))
        if not self.path or "Status: active" not in self("status").splitlines():
            missing.append(("firewall enabled", ["--force", "enable"]))
        return missing


def filter_ipv6() -> None:
    """Make ufw filter IPv6, in the one file where that is said."""
    lines = [line for line in DEFAULTS.read_text(encoding="utf-8").splitlines() if not line.startswith("IPV6=")]
    with tempfile.NamedTemporaryFile("w", dir=DEFAULTS.parent, delete=False, encoding="utf-8") as file:
        file.write("\n".join(["IPV6=yes", *lines, ""]))
        file.flush()
        os.fchmod(file.fileno(), DEFAULTS.stat().st_mode & 0o777)
    Path(file.name).replace(DEFAULTS)


def apply(ufw: Ufw, to_add: list[Rule], to_delete: list[str], settings: list[tuple[str, list[str]]]) -> None:
    """Make the changes in an order in which nothing that stays open closes in between."""
    ipv6 = [words for dummy, words in settings if not words]
    if ipv6:
        filter_ipv6()
    for rule in to_add:
        ufw(*rule.words, "comment", rule.name)
    for line in to_delete:
        ufw("--force", "delete", *line.split())
    for _dummy, words in settings:
        if words:
            ufw(*words)
    if ipv6:
        ufw("reload")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "rules": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "ports": {"type": "list", "elements": "int", "required": True},
                    "protocol": {"type": "str", "choices": ["tcp", "vrrp"], "default": "tcp"},
                    "sources": {"type": "list", "elements": "str", "required": True},
                },
            },
            "keep_open": {"type": "list", "elements": "int", "default": [22]},
        },
        supports_check_mode=True,
    )
    try:
        wanted = parse_rules(module.params["rules"])
    except FirewallError as error:
        module.fail_json(msg=str(error))
    closed = set(module.params["keep_open"]) - {port for rule in wanted for port in rule.ports}
    if closed:
        module.fail_json(msg=f"these rules would close port {min(closed)}, which must stay open; nothing was changed")
    ufw = Ufw(module)
    if not ufw.path and not module.check_mode:
        module.fail_json(msg="ufw is not installed on this host")
    present = ufw.rules()
    to_add, to_delete = compare(wanted, present)
    if any(not ufw.knows(rule) for rule in to_add if rule.protocol == "vrrp"):
        module.fail_json(
            msg="this host's ufw cannot let VRRP in: that takes 0.36.2 or newer; nothing was changed. Have a newer one,"
            " another firewall (base_firewall_enabled), or no shared address"
        )
    settings = ufw.missing_settings()
    changed = bool(to_add or to_delete or settings)
    if changed and not module.check_mode:
        apply(ufw, to_add, to_delete, settings)
    module.exit_json(
        changed=changed,
        added=[rule.line for rule in to_add],
        deleted=to_delete,
        settings=[description for description, dummy in settings],
        diff={
            "before": "".join(f"{line}\n" for line in sorted(present)),
            "after": "".join(f"{line}\n" for line in sorted(rule.line for rule in wanted))
            + "".join(f"# {description}\n" for description, dummy in settings),
        },
    )


if __name__ == "__main__":
    main()
