"""The audit log: who logged in and who changed what, one JSON object a line, in a file of its own.

All processes of both slots append to one file: each line is one write in append mode, so lines never mix. When the
file was moved away (logrotate), the next line goes into a new one. Writing happens in a thread, and never holds a
request up: when the disk does not keep up, lines go to the service's own log instead.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

from aiohttp import web

from linkrift import logs
from linkrift.visitors import VisitorNetworks

LOG = logging.getLogger(__name__)

MODE = 0o640
MAXIMUM_WAITING = 10_000


class AuditLog:
    """Writes what happened; without a path it goes to the service's own log."""

    def __init__(self, path: Path | None, networks: VisitorNetworks, fields: dict[str, str]) -> None:
        """Prepare; the file is opened with the first line.

        Args:
            path: the file.
            networks: finds the client's network, which is kept in place of the address.
            fields: what every line carries.
        """
        self._path = path
        self._networks = networks
        self._fields = fields
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._descriptor = -1
        self._waiting: dict[asyncio.Future[None], str] = {}
        self._torn = False

    def record(
        self, request: web.Request, action: str, *, outcome: str = "ok", account: UUID | None = None, **fields: Any
    ) -> None:
        """Note that something happened; returns at once.

        Args:
            request: what it came with.
            action: what was asked for, such as `link.update`.
            outcome: `ok`, or why it was refused.
            account: who asked, as far as that is known.
            fields: what it was about; no secrets.
        """
        document = {
            "time": datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec="milliseconds"),
            "action": action,
            "outcome": outcome,
            "account": None if account is None else str(account),
            "network": self._networks.of(request.remote or "", ",".join(request.headers.getall("X-Forwarded-For", ()))),
            "request_id": logs.request_id.get(),
            **self._fields,
            **fields,
        }
        line = json.dumps(document, ensure_ascii=True, separators=(",", ":"))
        if self._path is None or len(self._waiting) >= MAXIMUM_WAITING:
            LOG.info("audit", extra={"audit": document})
            return
        future = asyncio.get_running_loop().run_in_executor(self._executor, self._append, self._path, line)
        self._waiting[future] = line
        future.add_done_callback(self._waiting.pop)

    async def flush(self, deadline_seconds: float) -> None:
        """Wait until what waits is written, and close the file.

        Lines that the disk has not taken by the deadline go to the service's own log. The one that was under way may be
        in both.
        """
        self._path = None
        if self._waiting:
            await asyncio.wait(list(self._waiting), timeout=deadline_seconds)
        left = [line for future, line in self._waiting.items() if not future.done()]
        # The interpreter waits for the thread when it ends: what was queued must not hold it up.
        self._executor.shutdown(wait=False, cancel_futures=True)
        for line in left:
            LOG.error("the disk did not take an audit line before the end", extra={"audit": line})
        if not left and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, path: Path, line: str) -> None:
        """Append a line, in the thread."""
        try:
            self._reopen_if_moved(path)
            # What is left of a line that the disk did not take as a whole stands alone.
            data = (b"\n" if self._torn else b"") + line.encode() + b"\n"
            written = os.write(self._descriptor, data)
            self._torn = 0 < written < len(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            LOG.error("cannot write the audit log: %s", error, extra={"audit": line})

    def _reopen_if_moved(self, path: Path) -> None:
        if self._descriptor >= 0:
            try:
                there, ours = path.stat(), os.fstat(self._descriptor)
            except FileNotFoundError:
                there, ours = None, None
            if there is not None and ours is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
            os.close(self._descriptor)
            self._descriptor = -1
        # The file's group, which the directory passes on, may read it: the process's umask would not let it.
        created = not path.exists()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        if created:
            os.fchmod(self._descriptor, MODE)
