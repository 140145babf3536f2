# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is a host ready for the next release? Every check looks, changes nothing, and answers with all that it found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils import _env as env
from ansible_collections.linkrift.platform.plugins.module_utils._bundle import (
    MANIFEST,
    SUMS,
    BundleError,
    Manifest,
    check_identity,
    check_manifest,
    host_target,
)
from ansible_collections.linkrift.platform.plugins.module_utils._bundle_source import Source
from ansible_collections.linkrift.platform.plugins.module_utils._gate import Answer
from ansible_collections.linkrift.platform.plugins.module_utils._listeners import PROC
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SLOTS, Layout
from ansible_collections.linkrift.platform.plugins.module_utils._preflight import (
    ERROR,
    Finding,
    PortUse,
    check_ports,
)
from ansible_collections.linkrift.platform.plugins.module_utils._release import SPARE
from ansible_collections.linkrift.platform.plugins.module_utils._release_use import read_record
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Host, ServiceView, survey
from ansible_collections.linkrift.platform.plugins.module_utils._unit_load import resident

MIB = 2**20

_GROWTH = 1.1
"""A candidate that has just started and warmed its cache is not much larger than what serves, if it is sound."""


@dataclass(frozen=True)
class Wishes:
    """What is asked of a host.

    Attributes:
        releases: ids of what is to be rolled out; none: whatever comes next.
        manifest: that of a bundle that is in no bundle store yet, by its release id.
        target: what the host's Python and architecture are called in a bundle.
        ready: severity of a live slot that is not ready.
        ports: look whether the ports of idle slots are free.
    """

    releases: Sequence[str] = ()
    manifest: Mapping[str, Manifest] = field(default_factory=dict)
    target: str = ""
    ready: str = ERROR
    ports: bool = True


@dataclass
class Looked:
    """What was found, and the figures that only all hosts together say something of."""

    findings: list[Finding] = field(default_factory=list)
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    connections: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


def inspect(
    wishes: Wishes,
    hosts: Sequence[Host],
    open_source: Callable[[str], Source],
    free: Callable[[Path], int],
    proc: Path = PROC,
) -> Looked:
    """Make all checks on this host.

    Args:
        wishes: what is asked of it.
        hosts: its services.
        open_source: gives access to a release's bundle.
        free: bytes that a directory's file system has.
        proc: the process file system.

    Raises:
        SystemdError: systemd cannot be asked.
        OSError: a file cannot be read.
    """
    looked = Looked()
    layout = hosts[0].layout if hosts else Layout()
    views = [(host, survey(host)) for host in hosts]
    manifests = check_bundles(looked, wishes, layout, open_source)
    check_room(looked, wishes, layout, views, manifests, free)
    check_memory(looked, views, proc)
    for host, view in views:
        check_ready(looked, host, view, wishes.ready)
        looked.connections += connections_of(host, view)
    if wishes.ports:
        looked.findings += check_ports([use for host, view in views for use in idle_ports(host, view)], proc)
    return looked


def check_bundles(
    looked: Looked, wishes: Wishes, layout: Layout, open_source: Callable[[str], Source]
) -> dict[str, Manifest]:
    """See that each release can be had, and fits this host; return what they say about themselves."""
    manifests: dict[str, Manifest] = {}
    for release in wishes.releases:
        try:
            manifest = wishes.manifest.get(release) or _manifest(layout, release, open_source)
            host_target(release, manifest, wishes.target)
        except BundleError as error:
            looked.findings.append(Finding("bundle", ERROR, str(error)))
            continue
        manifests[release] = manifest
        looked.releases[release] = {
            "schema_level": manifest.schema_level,
            "schema_floor": manifest.schema_floor,
            "tests": manifest.tests.count if manifest.tests else None,
            "commit": manifest.commit,
            "dirty": manifest.dirty,
        }
    return manifests


def _manifest(layout: Layout, release: str, open_source: Callable[[str], Source]) -> Manifest:
    """Read what a release says about itself: where it is installed, or from its bundle.

    Raises:
        BundleError: it is not to be had, or altered.
    """
    tree = layout.release(release)
    if read_record(layout, release) is not None:
        sums, content = (tree / SUMS).read_bytes(), (tree / MANIFEST).read_bytes()
    else:
        source = open_source(release)
        sums, content = source.text(SUMS), source.text(MANIFEST)
    return check_manifest(release, content, check_identity(release, sums))


