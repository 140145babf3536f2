# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One run at a time for each service of a host; whoever comes second is told who is first."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._paths import exclusive


class LockHeldError(Exception):
    """Another run is at work on this service; the message says whose."""


@contextlib.contextmanager
def only_run(path: Path, purpose: str, by: str, deadline: float) -> Iterator[None]:
    """Hold a service's lock; it ends with this process, however that ends.

    Args:
        path: the lock file. It stays, and says who held it last.
        purpose: what this run does, for the message to others.
        by: who runs it.
        deadline: seconds to wait for another run.

    Raises:
        LockHeldError: another run held it all that time.
        OSError: the lock file cannot be made.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(path, deadline))
        except TimeoutError as error:
            msg = f"another run is at work on this service: {_holder(path)}. Wait for it, or end it, and repeat this"
            raise LockHeldError(msg) from error
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        # In place: the lock belongs to this very file, so it must not be replaced.
        path.write_text(json.dumps({"purpose": purpose, "by": by, "pid": os.getpid(), "since": now}), encoding="utf-8")
        yield


def _holder(path: Path) -> str:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return f"{held['purpose']} by {held['by']}, process {held['pid']}, since {held['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"look for it with: fuser -v {path}"
