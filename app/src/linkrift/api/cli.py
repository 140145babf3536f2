"""The command `linkrift-api`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from linkrift.api.settings import ApiSettings, read_settings
from linkrift.commands import Program
from linkrift.lifecycle import Process, Service
from linkrift.release import Release


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends with an exit code."""
    program = Program("api", read_settings, lambda settings: settings.process, _load)
    sys.exit(program.main(arguments))


def _load() -> Callable[[ApiSettings, Release, Process], Service]:
    from linkrift.api.service import ApiService

    return ApiService
