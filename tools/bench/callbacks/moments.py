"""Ansible callback: writes when each task began and what came of it, one JSON object a line, as it happens.

The environment's LINKRIFT_MOMENTS names the file. tools/bench/moments.py reads it, also while the run goes on.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, TextIO

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: moments
type: aggregate
short_description: Writes when each task began and what came of it
description:
  - One JSON object a line, as it happens, into the file that the environment variable LINKRIFT_MOMENTS names.
requirements: []
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types.
    """Writes an event for each task that begins, and one for each of its results."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "moments"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._begun = 0
        self._numbers: dict[str, int] = {}
        # Open for as long as the run lasts, and written to line by line.
        self._file: TextIO = open(os.environ["LINKRIFT_MOMENTS"], "a", buffering=1, encoding="utf-8")  # noqa: PTH123, SIM115

    def _write(self, **event: object) -> None:
        self._file.write(json.dumps({"at": time.time(), **event}) + "\n")

    def _result(self, result: Any, status: str) -> None:
        self._write(
            event="result",
            number=self._numbers.get(str(result.task._uuid), -1),
            host=result.host.get_name(),
            status=status,
            changed=bool(result.is_changed()),
            worked=_worked(result.result.get("steps")),
        )

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins."""
        del is_conditional
        # A task in a loop of includes has a number for each time.
        number = self._begun
        self._begun += 1
        self._numbers[str(task._uuid)] = number
        self._write(event="task", number=number, name=task.get_name().rpartition(" : ")[2], role=_role(task))

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler begins."""
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_ok(self, result: Any) -> None:
        """It went well on a host."""
        self._result(result, "ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """It failed on a host."""
        del ignore_errors
        self._result(result, "failed")

    def v2_runner_on_skipped(self, result: Any) -> None:
        """It was not for a host."""
        self._result(result, "skipped")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host was not there."""
        self._result(result, "unreachable")


def _worked(steps: Any) -> float | None:
    """Return when the last of a module's steps began, in seconds since it had begun to work on its host."""
    begins = [step.get("at") for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    return max((float(at) for at in begins if isinstance(at, (int, float))), default=None)


def _role(task: Any) -> str:
    role = task._role
    return str(role.get_name()) if role else ""
