# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The timer that stops a slot which was kept warm: on the host itself, so that it needs no control node."""

from __future__ import annotations

from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Host
from ansible_collections.linkrift.platform.plugins.module_utils._timers import cooling_timer

# Whatever the timer meets then, the live slot is left alone. With the lock that module slot takes, in its order: no
# admission, no process, a line in the ledger.
_STOP = """
exec 9>>"$1"
flock --wait 300 9
[ "$(readlink "$2")" != "$3" ] || exit 0
rm -f "$4"
systemctl stop -- "$5"
printf '{"time": "%s", "service": "%s", "slot": "%s", "release": "%s", "config_digest": "", "action": "stopped", \
"passed": [], "by": "warm timer"}\\n' "$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)" "$6" "$3" \
"$(basename "$(readlink "$7")")" >> "$8"
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
    """
    layout, service = host.layout, host.service
    arguments = (
        host.lock,
        host.live_link,
        slot,
        layout.admission_file(service, slot),
        host.unit(slot),
        service,
        layout.slot_link(service, slot),
        layout.ledger(service),
    )
    command = ["/bin/sh", "-euc", _STOP, "sh", *map(str, arguments)]
    host.systemd.schedule(cooling_timer(service, slot).removesuffix(".timer"), seconds, command)


def keep(host: Host, slot: str) -> None:
    """Take a slot's timer away, so that the slot stays.

    Raises:
        SystemdError: it failed.
    """
    host.systemd.stop(cooling_timer(host.service, slot), 20)
