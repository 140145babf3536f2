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
    # Requests are logged by our own code, once.
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
