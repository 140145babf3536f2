# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Kernel settings: the file that brings them back at boot, and their values now."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/sys")
_NAME = re.compile(r"^[a-z0-9][A-Za-z0-9_.*-]*$")


class KernelError(ValueError):
    """A name or value that cannot be; the message names it."""


@dataclass(frozen=True)
class Setting:
    """One setting that is not as it should be.

    Attributes:
        name: such as `net.core.somaxconn`.
        wanted: the value that it should have.
        found: the value that it has; None where the kernel does not have it.
        reason: why it cannot be changed on this host; None when it can.
    """

    name: str
    wanted: str
    found: str | None
    reason: str | None


def render(settings: Mapping[str, str]) -> str:
    """Return the file for /etc/sysctl.d.

    A leading `-` has systemd-sysctl pass over what a kernel does not have or a container may not change.

    Raises:
        KernelError: a name or value has characters that do not belong there.
    """
    for name, value in settings.items():
        if not _NAME.match(name) or "\n" in value or not value.strip():
            raise KernelError(f"kernel setting {name!r}: {value!r} cannot be written")
    lines = [f"-{name} = {normal(value)}\n" for name, value in settings.items()]
    return "# Written by the role that configures this host; what is changed here is changed back.\n" + "".join(lines)


def normal(value: str) -> str:
    """Return a value as it is compared: the kernel puts tabs between numbers."""
    return " ".join(value.split())


def path_of(name: str, proc: Path = PROC) -> Path:
    """Return a setting's file."""
    return proc.joinpath(*name.split("."))


def compare(settings: Mapping[str, str], proc: Path = PROC) -> list[Setting]:
    """Return the settings whose value differs now, with the reason where this host cannot change them."""
    different: list[Setting] = []
    for name, value in settings.items():
        path = path_of(name, proc)
        try:
            found = normal(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            different.append(Setting(name, value, None, "this kernel does not have it"))
            continue
        except OSError as error:
            different.append(Setting(name, value, None, f"it cannot be read: {error.strerror}"))
            continue
        if found != normal(value):
            reason = None if os.access(path, os.W_OK) else "a container may not change it: set it on its machine"
            different.append(Setting(name, normal(value), found, reason))
    return different


def put(setting: Setting, proc: Path = PROC) -> str | None:
    """Set a value; return why the kernel refused, None when it took it."""
    try:
        path_of(setting.name, proc).write_text(f"{setting.wanted}\n", encoding="ascii")
    except OSError as error:
        return f"the kernel refused: {error.strerror}"
    return None
