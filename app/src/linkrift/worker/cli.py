"""The command `linkrift-worker`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from linkrift.commands import Program
from linkrift.lifecycle import Process, Service
from linkrift.release import Release
from linkrift.worker.settings import WorkerSettings, read_settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends with an exit code."""
    program = Program("worker", read_settings, lambda settings: settings.process, _load)
    program.add_command("ensure-schema", "make or update the ClickHouse tables", _ensure_schema)
    sys.exit(program.main(arguments))


def _load() -> Callable[[WorkerSettings, Release, Process], Service]:
    from linkrift.worker.service import WorkerService

    return WorkerService


def _ensure_schema() -> int:
    from linkrift.worker.schema import ensure_schema

    return ensure_schema()
