"""Structured logs on standard error, one JSON object a line, each with the request it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any, TextIO

request_id: ContextVar[str] = ContextVar("request_id", default="")

# What a LogRecord has of its own; anything else came in through `extra` and is logged as a field.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats records as JSON objects with the service's own fields in each."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
            "pid": record.process,
        }
        if current := request_id.get():
            document["request_id"] = current
        document.update({key: value for key, value in vars(record).items() if key not in _OWN})
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str, ensure_ascii=False)


class ClosedConnectionFilter(logging.Filter):
    """Has the event loop's complaint about a connection that was closed meanwhile be a warning.

    When a connection by TLS is given up, as after a timeout, uvloop may want to write to it once more, and calls it a
    fatal error. It is none of the service's: who used the connection has been told, and connects anew.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass every record."""
        error = record.exc_info[1] if record.exc_info else None
        closed = isinstance(error, RuntimeError) and str(error).endswith("the handler is closed")
        if closed and record.getMessage().startswith("Fatal error on SSL protocol"):
            record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        return True


def configure(level: str, log_format: str, fields: dict[str, str], stream: TextIO | None = None) -> None:
    """Send all logs to one stream.

    Args:
        level: `debug`, `info`, `warn` or `error`.
        log_format: `json` or `text`.
        fields: what every line carries (service, slot, version).
        stream: where they go; standard error unless told.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter(fields))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel({"warn": "WARNING"}.get(level, level.upper()))
    loop = logging.getLogger("asyncio")
    loop.filters[:] = [ClosedConnectionFilter()]
    # Requests are logged by our own code, once.
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
