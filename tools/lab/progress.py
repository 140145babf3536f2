"""Stages with their names and times, and a sign of life while one takes long."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

_NAME_WIDTH = 28
_QUIET_SECONDS = 20.0
_TICK_SECONDS = 0.5


class Progress:
    """Prints a line for each stage: on a terminal it moves while the stage runs, in a log it appears when it is over.

    In a log, a stage that takes long adds a line now and then.
    """

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._live = out.isatty()
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the first stage could start."""
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time what is done inside; print the stage's line at the end, also when it fails."""
        stage = Stage(name, self._show)
        stage.start()
        verdict = "failed"
        try:
            yield stage
            verdict = ""
        finally:
            stage.stop()
            words = "  ".join(word for word in (verdict, stage.result) if word)
            self._clear()
            self._write(f"  {name:<{_NAME_WIDTH}} {stage.seconds:7.1f} s  {words}".rstrip() + "\n")

    def say(self, text: str = "") -> None:
        """Print a line of its own."""
        self._write(f"{text}\n")

    def _show(self, stage: Stage, *, due: bool) -> None:
        if self._live:
            self._clear()
            self._write(f"  {stage.name:<{_NAME_WIDTH}} {stage.seconds:7.0f} s  {stage.doing[:60]}")
        elif due:
            self._write(f"  {stage.name:<{_NAME_WIDTH}} {stage.seconds:7.0f} s… {stage.doing}\n")

    def _clear(self) -> None:
        if self._live:
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


class Stage:
    """A stage that runs: it can say what it is at, and how it went."""

    def __init__(self, name: str, show: Callable[..., None]) -> None:
        self.name = name
        self.doing = ""
        self.result = ""
        self._show = show
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._began

    def start(self) -> None:
        """Begin to show signs of life."""
        self._thread.start()

    def stop(self) -> None:
        """Show no more."""
        self._over.set()
        self._thread.join()

    def _tick(self) -> None:
        last = 0.0
        while not self._over.wait(_TICK_SECONDS):
            due = self.seconds - last >= _QUIET_SECONDS
            if due:
                last = self.seconds
            self._show(self, due=due)
