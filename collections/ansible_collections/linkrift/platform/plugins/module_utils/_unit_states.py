# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which units run and start at boot, asked in one go, and what to do about those that are not as wished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Runner

_PROPERTIES = "Id,Names,LoadState,ActiveState,UnitFileState,ConditionResult,ConditionTimestampMonotonic"
_VERBS = {"enable": "enabled", "disable": "disabled", "start": "started", "stop": "stopped", "unmask": "unmasked"}


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


@dataclass(frozen=True)
class Step:
    """One thing to do with one unit."""

    unit: str
    verb: str

    def describe(self) -> str:
        """Return it in words."""
        return f"{self.unit}: {_VERBS[self.verb]}"


def look(names: Sequence[str], run: Runner) -> dict[str, UnitState]:
    """Ask systemd for the state of units.

    Raises:
        UnitsError: it does not answer.
    """
    done = run(["systemctl", "show", f"--property={_PROPERTIES}", "--", *names], 30)
    if done.status != 0:
        raise UnitsError(f"systemctl show: {done.stderr.strip() or done.stdout.strip()}")
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in done.stdout.strip().split("\n\n")]
    if len(blocks) != len(names):
        raise UnitsError(f"systemctl show answered for {len(blocks)} of {len(names)} units")
    return {
        name: UnitState(
            there=block["LoadState"] not in ("not-found", "error", "bad-setting"),
            masked=block["LoadState"] == "masked",
            running=block["ActiveState"] in ("active", "activating", "reloading"),
            enabled=block["UnitFileState"] in ("enabled", "static", "alias", "generated", "indirect"),
            waived=block["ConditionResult"] == "no" and block["ConditionTimestampMonotonic"] != "0",
        )
        for name, block in zip(names, blocks, strict=True)
    }


def compare(wanted: Mapping[str, bool], found: Mapping[str, UnitState], *, missing_is_fine: bool) -> list[Step]:
    """Return the steps that bring units to what is wished.

    Args:
        wanted: by unit, whether it should run.
        found: their states.
        missing_is_fine: a unit that is not there is one that packages will bring (a dry run on a bare host).

    Raises:
        UnitsError: a unit that should run is not there.
    """
    steps: list[Step] = []
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
            steps += [] if state.running or (state.waived and not state.masked) else [Step(name, "start")]
        else:
            steps += [Step(name, "disable")] if state.enabled and not state.masked else []
            steps += [Step(name, "stop")] if state.running else []
    return steps


def apply(steps: Sequence[Step], run: Runner) -> None:
    """Do the steps.

    Raises:
        UnitsError: systemd refused one.
    """
    for step in steps:
        done = run(["systemctl", step.verb, "--", step.unit], 120)
        if done.status != 0:
            raise UnitsError(f"systemctl {step.verb} {step.unit}: {done.stderr.strip() or done.stdout.strip()}")
