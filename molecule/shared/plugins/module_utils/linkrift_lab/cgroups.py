"""Control groups of lab hosts, for machines where no systemd keeps them.

Each host gets a group of its own below the group of the process that boots it, in every hierarchy that the machine
has. What is in there is the host and nothing else: that is how a host is killed whole, whatever became of its pid file.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from .errors import LabError
from .run import wait_for

PARENT = "linkrift-lab"
# A new cpuset group is empty, and takes no process, until these are filled in from its parent.
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


def hierarchies(mounts: str, own: str) -> list[Path]:
    """Directories of a process's own control groups, one for each hierarchy.

    Args:
        mounts: Content of /proc/self/mounts.
        own: Content of /proc/self/cgroup.
    """
    legacy: dict[frozenset[str], Path] = {}
    unified: Path | None = None
    for line in mounts.splitlines():
        _, mountpoint, kind, options = line.split()[:4]
        if kind == "cgroup2":
            unified = unified or Path(mountpoint)
        elif kind == "cgroup":
            legacy.setdefault(frozenset(options.split(",")), Path(mountpoint))
    found = []
    for line in own.splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers:
            wanted = set(controllers.split(","))
            root = next((path for options, path in legacy.items() if wanted <= options), None)
        else:
            root = unified
        if root:
            found.append(root / group.lstrip("/"))
    return found


def own_hierarchies() -> list[Path]:
    """Directories of this process's own control groups."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    return hierarchies(mounts, Path("/proc/self/cgroup").read_text(encoding="utf-8"))


def make(parents: list[Path], lab: int, host: str) -> list[Path]:
    """Make a host's group in each hierarchy and return the directories."""
    made = []
    for parent in parents:
        group = parent
        for part in (PARENT, str(lab), host):
            group = group / part
            group.mkdir(exist_ok=True)
            for name in _CPUSET_FILES:
                if (group / name).exists() and not (group / name).read_text().strip():
                    (group / name).write_text((group.parent / name).read_text())
        made.append(group)
    return made


def of_lab(lab: int, host: str | None = None) -> list[Path]:
    """All groups of a lab, or of one of its hosts, whichever process made them."""
    roots = {
        Path(line.split()[1])
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        if line.split()[2] in ("cgroup", "cgroup2")
    }
    tail = (PARENT, str(lab)) if host is None else (PARENT, str(lab), host)
    found = []
    for root in sorted(roots):
        for directory, names, _ in os.walk(root):
            if PARENT in names:
                group = Path(directory, *tail)
                if group.is_dir():
                    found.append(group)
                names.remove(PARENT)
    return found


def processes(groups: list[Path]) -> set[int]:
    """Process ids in these groups and in the groups below them."""
    pids: set[int] = set()
    for group in groups:
        for directory, _, _ in os.walk(group):
            with contextlib.suppress(OSError):  # gone, or a threaded group that lists none, since we looked
                pids.update(int(pid) for pid in Path(directory, "cgroup.procs").read_text().split())
    return pids


def kill(groups: list[Path], *, seconds: float = 20.0) -> None:
    """Kill every process in these groups and wait until none is left.

    Raises:
        LabError: Some are still there after that time.
    """

    def empty() -> bool:
        pids = processes(groups)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    if not wait_for(empty, seconds=seconds):
        raise LabError(f"processes {sorted(processes(groups))} do not die")


def remove(groups: list[Path], *, seconds: float = 10.0) -> None:
    """Remove these groups, the groups below them, and their parents when those hold nothing else.

    Raises:
        LabError: The kernel still holds one after that time.
    """

    def gone() -> bool:
        left = False
        for group in groups:
            for directory, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(directory).rmdir()
            left = left or group.is_dir()
        return not left

    if not wait_for(gone, seconds=seconds):
        busy = ", ".join(str(group) for group in groups if group.is_dir())
        raise LabError(f"the kernel does not let go of {busy}")
    for group in groups:
        for parent in group.parents:
            if PARENT not in parent.parts:
                break
            with contextlib.suppress(OSError):  # another host or lab is in it
                parent.rmdir()
