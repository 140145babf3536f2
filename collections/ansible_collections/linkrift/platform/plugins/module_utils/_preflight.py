# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is a host fit to join the platform? Every check looks, changes nothing, and answers with all that it found."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import platform
import re
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.linkrift.platform.plugins.module_utils._clock import in_container, is_synchronised
from ansible_collections.linkrift.platform.plugins.module_utils._listeners import PROC, listeners
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed, Runner, run_command

ERROR = "error"
WARNING = "warning"
# A host must name its sources within this time, in seconds, and answer for each within the other one.
_APT_SECONDS = 30.0
_FETCH_SECONDS = 20.0
_INODES = 10_000


@dataclass(frozen=True)
class Finding:
    """Something that an operator should know before anything is changed.

    Attributes:
        check: Which check found it.
        severity: `error` or `warning`.
        message: What is the matter, and what to do about it.
    """

    check: str
    severity: str
    message: str

    def as_dict(self) -> dict[str, str]:
        """Return it as Ansible returns it."""
        return asdict(self)


@dataclass(frozen=True)
class PortUse:
    """A port that the platform is going to use.

    Attributes:
        port: TCP port.
        purpose: What for, for messages.
        units: Patterns (fnmatch) of the systemd units that may listen there already.
    """

    port: int
    purpose: str
    units: tuple[str, ...]


def check_system(
    release: Mapping[str, str],
    machine: str,
    *,
    distributions: Mapping[str, Sequence[str]],
    architectures: Sequence[str],
) -> list[Finding]:
    """Check distribution and architecture.

    Args:
        release: Content of os-release(5).
        machine: The machine's architecture, as uname says it.
        distributions: Supported versions, by the distribution's ID.
        architectures: Supported ones.
    """
    found = []
    name, version = release.get("ID", ""), release.get("VERSION_ID", "")
    supported = ", ".join(f"{key} {each}" for key, values in distributions.items() for each in values)
    if version not in distributions.get(name, ()):
        label = release.get("PRETTY_NAME") or name or "unknown"
        found.append(Finding("system", ERROR, f"{label} is not supported: use one of {supported}"))
    if machine not in architectures:
        found.append(
            Finding("architecture", ERROR, f"{machine} is not supported: use one of {', '.join(architectures)}")
        )
    return found


def check_manager(user: int, run: Path = Path("/run/systemd/system")) -> list[Finding]:
    """Check that the host is one of systemd's, and that the caller is root on it.

    Args:
        user: Effective user id.
        run: Directory that is there when systemd is the host's first process.
    """
    found = []
    if user != 0:
        found.append(Finding("privileges", ERROR, "root's rights are missing: let the user of Ansible use sudo"))
    if not run.is_dir():
        found.append(Finding("systemd", ERROR, "systemd does not run this host: the platform's units need it"))
    return found


def check_disk(path: str, free_mb: int) -> list[Finding]:
    """Check that a file system has room.

    Args:
        path: A path that may not exist yet: its nearest parent counts.
        free_mb: MiB that must be free there.
    """
    place = Path(path)
    while not place.exists():
        place = place.parent
    state = os.statvfs(place)
    free = state.f_bavail * state.f_frsize // 2**20
    found = []
    if free < free_mb:
        found.append(Finding("disk", ERROR, f"{path} has {free} MiB free and needs {free_mb}: make room there"))
    # File systems without a fixed number of them say 0.
    if state.f_files and state.f_favail < _INODES:
        found.append(Finding("disk", ERROR, f"{path} has only {state.f_favail} inodes left: delete files there"))
    return found


