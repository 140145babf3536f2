# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What this collection asks of systemd, through `systemctl` and `journalctl`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_PROPERTIES = {
    "LoadState": "load",
    "ActiveState": "active",
    "SubState": "sub",
    "UnitFileState": "file",
    "Result": "result",
    "MainPID": "pid",
    "ExecMainStatus": "exit_status",
    "NeedDaemonReload": "stale",
    "FragmentPath": "fragment",
    "DropInPaths": "drop_ins",
}


@dataclass(frozen=True)
class Completed:
    """What a command came to."""

    status: int
    stdout: str
    stderr: str


Runner = Callable[[Sequence[str], float], Completed]
"""Runs a command, with a deadline in seconds; raises TimeoutError past it."""


class SystemdError(Exception):
    """systemd did not do what it was asked; the message is its own."""


@dataclass(frozen=True)
class Unit:
    """What systemd knows of a unit."""

    name: str
    load: str
    active: str
    sub: str
    file: str
    result: str
    pid: int
    exit_status: int
    stale: bool
    fragment: str
    drop_ins: tuple[str, ...]

    @property
    def loaded(self) -> bool:
        """The unit file is there and can be used."""
        return self.load == "loaded"

    @property
    def running(self) -> bool:
        """It is up: started and, with Type=notify, ready."""
        return self.active in ("active", "reloading")

    @property
    def stopped(self) -> bool:
        """Nothing of it runs or is about to."""
        return self.active in ("inactive", "failed")

    @property
    def enabled(self) -> bool:
        """It starts at boot."""
        return self.file == "enabled"

    def describe(self) -> str:
        """Return its state in words, for messages."""
        state = f"{self.active} ({self.sub})"
        if self.result not in ("", "success"):
            state += f", result {self.result}"
        if self.exit_status:
            state += f", exit status {self.exit_status}"
        return state


