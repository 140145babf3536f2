# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whose clock a host has, and whether it is kept right."""

from __future__ import annotations

from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Runner

_DEADLINE = 10.0


def in_container(run: Runner) -> bool:
    """Return whether this is a container, whose clock is its machine's.

    Args:
        run: Runs a command.
    """
    return run(["systemd-detect-virt", "--container", "--quiet"], _DEADLINE).status == 0


def is_synchronised(run: Runner) -> bool | None:
    """Return whether systemd says the clock is kept right; None when it does not say.

    Args:
        run: Runs a command.
    """
    answer = run(["timedatectl", "show", "--property=NTPSynchronized", "--value"], _DEADLINE).stdout.strip()
    return {"yes": True, "no": False}.get(answer)
