# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Dangerous work as a unit of its own: it ends as it should when the connection or the control node is gone.

The unit's name lets one of a kind run at a time. Whoever asks for the same meanwhile joins it; whoever asks for
something else waits. What is finished is never taken for an answer: the work is done anew, and finds nothing to do.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils import _operation_code as code
from ansible_collections.linkrift.platform.plugins.module_utils import _operation_file as files
from ansible_collections.linkrift.platform.plugins.module_utils import _operation_unit
from ansible_collections.linkrift.platform.plugins.module_utils._operation_file import Asked, EndedError, WorkError
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import (
    Runner,
    Systemd,
    SystemdError,
    run_command,
)

# Ansible sends what is imported: so the program that runs in the unit comes along, too.
_START = (
    f"import sys; sys.path.insert(0, sys.argv[1]); from {_operation_unit.__name__} import main; "
    "sys.exit(main(sys.argv[2]))"
)
_START_DEADLINE = 60.0
_ATTEMPTS = 3
"""How often a unit is started that is not there, and does not start either."""


@dataclass(frozen=True)
class Operation:
    """Work to be done.

    Attributes:
        name: of the unit, after `linkrift-op-`.
        work: name of the module of this directory whose `perform` does it.
        request: what `perform` is called with.
        purpose: the same in words, for others who have to wait.
        by: who asks for it.
        patience: seconds to wait for another one's work.
        bound: seconds after which it is ended: more than all its own deadlines together.
        apart: what of the request tells no two of them apart, such as who asks.
        stamp: what else must be the same for two of them to come to the same.
    """

    name: str
    work: str
    request: Mapping[str, Any]
    purpose: str
    by: str
    patience: float
    bound: float
    apart: Sequence[str] = ()
    stamp: str = ""

    @property
    def unit(self) -> str:
        """Return the name of the unit."""
        return f"linkrift-op-{self.name}.service"

    def asked(self) -> Asked:
        """Return it as the step file has it."""
        same = {key: value for key, value in self.request.items() if key not in self.apart}
        return Asked(
            work=self.work,
            request=self.request,
            purpose=self.purpose,
            by=self.by,
            since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            identity=json.dumps([same, self.stamp], sort_keys=True),
        )


@dataclass
class Done:
    """What the work came to, and what there is to say about how."""

    result: dict[str, Any]
    notes: list[str] = field(default_factory=list)


class _CannotStartError(Exception):
    """No unit can be started; nothing was done."""


