# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module rotation does with its parameters, wherever that runs: an operation's unit, or Ansible's own process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import Haproxy, HaproxyError, Socket
from ansible_collections.linkrift.platform.plugins.module_utils._operation_file import Progress, WorkError
from ansible_collections.linkrift.platform.plugins.module_utils._rotation import (
    Options,
    Outcome,
    Rotation,
    RotationError,
    describe,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import (
    TopologyError,
    parse_changes,
    parse_services,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_file import BackendsFile, BackendsFileError
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import run_command

_PROGRAM_DEADLINE = 300.0
"""Seconds that HAProxy may take to check a file, and systemd to reload it."""


def perform(params: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Bring the rotation to the wish.

    Args:
        params: the module's parameters.
        progress: told of each step when it was done.

    Raises:
        WorkError: it cannot be done; the message says what the rotation is now.
    """
    return _tell(params, progress, check=False)


def foresee(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `perform` would; nothing is changed.

    Raises:
        WorkError: it would fail.
    """
    return _tell(params, lambda _what: None, check=True)


def _tell(params: Mapping[str, Any], progress: Progress, *, check: bool) -> dict[str, Any]:
    try:
        return result_of(_run(params, progress, check=check), params["path"])
    except (TopologyError, RotationError, BackendsFileError, HaproxyError, OSError) as error:
        raise WorkError(str(error)) from error


def _run(params: Mapping[str, Any], progress: Progress, *, check: bool) -> Outcome:
    """Do, or in check mode foresee, what the parameters ask for."""
    backends = parse_services(params["services"])
    changes = parse_changes(params["changes"], backends)
    file = BackendsFile(
        path=Path(params["path"]),
        main=Path(params["main_config"]),
        executable=params["executable"],
        group=params["group"],
        lock=Path(params["lock_path"]),
        run=run_program,
    )
    master = params["master_socket"]
    rotation = Rotation(
        backends=backends,
        changes=changes,
        options=Options(
            **{
                name: params[name]
                for name in (
                    "check_timeout",
                    "drain_timeout",
                    "drain_required",
                    "reload_timeout",
                    "wait_old_workers",
                    "reload",
                    "allow_empty",
                )
            }
        ),
        haproxy=Haproxy(Socket(params["admin_socket"]), Socket(master) if master else None),
        file=file,
        reload=lambda: _reload(params["unit"]),
        progress=progress,
    )
    if check:
        return rotation.predict()
    with file.only_run(params["lock_timeout"]):
        return rotation.apply()


def run_program(command: Sequence[str]) -> tuple[int, str]:
    """Run a program to its end, without a shell; return its status and what it said.

    Raises:
        OSError: it cannot be run, or takes too long.
    """
    done = run_command(command, _PROGRAM_DEADLINE)
    return done.status, f"{done.stdout}{done.stderr}"


def _reload(unit: str) -> None:
    """Have systemd reload HAProxy, which checks the configuration first.

    Raises:
        RotationError: systemd refused.
    """
    try:
        status, said = run_program(["systemctl", "reload", "--", unit])
    except OSError as error:
        raise RotationError(f"systemctl reload {unit} failed: {error}") from error
    if status != 0:
        raise RotationError(f"systemctl reload {unit} failed: {said.strip()}")


def result_of(outcome: Outcome, path: str) -> dict[str, Any]:
    """Return the module's answer."""
    rotation = describe(outcome.view, outcome.after) if outcome.view else {}
    return {
        "changed": outcome.changed,
        "msg": _summary(outcome, rotation),
        "running": outcome.running,
        "reload_required": outcome.reload_required,
        "reloaded": outcome.reloaded,
        "path": path,
        "pid": outcome.view.pid if outcome.view else None,
        "version": outcome.view.version if outcome.view else "",
        "rotation": rotation,
        "steps": outcome.steps,
        "warnings": outcome.warnings,
        "diff": {
            "before_header": path,
            "after_header": path,
            "before": outcome.before,
            "after": outcome.after,
        },
    }


def _summary(outcome: Outcome, rotation: dict[str, Any]) -> str:
    """Say in a sentence what HAProxy does."""
    if not outcome.running:
        return "HAProxy does not run: it will begin with the states of the file, and nothing was checked"
    if not rotation:
        return "HAProxy runs, but has not loaded the backends file"
    return "; ".join(
        f"{service}: {sum(server['takes_traffic'] for server in entry['servers'].values())}"
        f" of {len(entry['servers'])} servers take traffic"
        for service, entry in rotation.items()
    )
