# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which units run and start at boot, asked in one go, and what to do about those that are not as wished."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Runner

_PROPERTIES = (
    "LoadState,ActiveState,UnitFileState,ConditionResult,ConditionTimestampMonotonic,NeedDaemonReload,"
    "ExecMainStartTimestampMonotonic,StateChangeTimestampMonotonic,ReloadResult"
)
# What `systemctl enable` and `disable` leave as it is.
_FIXED = ("static", "alias", "generated", "indirect")
_VERBS = {
    "enable": "enabled",
    "disable": "disabled",
    "start": "started",
    "stop": "stopped",
    "unmask": "unmasked",
    "restart": "restarted",
    "reload": "reloaded",
    "daemon-reload": "unit files read again",
}


class UnitsError(Exception):
    """A unit is missing, or systemd did not do what it was asked; the message names the unit."""


@dataclass(frozen=True)
class UnitState:
    """What systemd knows of a unit."""

    there: bool
    masked: bool
    running: bool
    enabled: bool
    waived: bool
    """Its conditions were looked at and do not hold on this host: to start it does nothing."""
    fixed: bool = False
    """It can neither be enabled nor disabled: other units start it, or a program made it."""
    stale: bool = False
    """systemd has not read its files since they were changed."""
    started: float = 0.0
    """When its program was started, in seconds since the epoch."""
    reloaded: float = 0.0
    """When its program read its files last: at its start, or with a reload that went well."""
    looked: float = field(default=0.0, compare=False)
    """When systemd looked at its conditions last."""


@dataclass(frozen=True)
class Reads:
    """Files that a unit's program reads.

    Attributes:
        files: the ones that it reads only when it starts.
        reloaded_files: the ones that it reads with a reload, too.
    """

    files: tuple[str, ...] = ()
    reloaded_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One thing to do with one unit."""

    unit: str
    verb: str

    def describe(self) -> str:
        """Return it in words."""
        return f"{self.unit}: {_VERBS[self.verb]}"


def _offset() -> float:
    """Return what makes a time of the epoch of systemd's monotonic times, which no correction of the clock moves."""
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)


def look(names: Sequence[str], run: Runner, offset: Callable[[], float] = _offset) -> dict[str, UnitState]:
    """Ask systemd for the state of units.

    Args:
        names: units.
        run: runs systemctl.
        offset: seconds from the monotonic clock to the epoch.

    Raises:
        UnitsError: it does not answer.
    """
    done = run(["systemctl", "show", f"--property={_PROPERTIES}", "--", *names], 30)
    if done.status != 0:
        raise UnitsError(f"systemctl show: {done.stderr.strip() or done.stdout.strip()}")
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in done.stdout.strip().split("\n\n")]
    if len(blocks) != len(names):
        raise UnitsError(f"systemctl show answered for {len(blocks)} of {len(names)} units")
    seconds = offset()
    return {name: _state(block, seconds) for name, block in zip(names, blocks, strict=True)}


def _state(block: Mapping[str, str], offset: float) -> UnitState:
    def when(name: str) -> float:
        microseconds = int(block.get(name) or 0)
        return offset + microseconds / 1e6 if microseconds else 0.0

    started = when("ExecMainStartTimestampMonotonic")
    reloads = block.get("ReloadResult") == "success" and block["ActiveState"] == "active"
    return UnitState(
        there=block["LoadState"] not in ("not-found", "error", "bad-setting"),
        masked=block["LoadState"] == "masked",
        running=block["ActiveState"] in ("active", "activating", "reloading"),
        enabled=block["UnitFileState"] in ("enabled", *_FIXED),
        fixed=block["UnitFileState"] in _FIXED,
        waived=block["ConditionResult"] == "no" and block["ConditionTimestampMonotonic"] != "0",
        stale=block.get("NeedDaemonReload") == "yes",
        started=started,
        reloaded=max(started, when("StateChangeTimestampMonotonic")) if reloads else started,
        looked=when("ConditionTimestampMonotonic"),
    )


def unread(state: UnitState, reads: Reads) -> str:
    """Say what makes a running unit read its files: `restart`, `reload`, or nothing where it has read them all.

    It is asked of the files and of the unit, not of what this run has written: a run that ended between the two is
    made good by the next one.
    """
    if not state.running:
        return ""
    if any(_modified(path) > state.started for path in reads.files):
        return "restart"
    return "reload" if any(_modified(path) > state.reloaded for path in reads.reloaded_files) else ""


def _waived(state: UnitState, reads: Reads) -> bool:
    """Whether a start would do nothing. A file that came since may be what its conditions ask for."""
    return state.waived and not any(_modified(path) > state.looked for path in (*reads.files, *reads.reloaded_files))


def _modified(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def compare(
    wanted: Mapping[str, bool],
    found: Mapping[str, UnitState],
    *,
    missing_is_fine: bool,
    reads: Mapping[str, Reads] | None = None,
) -> list[Step]:
    """Return the steps that bring units to what is wished.

    Args:
        wanted: by unit, whether it should run.
        found: their states.
        missing_is_fine: a unit that is not there is one that packages will bring (a dry run on a bare host).
        reads: by unit, the files that it must have read.

    Raises:
        UnitsError: a unit that should run is not there.
    """
    # Once is enough for all of them.
    steps = [Step(name, "daemon-reload") for name in wanted if found[name].stale][:1]
    for name, on in wanted.items():
        state = found[name]
        if not state.there:
            if on and not missing_is_fine:
                raise UnitsError(f"{name} is not on this host: is its package installed?")
            steps += [Step(name, "enable"), Step(name, "start")] if on else []
            continue
        if on:
            steps += [Step(name, "unmask")] if state.masked else []
            steps += [] if state.enabled else [Step(name, "enable")]
            files = (reads or {}).get(name, Reads())
            steps += [] if state.running or (_waived(state, files) and not state.masked) else [Step(name, "start")]
            verb = unread(state, files)
            steps += [Step(name, verb)] if verb else []
        else:
            steps += [Step(name, "disable")] if state.enabled and not (state.masked or state.fixed) else []
            steps += [Step(name, "stop")] if state.running else []
    return steps


def apply(steps: Sequence[Step], run: Runner) -> None:
    """Do the steps.

    Raises:
        UnitsError: systemd refused one.
    """
    for step in steps:
        words = [step.verb] if step.verb == "daemon-reload" else [step.verb, "--", step.unit]
        done = run(["systemctl", *words], 120)
        if done.status != 0:
            raise UnitsError(f"systemctl {step.verb} {step.unit}: {done.stderr.strip() or done.stdout.strip()}")