class Operations:
    """The operations of this host."""

    def __init__(
        self,
        root: Path = Path("/"),
        run: Runner = run_command,
        archive: Callable[[], Path | None] = code.archive,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._home = root / files.HOME.relative_to("/")
        self._booted = root / "run/systemd/system"
        self._run = run
        self._systemd = Systemd(run)
        self._archive = archive
        self._sleep = sleep

    def carry_out(self, operation: Operation) -> Done:
        """Do the work, or join who does the same.

        It is done in this process where systemd does not run, or cannot.

        Raises:
            WorkError: it could not be done, its unit was ended, or another one took too long.
        """
        archive = self._archive()
        if archive is None or os.geteuid() != 0 or not self._booted.is_dir() or not shutil.which("systemd-run"):
            return Done(in_process(operation))
        try:
            return self._in_unit(operation, archive)
        except _CannotStartError as error:
            note = (
                f"{operation.unit} cannot be started ({error}), so this was done in Ansible's own process: it would "
                "have ended with the connection"
            )
            return Done(in_process(operation), [note])

    def _in_unit(self, operation: Operation, archive: Path) -> Done:
        directory, asked = self._home / operation.name, operation.asked()
        began = time.monotonic()
        other = ""
        notes: list[str] = []
        while True:
            found = files.running(directory)
            if found and found.asked.identity == asked.identity:
                notes.append(f"joined what was under way: {found.asked.describe()}")
                return self._follow(operation, found.path, notes)
            left = operation.patience - (time.monotonic() - began)
            if found:
                other = found.asked.describe()
                if files.await_end(found.path, left, self._sleep):
                    continue
            elif path := self._start(operation, asked, archive):
                if other:
                    notes.append(f"waited {time.monotonic() - began:.1f} s for {other}")
                return self._follow(operation, path, notes)
            if left <= 0:
                who = other or f"see systemctl status {operation.unit}"
                msg = (
                    f"another run is at work here ({operation.unit}): {who}. Wait for it, or end it "
                    f"(systemctl stop {operation.unit}), and repeat this"
                )
                raise WorkError(msg)
            self._sleep(files.POLL)

    def _start(self, operation: Operation, asked: Asked, archive: Path) -> Path | None:
        """Start the unit, which has begun then; None: there is one already.

        Raises:
            _CannotStartError: it does not start.
        """
        said = ""
        directory = self._home / operation.name
        try:
            self._home.mkdir(mode=0o700, exist_ok=True)
            library = code.unpacked(archive, self._home / "code")
            # Before there is a new one: a clock that was set back makes that one the oldest.
            files.prune(directory)
            for _attempt in range(_ATTEMPTS):
                path = files.create(directory, asked)
                done = self._run(self._command(operation, library, path), _START_DEADLINE)
                if done.status == 0:
                    return path
                path.unlink(missing_ok=True)
                said = " ".join((done.stderr or done.stdout).split())
                unit = self._systemd.show(operation.unit)
                if not unit.stopped:
                    return None
                if unit.active == "failed":
                    self._systemd.forget_failure(unit.name)
        except TimeoutError as error:
            # It may begin any moment, so it is not to be done here as well.
            msg = f"{error}. See systemctl status {operation.unit}, and repeat this"
            raise WorkError(msg) from error
        except (OSError, SystemdError) as error:
            raise _CannotStartError(error) from error
        raise _CannotStartError(said)

    def _command(self, operation: Operation, library: Path, path: Path) -> list[str]:
        """Return how the unit is started. It counts as started once its process holds the step file."""
        identifier = operation.unit.removesuffix(".service")
        properties = [
            "Type=notify",
            "TimeoutStartSec=30",
            f"RuntimeMaxSec={operation.bound:.0f}",
            "UMask=0022",
            f"SyslogIdentifier={identifier}",
        ]
        return [
            "systemd-run",
            "--quiet",
            "--no-ask-password",
            # Gone once it has ended, whichever way, so that the name is free.
            "--collect",
            f"--unit={operation.unit}",
            f"--description={' '.join(f'{operation.purpose} by {operation.by}'.split())}",
            *(f"--property={entry}" for entry in properties),
            "--",
            # Nothing but the standard library and this collection: that starts faster, and nothing else gets in.
            *(sys.executable, "-I", "-S", "-X", "utf8", "-c", _START, str(library), str(path)),
        ]

    def _follow(self, operation: Operation, path: Path, notes: list[str]) -> Done:
        try:
            end = files.follow(path, self._sleep)
        except EndedError as error:
            msg = (
                f"{operation.unit} was ended before it was done (its last step: {str(error) or 'none'}), or could not "
                f"write how it ended (see df {files.HOME.parent}). "
                f"journalctl -u {operation.unit} has more; repeat this: it goes on from here"
            )
            raise WorkError(msg) from error
        if "failure" in end:
            failure = dict(end["failure"])
            message = str(failure.pop("msg"))
            raise WorkError("; ".join([message, *notes]), **failure)
        return Done(end["result"], notes)


def in_process(operation: Operation) -> dict[str, Any]:
    """Do the work in this very process.

    Raises:
        WorkError: it could not be done.
    """
    work: Any = importlib.import_module(f"{__package__}.{operation.work}")
    result: dict[str, Any] = work.perform(dict(operation.request), lambda _name: None)
    return result