def memory_mb(meminfo: str) -> dict[str, int]:
    """Return total memory and swap in MiB.

    Args:
        meminfo: Content of /proc/meminfo.
    """
    values = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+) kB$", meminfo, re.MULTILINE)}
    return {"memory_mb": values.get("MemTotal", 0) // 1024, "swap_mb": values.get("SwapTotal", 0) // 1024}


def check_memory(total_mb: int, needs_mb: Mapping[str, int]) -> list[Finding]:
    """Check the host's memory against the sum of all that will run there.

    Args:
        total_mb: MiB that the host has.
        needs_mb: MiB that each part needs.
    """
    needed = sum(needs_mb.values())
    if total_mb >= needed:
        return []
    parts = ", ".join(f"{name} {size}" for name, size in sorted(needs_mb.items(), key=lambda item: -item[1]))
    return [Finding("memory", ERROR, f"{total_mb} MiB of memory, but {needed} are needed ({parts}): move a part away")]


def check_clock(now: float, reference: float, tolerance: float, synchronised: bool | None) -> list[Finding]:
    """Check the host's clock.

    Args:
        now: The host's time, in seconds since the epoch.
        reference: The control node's time; 0 to leave it out.
        tolerance: Seconds by which they may differ.
        synchronised: What the host says about itself; None where it cannot know, such as a container.
    """
    found = []
    offset = now - reference
    if reference and abs(offset) > tolerance:
        found.append(
            Finding(
                "clock",
                ERROR,
                f"the clock is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} the control node's:"
                " tokens and certificates would fail; see timedatectl on both",
            )
        )
    if synchronised is False:
        found.append(Finding("clock", WARNING, "nothing keeps the clock right yet: see timedatectl"))
    return found


def check_names(names: Iterable[str], resolve: Callable[[str], object]) -> list[Finding]:
    """Check that names resolve.

    Args:
        names: Host names.
        resolve: Raises OSError for one that does not.
    """

    def ask(name: str) -> list[Finding]:
        try:
            resolve(name)
        except OSError as error:
            reason = error.strerror or str(error)
            return [Finding("dns", ERROR, f"{name} does not resolve ({reason}): see /etc/resolv.conf and /etc/hosts")]
        return []

    unique = sorted(set(names))
    if not unique:
        return []
    with ThreadPoolExecutor(8) as pool:
        return [finding for found in pool.map(ask, unique) for finding in found]


def check_ports(uses: Sequence[PortUse], proc: Path = PROC) -> list[Finding]:
    """Check that nobody else listens where the platform is going to.

    Args:
        uses: The ports, and whose they are.
        proc: The process file system.
    """
    held = listeners((use.port for use in uses), proc)
    found = []
    for use in uses:
        strangers = {
            str(one)
            for one in held.get(use.port, ())
            if not any(fnmatch.fnmatch(one.unit, pattern) for pattern in use.units)
        }
        found += [
            Finding("ports", ERROR, f"port {use.port} is needed for {use.purpose}, but {name} listens there: stop it")
            for name in sorted(strangers)
        ]
    return found


def check_backups(backups: Mapping[str, float], now: float) -> list[Finding]:
    """Check that backups are being made.

    Args:
        backups: Hours that the newest file below a directory may be old.
        now: The host's time, in seconds since the epoch.
    """
    found = []
    for path, hours in backups.items():
        times = []
        for directory, _dirs, names in os.walk(path):
            for name in names:
                # Whatever makes backups removes old ones meanwhile, and renames those that are done.
                with contextlib.suppress(FileNotFoundError):
                    times.append((Path(directory) / name).lstat().st_mtime)
        if not times:
            found.append(Finding("backups", ERROR, f"{path} has no backup: make one, and see what makes them"))
        elif now - max(times) > hours * 3600:
            age = (now - max(times)) / 3600
            text = f"the newest backup in {path} is {age:.0f} hours old, not {hours:g} at most: see what makes them"
            found.append(Finding("backups", ERROR, text))
    return found


def check_packages(run: Runner) -> list[Finding]:
    """Check that the package manager is in order and reaches its sources.

    Args:
        run: Runs a command.
    """
    found = []
    broken = _ask(run, ["dpkg", "--audit"])
    if broken.status != 0 or broken.stdout.strip():
        first = (broken.stdout.strip() or broken.stderr.strip() or "no answer").splitlines()[0]
        found.append(Finding("packages", ERROR, f"packages are half installed ({first}): run dpkg --configure -a"))
    listed = _ask(run, ["apt-get", "update", "--print-uris"])
    sources = sorted(set(re.findall(r"^'([^']+InRelease)'", listed.stdout, re.MULTILINE)))
    if listed.status != 0 or not sources:
        reason = (listed.stderr.strip() or "there are none").splitlines()[0]
        return [*found, Finding("packages", ERROR, f"apt has no usable sources: {reason}")]
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(4) as pool:
        # apt's own helper, for its proxies, credentials and certificate authorities.
        helper = "/usr/lib/apt/apt-helper"
        options = [
            "-oAcquire::Retries=0",
            f"-oAcquire::http::Timeout={_FETCH_SECONDS:.0f}",
            "-oAPT::Sandbox::User=root",
        ]
        commands = [
            [helper, *options, "download-file", uri, f"{directory}/{number}"] for number, uri in enumerate(sources)
        ]
        for uri, done in zip(sources, pool.map(lambda command: _ask(run, command), commands), strict=True):
            if done.status != 0:
                # A command that took too long is told with all of its words, the address among them.
                said = done.stderr.replace(uri, _without_password(uri)).strip() or "no answer"
                reason = " ".join(said.split())[:200]
                found.append(Finding("packages", ERROR, f"{_without_password(uri)} cannot be fetched: {reason}"))
    return found


def _ask(run: Runner, command: list[str]) -> Completed:
    try:
        return run(command, _APT_SECONDS)
    except (OSError, TimeoutError) as error:
        return Completed(1, "", str(error))


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def os_release(text: str) -> dict[str, str]:
    """Return the fields of os-release(5).

    Args:
        text: Its content.
    """
    return {key: value.strip("\"'") for key, value in re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)}


