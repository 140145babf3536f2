"""The command `linkrift-redirect`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from linkrift.commands import Program
from linkrift.lifecycle import Process, Service
from linkrift.redirect.settings import RedirectSettings, read_settings
from linkrift.release import Release


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends with an exit code."""
    program = Program("redirect", read_settings, lambda settings: settings.process, _load)
    sys.exit(program.main(arguments))


def _load() -> Callable[[RedirectSettings, Release, Process], Service]:
    from linkrift.redirect.service import RedirectService

    return RedirectService
