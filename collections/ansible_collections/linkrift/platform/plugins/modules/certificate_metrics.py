#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a host report when its certificates expire."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_metrics
short_description: Have a host report when its certificates expire
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Installs a small program, a service and a timer, which write C(linkrift_certificate_expiry_seconds) (path and
    subject) for each certificate that is there into a file of Prometheus' textfile collector. Starts the timer.
  - One call for all of it, as each host gets it. The program needs Python and openssl, nothing else.
options:
  paths:
    description: Files with certificates, or patterns. Ones that do not exist on this host are left out.
    type: list
    elements: str
    required: true
  output:
    description: The file that is written. Its directory is made when it is missing.
    type: path
    default: /var/lib/prometheus/node-exporter/linkrift_certificates.prom
  on_calendar:
    description: When the timer goes off, as systemd writes it. It also does three minutes after each boot.
    type: str
    default: hourly
  program:
    description: Where the program is put.
    type: path
    default: /usr/local/lib/linkrift/certificates.py
  unit_directory:
    description: Where the units are put.
    type: path
    default: /etc/systemd/system
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows the files before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
seealso:
  - module: linkrift.platform.certificate_info
"""

EXAMPLES = r"""
- name: Report when certificates expire
  linkrift.platform.certificate_metrics:
    paths: [/etc/haproxy/certs/*.pem, /etc/postgresql/*/main/*.crt]
"""

RETURN = r"""
written:
  description: Files that were written.
  returned: success
  type: list
  elements: str
  sample: [/etc/systemd/system/linkrift-certificates.timer]
"""

import inspect
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _certificates
from ansible_collections.linkrift.platform.plugins.module_utils._paths import is_ours, write_atomically

NAME = "linkrift-certificates"

SERVICE = """\
# Written by Ansible, module linkrift.platform.certificate_metrics.
[Unit]
Description=Report when the certificates of this host expire

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I {program} {output} {paths}
# It reads keys' neighbours as root, writes one file, and talks to nobody.
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={directory}
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=none
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0022
TimeoutStartSec=60
"""

TIMER = """\
# Written by Ansible, module linkrift.platform.certificate_metrics.
[Unit]
Description=Report when the certificates of this host expire

[Timer]
OnBootSec=3min
OnCalendar={on_calendar}
RandomizedDelaySec=60

[Install]
WantedBy=timers.target
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "str", "required": True},
            "output": {
                "type": "path",
                "default": "/var/lib/prometheus/node-exporter/linkrift_certificates.prom",
            },
            "on_calendar": {"type": "str", "default": "hourly"},
            "program": {"type": "path", "default": "/usr/local/lib/linkrift/certificates.py"},
            "unit_directory": {"type": "path", "default": "/etc/systemd/system"},
        },
        supports_check_mode=True,
    )
    wrong = [path for path in module.params["paths"] if not path.startswith("/") or set(path) & set(" \t\n\"'\\%$;")]
    if wrong:
        module.fail_json(msg=f"paths: {wrong[0]!r} is no absolute path without spaces and quotes")
    try:
        written, diffs, complete = _run(module)
    except OSError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(written) or not complete, written=written, diff=diffs)


def _files(module: AnsibleModule) -> dict[Path, str]:
    """Return the content of each file."""
    params = module.params
    units = Path(params["unit_directory"])
    return {
        Path(params["program"]): inspect.getsource(_certificates),
        units / f"{NAME}.service": SERVICE.format(
            program=params["program"],
            output=params["output"],
            paths=" ".join(params["paths"]),
            directory=Path(params["output"]).parent,
        ),
        units / f"{NAME}.timer": TIMER.format(on_calendar=params["on_calendar"]),
    }


def _run(module: AnsibleModule) -> tuple[list[str], list[dict[str, str]], bool]:
    """Write what differs, and start the timer; return what was written, the diffs, and whether the rest was done."""
    differing: dict[Path, tuple[str, str]] = {}
    for path, text in _files(module).items():
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        if before != text or not is_ours(path, 0o644):
            differing[path] = (before, text)
    # An earlier run may have ended after any step. The report comes last: one that is newer than the files it was made
    # with, by units that systemd has read, says that nothing is left to do.
    done = _is_done(module)
    # Two answers, one for each question; a timer that is enabled and stopped would come with the next boot only.
    active = all(
        module.run_command(["systemctl", word, f"{NAME}.timer"])[0] == 0 for word in ("is-enabled", "is-active")
    )
    complete = active and done
    if not module.check_mode and (differing or not complete):
        for path, (_before, text) in differing.items():
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_atomically(path, text, 0o644)
        Path(module.params["output"]).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        for words in (
            ["daemon-reload"],
            ["enable", "--quiet", f"{NAME}.timer"],
            ["restart", f"{NAME}.timer"],
            # The first report, without waiting for the timer.
            ["start", f"{NAME}.service"],
        ):
            module.run_command(["systemctl", *words], check_rc=True)
    diffs = [
        {"before_header": str(path), "after_header": str(path), "before": before, "after": text}
        for path, (before, text) in differing.items()
    ]
    return [str(path) for path in differing], diffs, complete


def _is_done(module: AnsibleModule) -> bool:
    """Tell whether a report was made with the files as they are, and systemd has read them."""
    command = ["systemctl", "show", "--property=NeedDaemonReload", "--", f"{NAME}.service", f"{NAME}.timer"]
    status, said, _errors = module.run_command(command)
    try:
        report = Path(module.params["output"]).stat().st_mtime
        newest = max(path.stat().st_mtime for path in _files(module))
    except FileNotFoundError:
        return False
    return status == 0 and "NeedDaemonReload=yes" not in said and report >= newest


if __name__ == "__main__":
    main()
