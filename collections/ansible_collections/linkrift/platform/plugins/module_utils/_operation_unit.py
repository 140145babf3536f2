# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runs inside the unit of an operation: it does the work, and writes each step into step file and journal."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils import _operation_file as files
from ansible_collections.linkrift.platform.plugins.module_utils._operation_file import WorkError


def main(path: str) -> int:
    """Do what a step file asks for; return the unit's exit status.

    Raises:
        OSError, ImportError: it could not begin. Nothing was done.
    """
    asked = files.asked_in(Path(path))
    work: Any = importlib.import_module(f"{__package__}.{asked.work}")
    with files.working(Path(path)) as file:
        _say(asked.describe())
        _tell_systemd("READY=1")

        def progress(name: str) -> None:
            _say(f"{file.step(name):.2f} s: {name}")

        try:
            result = work.perform(dict(asked.request), progress)
            when = _finish(file, {"result": result})
        except WorkError as error:
            when = _finish(file, {"failure": {"msg": str(error), **error.details}})
            _say(f"{when}: failed: {error}", priority=4)
            return 1
        except Exception as error:  # Whatever it is, who follows must learn of it.
            said = "".join(traceback.format_exception(error))
            when = _finish(file, {"failure": {"msg": f"{type(error).__name__}: {error}", "exception": said}})
            _say(f"{when}: failed: {said}", priority=3)
            return 1
        _say(f"{when}: done: {result.get('msg', '')}")
    return 0


def _finish(file: files.Writer, end: dict[str, Any]) -> str:
    """Add how it ended, and return when that was, in words for the journal."""
    try:
        return f"{file.finish(end):.2f} s"
    except OSError as error:
        # That is no failure of the work. Who follows sees that this ended, and is sent to the journal.
        return f"who follows cannot be told ({error})"


def _say(text: str, priority: int = 6) -> None:
    """Write lines into the journal, if it takes them: the work does not end for want of a record."""
    with contextlib.suppress(OSError):
        sys.stdout.write("".join(f"<{priority}>{line}\n" for line in text.splitlines()))
        sys.stdout.flush()


def _tell_systemd(text: str) -> None:
    """Tell the service manager how far this is."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        # One that begins with @ has no file.
        channel.sendto(text.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