def run_command(command: Sequence[str], deadline: float) -> Completed:
    """Run a command without a shell, in the C locale and with times in UTC.

    Args:
        command: program and arguments.
        deadline: seconds.

    Raises:
        TimeoutError: it was still running at the deadline (and was ended).
        OSError: the program cannot be run.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=deadline,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
        )
    except subprocess.TimeoutExpired as error:
        msg = f"{' '.join(command)} took longer than {deadline:.0f} s"
        raise TimeoutError(msg) from error
    return Completed(done.returncode, done.stdout, done.stderr)


class Systemd:
    """The system's service manager."""

    def __init__(self, run: Runner = run_command) -> None:
        self._run = run

    def show(self, name: str) -> Unit:
        """Return what is known of a unit, whether it exists or not.

        Raises:
            SystemdError: the manager cannot be asked.
        """
        output = self._systemctl("show", f"--property={','.join(_PROPERTIES)}", "--", name, deadline=20)
        found = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        values = {field: found.get(key, "") for key, field in _PROPERTIES.items()}
        return Unit(
            name=name,
            load=values["load"],
            active=values["active"],
            sub=values["sub"],
            file=values["file"],
            result=values["result"],
            pid=int(values["pid"] or 0),
            exit_status=int(values["exit_status"] or 0),
            stale=values["stale"] == "yes",
            fragment=values["fragment"],
            drop_ins=tuple(values["drop_ins"].split()),
        )

    def properties(self, names: Sequence[str], wanted: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return some properties of some units, as systemctl prints them, by the unit's name.

        Raises:
            SystemdError: the manager cannot be asked.
        """
        output = self._systemctl("show", f"--property={','.join(['Id', *wanted])}", "--", *names, deadline=20)
        blocks = (
            dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in output.split("\n\n")
        )
        return {block["Id"]: block for block in blocks if "Id" in block}

    def start(self, name: str, deadline: float) -> None:
        """Start a unit and wait until it is up.

        Raises:
            SystemdError: it failed.
            TimeoutError: it was not up within `deadline` seconds; the start may still be under way.
        """
        self._systemctl("start", "--", name, deadline=deadline)

    def stop(self, name: str, deadline: float) -> None:
        """Stop a unit, or end its start, and wait until nothing of it runs.

        Raises:
            SystemdError: it failed.
            TimeoutError: it took longer than `deadline` seconds; the stop is still under way.
        """
        self._systemctl("stop", "--", name, deadline=deadline)

    def enable(self, name: str) -> None:
        """Have a unit started at boot.

        Raises:
            SystemdError: it failed.
        """
        self._systemctl("enable", "--quiet", "--", name, deadline=60)

    def disable(self, name: str) -> None:
        """Have a unit not started at boot.

        Raises:
            SystemdError: it failed.
        """
        self._systemctl("disable", "--quiet", "--", name, deadline=60)

    def reload(self) -> None:
        """Read unit files again; running units go on.

        Raises:
            SystemdError: it failed.
        """
        self._systemctl("daemon-reload", deadline=60)

    def forget_failure(self, name: str) -> None:
        """Clear a unit's failed state and its count of starts.

        Raises:
            SystemdError: it failed.
        """
        self._systemctl("reset-failed", "--", name, deadline=20)

    def schedule(self, name: str, seconds: float, command: Sequence[str]) -> None:
        """Run a command once, after a while, as a unit of its own: `<name>.timer` and `<name>.service`.

        Raises:
            SystemdError: there is such a timer already, or it failed.
        """
        timer = [f"--unit={name}", f"--description={name}", f"--on-active={seconds:g}", "--collect"]
        timer.append("--timer-property=AccuracySec=1s")
        done = self._run(["systemd-run", "--quiet", "--no-ask-password", *timer, "--", *command], 20)
        if done.status != 0:
            msg = f"systemd-run --unit={name}: {' '.join(done.stderr.split()) or f'exit status {done.status}'}"
            raise SystemdError(msg)

    def journal(self, name: str, since: float, lines: int) -> list[str]:
        """Return the last lines a unit wrote, and systemd about it; without a journal, the reason.

        Args:
            name: unit.
            since: seconds since the epoch.
            lines: how many at most.
        """
        command = ["journalctl", "--no-pager", "--quiet", "--output=cat", f"--since=@{int(since)}", f"--lines={lines}"]
        try:
            done = self._run([*command, f"--unit={name}"], 20)
        except (OSError, TimeoutError) as error:
            return [f"(the journal cannot be read: {error})"]
        return done.stdout.splitlines() or [f"(the journal has nothing: {done.stderr.strip() or 'no entries'})"]

    def sync_journal(self) -> None:
        """Wait until the journal has what was written a moment ago, as far as it can be had."""
        with contextlib.suppress(OSError, TimeoutError):
            self._run(["journalctl", "--sync"], 20)

    def journal_entries(self, name: str, since: float, *filters: str) -> list[dict[str, Any]]:
        """Return entries of a unit's journal.

        Args:
            name: unit; what systemd says about it counts, too.
            since: seconds since the epoch.
            filters: more arguments of journalctl.

        Raises:
            SystemdError: the journal cannot be read, so that nothing is known.
        """
        # Whole messages: longer ones would come without their text.
        options = ["--no-pager", "--quiet", "--all", "--output=json", f"--since=@{int(since)}", f"--unit={name}"]
        try:
            done = self._run(["journalctl", *options, *filters], 60)
        except (OSError, TimeoutError) as error:
            msg = f"the journal of {name} cannot be read: {error}"
            raise SystemdError(msg) from error
        # Its status tells "nothing found" and "cannot be read" apart no better than its silence does.
        if done.status != 0 and done.stderr.strip():
            msg = f"the journal of {name} cannot be read: {' '.join(done.stderr.split())}"
            raise SystemdError(msg)
        entries = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return [entry for entry in entries if int(entry.get("__REALTIME_TIMESTAMP", 0)) >= since * 1_000_000]

    def _systemctl(self, *arguments: str, deadline: float) -> str:
        try:
            done = self._run(["systemctl", "--no-ask-password", *arguments], deadline)
        except TimeoutError:
            raise
        except OSError as error:
            msg = f"systemctl cannot be run: {error}"
            raise SystemdError(msg) from error
        if done.status != 0:
            # Without its hint where to look on: that is in the evidence already.
            said = " ".join((done.stderr or done.stdout).split()).partition(" See ")[0]
            reason = said or f"exit status {done.status}"
            msg = f"systemctl {arguments[0]} {arguments[-1]}: {reason}"
            raise SystemdError(msg)
        return done.stdout
