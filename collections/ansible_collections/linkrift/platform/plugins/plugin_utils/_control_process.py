# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The control node: which process a run is, whether another run's is gone, and who runs it."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import multiprocessing
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.linkrift.platform.plugins.module_utils._lease import Control

# State, and time of the start in ticks since the boot, counted after the process's name: proc_pid_stat(5).
_STATE = 0
_STARTED = 19
_DEAD = ("Z", "X")


def playbook_process() -> int:
    """Return the number of the process that runs the playbook, whichever of its workers asks."""
    parent = multiprocessing.parent_process()
    return parent.pid if parent and parent.pid else os.getpid()


def this_control(root: Path = Path("/")) -> Control:
    """Return the process that this run is.

    Args:
        root: `/` but for tests.
    """
    process = playbook_process()
    stat = _stat(root, process)
    return Control(control_host(root), process, stat[_STARTED] if stat else "")


def control_host(root: Path = Path("/")) -> str:
    """Return what names this control node as the place where process numbers mean what they mean here.

    A container has numbers of its own, and a reboot begins anew. Machines that were cloned may share an id, even the
    kernel's when they were cloned running. So all that tells them apart goes in; empty where that is not to be had.
    """
    try:
        if (root / "proc/self").readlink().name != str(os.getpid()):
            return ""
        boot = (root / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = (root / "proc/self/ns/pid").readlink()
    except OSError:
        return ""
    machine = ""
    with contextlib.suppress(OSError):
        machine = (root / "etc/machine-id").read_text(encoding="ascii").strip()
    # Hashed: the machine id is not to be shown (machine-id(5)).
    return hashlib.sha256("\n".join((boot, str(space), machine, socket.gethostname())).encode()).hexdigest()[:16]


def is_gone(control: Control, root: Path = Path("/")) -> bool:
    """Tell whether a run's process is known to be over: whatever leaves a doubt says no.

    Args:
        control: the process.
        root: `/` but for tests.
    """
    here = control_host(root)
    if not here or control.host != here or control.process < 1 or not control.started:
        return False
    try:
        # Asks for it without doing anything to it. That works for others' processes, which /proc may hide.
        os.kill(control.process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        # Somebody else's, or no number of a process.
        pass
    stat = _stat(root, control.process)
    return stat is not None and (stat[_STATE] in _DEAD or stat[_STARTED] != control.started)


def _stat(root: Path, process: int) -> list[str] | None:
    """Return what the kernel says of a process, without its number and name; None where it says nothing."""
    try:
        text = (root / f"proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # Its name is in brackets, and may have some itself.
    fields = text.rpartition(")")[2].split()
    return fields if len(fields) > _STARTED else None


def who_runs(environment: Mapping[str, str], user: str = "") -> str:
    """Return who runs this and where, such as `alice@control`; for an AWX job its number, too.

    Args:
        environment: of this process.
        user: who is known to have started it; empty to find out.
    """
    job, awx = environment.get("JOB_ID"), environment.get("AWX_HOST")
    if job and awx:
        return f"{user or 'AWX'}@{urlsplit(awx).hostname or awx}, job {job}"
    if not user:
        user = environment.get("SUDO_USER") or _user()
    return f"{user}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container whose user has no name.
        return str(os.getuid())
