"""What a process says about itself at /health and below."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from linkrift.admission import Admission

CHECK_SECONDS = 2.0

Check = Callable[[], Awaitable[None]]


class CanWaitError(Exception):
    """A check found something that goes by itself, and that this service does its work without meanwhile."""


class State(Enum):
    """Where a process is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class Health:
    """Answers the four health questions.

    `/health` asks whether this process can take a visitor's request now; it never looks at a shared service, so that
    losing one does not take every server out of rotation. `/health/ready` looks at each of them, for gates and people.
    """

    def __init__(
        self,
        service: str,
        version: str,
        slot: str,
        admission: Admission,
        checks: Mapping[str, Check],
        extra: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        """Prepare the answers.

        Args:
            service: `api`, `redirect` or `worker`.
            version: the release id.
            slot: `blue`, `green` or empty.
            admission: tells whether the slot may take traffic.
            checks: for each dependency a call that raises when it cannot be used, CanWaitError when that can wait.
            extra: fields that only this service has.
        """
        self.state = State.STARTING
        self._identity = {"version": version, "service": service, "slot": slot}
        self._admission = admission
        self._checks = checks
        self._extra = extra

    async def answer(self, path: str) -> tuple[int, dict[str, Any]] | None:
        """Return status and document for a health path, or None for any other path."""
        if path == "/health":
            return self._traffic()
        if path == "/health/live":
            return 200, self._document("alive", {})
        if path == "/health/startup":
            started = self.state is not State.STARTING
            return (200, self._document("started", {})) if started else (503, self._document("starting", {}))
        if path == "/health/ready":
            return await self._ready()
        return None

    def _traffic(self) -> tuple[int, dict[str, Any]]:
        if self.state is not State.SERVING:
            return 503, self._document(self.state.value, {})
        if not self._admission.admitted():
            return 404, self._document("standby", {})
        return 200, self._document("live", {})

    async def _ready(self) -> tuple[int, dict[str, Any]]:
        results = dict(zip(self._checks, await asyncio.gather(*map(_run, self._checks.values())), strict=True))
        if self.state is not State.SERVING:
            return 503, self._document(self.state.value, results)
        if any(result["error"] for result in results.values()):
            return 503, self._document("unavailable", results)
        return 200, self._document("ready", results)

    def _document(self, status: str, checks: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {
            "status": status,
            **self._identity,
            "timestamp": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **self._admission.standing(),
            "checks": checks,
            **(self._extra() if self._extra else {}),
        }


async def _run(check: Check) -> dict[str, Any]:
    """Run one check with a deadline; whatever it raises is its result."""
    started = time.perf_counter()
    status, error, note = "unhealthy", None, {}
    try:
        await asyncio.wait_for(check(), CHECK_SECONDS)
        status = "healthy"
    except CanWaitError as problem:
        status, note = "away", {"note": str(problem)}
    except asyncio.TimeoutError:
        error = f"no answer within {CHECK_SECONDS:g} s"
    except Exception as problem:
        # The class alone where there is no text. Drivers name hosts and roles here, never passwords.
        error = f"{type(problem).__name__}: {problem}".rstrip(": ")
    return {
        "status": status,
        "latency_ms": round((time.perf_counter() - started) * 1000, 3),
        "error": error,
        **note,
    }