def clock_is_synchronised(run: Runner) -> bool | None:
    """Return whether systemd says the clock is kept right; None in a container, whose clock is the machine's.

    Args:
        run: Runs a command.
    """

    def ask(command: Sequence[str], _deadline: float) -> Completed:
        return _ask(run, list(command))

    return None if in_container(ask) else is_synchronised(ask)


@dataclass(frozen=True)
class Wishes:
    """What is asked of a host: the arguments of the checks above."""

    distributions: Mapping[str, Sequence[str]]
    architectures: Sequence[str]
    disks: Mapping[str, int]
    memory: Mapping[str, int]
    reference_time: float
    clock_tolerance: float
    names: Sequence[str]
    ports: Sequence[PortUse]
    packages: bool
    backups: Mapping[str, float] = field(default_factory=dict)


def inspect(wishes: Wishes, now: float, run: Runner = run_command) -> tuple[list[Finding], dict[str, object]]:
    """Make all checks on this host.

    Args:
        wishes: What is asked of it.
        now: The host's time when the module began.
        run: Runs a command.

    Returns:
        What was found, and the host's figures.
    """
    release = os_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    sizes = memory_mb(Path("/proc/meminfo").read_text(encoding="utf-8"))
    machine = platform.machine()
    found = [
        *check_system(release, machine, distributions=wishes.distributions, architectures=wishes.architectures),
        *check_manager(os.geteuid()),
        *(finding for path, free in wishes.disks.items() for finding in check_disk(path, free)),
        *check_memory(sizes["memory_mb"], wishes.memory),
        *check_clock(now, wishes.reference_time, wishes.clock_tolerance, clock_is_synchronised(run)),
        # sudo and PostgreSQL are slow or fail where a host does not know its own name.
        *check_names([socket.gethostname(), *wishes.names], lambda name: socket.getaddrinfo(name, None)),
        *check_ports(wishes.ports),
        *check_backups(wishes.backups, now),
        *(check_packages(run) if wishes.packages else []),
    ]
    figures: dict[str, object] = {
        "distribution": f"{release.get('ID', '')} {release.get('VERSION_ID', '')}".strip(),
        "architecture": machine,
        "python": platform.python_version(),
        "processors": os.cpu_count() or 1,
        "needed_mb": sum(wishes.memory.values()),
        **sizes,
    }
    return found, figures
