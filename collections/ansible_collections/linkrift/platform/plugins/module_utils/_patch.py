# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host has to be patched with, and how far a patch run came on it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES, write_atomically

RECORD = Path("var/lib/linkrift/patch.json")
FORMAT = 1
# Who drained a host, where a patch run did: role patch says so to module slot.
DRAINED_BY = "playbook patch"
REBOOT = ("auto", "always", "never")
UPGRADES = {"dist": "dist-upgrade", "safe": "upgrade"}
"""What an upgrade may do: also install and remove packages, or neither remove nor newly install any."""

Run = Callable[[list[str]], tuple[int, str, str]]
"""Runs a program to its end; returns its status, output and errors."""

_INSTALL = re.compile(
    r"^Inst (?P<name>\S+)(?: \[(?P<old>[^]]*)\])? \((?P<new>\S+)(?: (?P<origin>[^[)]*))?", re.MULTILINE
)


class PatchError(Exception):
    """The host cannot say what it needs; the message is its own."""


@dataclass(frozen=True)
class Need:
    """What a host has to be patched with.

    Attributes:
        packages: `name`, `old` (empty for a new one) and `new` version of what an upgrade would install.
        held: packages that the administrator holds back.
        reboot_required: the host asks for a reboot.
        reboot_packages: packages because of which it does.
        boot_id: names this boot of the host.
        drained: services that somebody drained on it, which is not what a run that was interrupted left.
        restart: units whose programs use files that were replaced, where `needrestart` is there to tell.
    """

    packages: list[dict[str, str]]
    held: list[str]
    reboot_required: bool
    reboot_packages: list[str]
    boot_id: str
    drained: list[str]
    restart: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return it for a module's result."""
        return dict(vars(self))


def look(root: Path, run: Run, upgrade: str) -> Need:
    """Look at a host. Changes nothing, and expects its package lists to be fresh.

    Args:
        root: `/` but for tests.
        run: runs a program.
        upgrade: one of UPGRADES.

    Raises:
        PatchError: apt cannot say what it would do.
    """
    command = ["apt-get", "--simulate", "--quiet", UPGRADES[upgrade]]
    status, output, errors = run(command)
    if status != 0:
        raise PatchError(f"{' '.join(command)} failed: {' '.join((errors or output).split())[-500:]}")
    status, held, _errors = run(["apt-mark", "showhold"])
    return Need(
        packages=parse_simulation(output),
        held=sorted(held.split()) if status == 0 else [],
        reboot_required=(root / "run/reboot-required").exists(),
        reboot_packages=sorted(set(_text(root / "run/reboot-required.pkgs").split())),
        boot_id=_text(root / "proc/sys/kernel/random/boot_id").strip(),
        drained=[name for name in SERVICES if _drained_by_somebody(root / "var/lib/linkrift" / name / "drained")],
        restart=stale_units(root, run),
    )


def parse_simulation(output: str) -> list[dict[str, str]]:
    """Return what `apt-get --simulate` would install, sorted by name."""
    found = {
        match["name"]: {"name": match["name"], "old": match["old"] or "", "new": match["new"]}
        for match in _INSTALL.finditer(output)
    }
    return [found[name] for name in sorted(found)]


def stale_units(root: Path, run: Run) -> list[str]:
    """Return the units that `needrestart` would restart; none where it is not installed."""
    if not (root / "usr/sbin/needrestart").exists():
        return []
    status, output, _errors = run(["needrestart", "-b", "-r", "l"])
    lines = [line.partition(":") for line in output.splitlines()] if status == 0 else []
    return sorted({value.strip() for key, _colon, value in lines if key == "NEEDRESTART-SVC"})


def read_record(root: Path) -> dict[str, Any]:
    """Return what the last patch run noted; empty without one. A damaged note is none: the host is looked at anew."""
    with contextlib.suppress(OSError, ValueError):
        data = json.loads((root / RECORD).read_text(encoding="utf-8"))
        if isinstance(data, dict) and data.get("format") == FORMAT:
            return data
    return {}


def write_record(root: Path, record: Mapping[str, Any]) -> None:
    """Note how far a run came; it survives a power cut once this returns.

    Raises:
        OSError: it cannot be written.
    """
    path = root / RECORD
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(path, json.dumps({**record, "format": FORMAT}, sort_keys=True) + "\n", 0o644)


def choose_run(records: Iterable[Mapping[str, Any]], fresh: str) -> str:
    """Return the run to go on with: the newest that left a host unfinished, or a fresh one.

    Args:
        records: the note of each host.
        fresh: id of a new run.
    """
    unfinished = [str(record["run"]) for record in records if record.get("state") == "begun" and record.get("run")]
    return max(unfinished, default=fresh)


def decide(need: Mapping[str, Any], record: Mapping[str, Any], run: str, reboot: str) -> dict[str, bool]:
    """Decide what is to be done with a host in a run.

    Args:
        need: what `look` returned, as a dictionary.
        record: the host's note.
        run: id of the run.
        reboot: one of REBOOT.

    Returns:
        `upgrade`; `reboot` (as known before the upgrade); `resume` (an earlier try was interrupted); `work` (any);
        `keep_drained` (somebody drained the host).
    """
    mine = record.get("run") == run
    resume = record.get("state") == "begun"
    booted = mine and record.get("boot_id") not in (None, need["boot_id"])
    finished = mine and record.get("state") == "finished"
    wanted = {
        "never": False,
        "always": not finished and not booted,
        "auto": bool(need["reboot_required"]),
    }[reboot]
    upgrade = bool(need["packages"])
    return {
        "upgrade": upgrade,
        "reboot": wanted,
        "resume": resume,
        "work": upgrade or wanted or resume,
        "keep_drained": bool(need["drained"]),
    }


def _drained_by_somebody(mark: Path) -> bool:
    """Tell whether a service is drained, and by somebody else than a patch run. A mark that cannot be read counts."""
    if not mark.exists():
        return False
    try:
        return bool(json.loads(mark.read_text(encoding="utf-8"))["by"] != DRAINED_BY)
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
