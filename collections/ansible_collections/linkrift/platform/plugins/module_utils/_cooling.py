# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The timer that stops a slot which was kept warm: on the host itself, so that it needs no control node."""

from __future__ import annotations

import shlex
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._paths import write_atomically
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Host
from ansible_collections.linkrift.platform.plugins.module_utils._timers import cooling_timer

# Whatever the timer meets then, the live slot is left alone. With the lock that module slot takes, in its order: no
# admission, no process, a line in the ledger.
_STOP = """set -eu
exec 9>>{lock}
flock --wait 300 9
[ "$(readlink {live})" != {slot} ] || exit 0
rm -f {admission}
systemctl stop -- {unit}
printf '{{"time": "%s", "service": "{service}", "slot": "{slot}", "release": "%s", "config_digest": "", \
"action": "stopped", "passed": [], "by": "warm timer"}}\\n' \
  "$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)" "$(basename "$(readlink {link})")" >> {ledger}
"""


def is_cooling(host: Host, slot: str) -> bool:
    """Tell whether a timer is going to stop a slot.

    Raises:
        SystemdError: the manager cannot be asked.
    """
    name = cooling_timer(host.service, slot)
    found = host.systemd.properties([name], ["ActiveState"])
    return found.get(name, {}).get("ActiveState") == "active"


def cool(host: Host, slot: str, seconds: float) -> None:
    """Have a slot stopped after a while, unless it is the live one then. It ends with a reboot, as the slot does.

    Raises:
        SystemdError: it failed.
        OSError: its script cannot be written.
    """
    script = _write_script(host, slot)
    name = cooling_timer(host.service, slot)
    # One that failed is in the way of a new one.
    if host.systemd.properties([name], ["ActiveState"]).get(name, {}).get("ActiveState") == "failed":
        host.systemd.forget_failure(name)
    # A script and not its text: systemd 252 writes a command with several lines into a unit that it cannot read again.
    host.systemd.schedule(name.removesuffix(".timer"), seconds, ["/bin/sh", str(script)])


def keep(host: Host, slot: str) -> None:
    """Take a slot's timer away, so that the slot stays.

    Raises:
        SystemdError: it failed.
    """
    host.systemd.stop(cooling_timer(host.service, slot), 20)


def _write_script(host: Host, slot: str) -> Path:
    """Write what the timer runs, into a directory of root's that is gone after a reboot, as the timer is."""
    layout, service = host.layout, host.service
    directory = layout.root / "run/linkrift-cool"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = {
        "lock": host.lock,
        "live": host.live_link,
        "admission": layout.admission_file(service, slot),
        "link": layout.slot_link(service, slot),
        "ledger": layout.ledger(service),
    }
    quoted = {name: shlex.quote(str(path)) for name, path in paths.items()}
    script = directory / f"{service}-{slot}.sh"
    write_atomically(script, _STOP.format(service=service, slot=slot, unit=host.unit(slot), **quoted), 0o600)
    return script