def check_room(
    looked: Looked,
    wishes: Wishes,
    layout: Layout,
    views: Iterable[tuple[Host, ServiceView]],
    manifests: Mapping[str, Manifest],
    free: Callable[[Path], int],
) -> None:
    """See that the disk has room for what is not installed yet; without a wish, for another one like what is live."""
    wanted = {name: manifest for name, manifest in manifests.items() if read_record(layout, name) is None}
    if not wishes.releases:
        live = {view.live.release for _host, view in views if view.live and view.live.release}
        wanted = {f"like {name}": found for name in sorted(live) if (found := _installed(layout, name))}
    for name, manifest in wanted.items():
        target = manifest.targets.get(wishes.target)
        if target is None:
            continue
        # What module release asks for: the wheels, what they unpack to, and some to spare.
        needed, left = target.installed_bytes * 2 + SPARE, free(layout.releases)
        looked.figures |= {"disk_needed_mb": needed // MIB, "disk_free_mb": left // MIB}
        if left < needed:
            looked.findings.append(
                Finding(
                    "disk",
                    ERROR,
                    f"{layout.releases} has {left // MIB} MiB free, and release {name} needs {needed // MIB}: remove "
                    "old releases (module release, state=pruned), or enlarge the disk",
                )
            )


def _installed(layout: Layout, release: str) -> Manifest | None:
    try:
        return Manifest.parse((layout.release(release) / MANIFEST).read_bytes())
    except (OSError, BundleError):
        return None


def free_bytes(directory: Path) -> int:
    """Return how many bytes the file system of a directory has, that may not exist yet."""
    while not directory.exists():
        directory = directory.parent
    state = os.statvfs(directory)
    return state.f_bavail * state.f_frsize


def check_memory(looked: Looked, views: Iterable[tuple[Host, ServiceView]], proc: Path = PROC) -> None:
    """See that a second slot of each service fits beside what runs, as large as the first one is now."""
    needs: dict[str, float] = {}
    for host, view in views:
        if view.live is None:
            continue
        now = resident(host.unit(view.live.slot), proc)[0]
        # What is warm makes room for the candidate.
        gone = sum(resident(host.unit(slot), proc)[0] for slot in SLOTS if slot != view.live.slot)
        needs[host.service] = max(0.0, now * _GROWTH - gone)
    available = _available_mib(proc)
    needed = sum(needs.values())
    looked.figures |= {"memory_needed_mb": round(needed), "memory_available_mb": round(available)}
    if available < needed:
        parts = ", ".join(f"{service} {size:.0f}" for service, size in needs.items())
        looked.findings.append(
            Finding(
                "memory",
                ERROR,
                f"{available:.0f} MiB of memory are available, and the second slots need {needed:.0f} ({parts}): move "
                "something away, or roll out fewer services at once",
            )
        )


def _available_mib(proc: Path) -> float:
    for line in (proc / "meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return 0.0


def check_ready(looked: Looked, host: Host, view: ServiceView, severity: str) -> None:
    """Ask the live slot whether everything that it needs is well, as it sees it from here."""
    if view.live is None or view.live.unit.stopped:
        return
    answer = host.ask(view.live.slot, "/health/ready", view.live.variables)
    if answer.status != 200:
        looked.findings.append(
            Finding("dependencies", severity, f"{host.service} in {view.live.slot} is not ready: {not_ready(answer)}")
        )


def not_ready(answer: Answer) -> str:
    """Return what a slot says that it lacks."""
    if answer.status is None:
        return f"it gives no answer ({answer.error}); see journalctl of its unit"
    checks = answer.body.get("checks")
    bad = {
        name: check["error"]
        for name, check in sorted(checks.items() if isinstance(checks, dict) else ())
        if isinstance(check, dict) and check.get("error")
    }
    told = "; ".join(f"{name}: {error}" for name, error in bad.items())
    return f"{told}. A candidate would not become ready either" if told else f"/health/ready answers {answer.status}"


def idle_ports(host: Host, view: ServiceView) -> list[PortUse]:
    """Return the ports that a candidate is going to need, with whom they may belong to."""
    return [
        PortUse(host.port(slot), f"{host.service} in {slot}", (host.unit(slot),))
        for slot in SLOTS
        if view.live is None or slot != view.live.slot
    ]


def connections_of(host: Host, view: ServiceView) -> list[dict[str, Any]]:
    """Return how many database connections both slots of a service may open: what is live, and what would come."""
    live = _pool(view.live.variables) if view.live else None
    try:
        coming = _pool(env.read(host.layout.rendered_env(host.service)))
    except (OSError, env.EnvError):
        coming = live
    found = live or coming
    if found is None:
        return []
    return [{"service": host.service, "user": found[0], "connections": sum(pool[1] for pool in (live, coming) if pool)}]


def _pool(variables: Mapping[str, str]) -> tuple[str, int] | None:
    """Return the database user and the connections that all processes may open; None: it uses no database."""
    if not variables.get("LINKRIFT_DB_HOST"):
        return None
    size, processes = variables.get("LINKRIFT_DB_MAX_CONNECTIONS", "0"), variables.get("LINKRIFT_PROCESSES", "1")
    count = int(size) * int(processes) if size.isdecimal() and processes.isdecimal() else 0
    return variables.get("LINKRIFT_DB_USER", ""), count
