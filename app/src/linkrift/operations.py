"""What every service answers to operators on its own port: health and metrics. Balancers deny it to the public."""

from __future__ import annotations

import json
from collections.abc import Callable

from aiohttp import web

from linkrift import metrics
from linkrift.board import Board
from linkrift.health import Health

OPERATIONS_PATHS = frozenset({"/metrics", "/health", "/health/live", "/health/ready", "/health/startup"})


class Operations:
    """Answers the paths in OPERATIONS_PATHS."""

    def __init__(self, health: Health, board: Board, refresh: Callable[[], None]) -> None:
        """Prepare the answers.

        Args:
            health: the process's health.
            board: knows the slot's processes.
            refresh: brings gauges up to date before they are read.
        """
        self.health = health
        self._board = board
        self._refresh = refresh

    async def answer(self, method: str, path: str) -> web.Response:
        """Answer one of OPERATIONS_PATHS and count it."""
        response = await self._answer(method, path)
        label = method if method in ("GET", "HEAD") else "other"
        metrics.HTTP_REQUESTS.labels(label, path, str(response.status)).inc()
        return response

    async def _answer(self, method: str, path: str) -> web.Response:
        if method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        if path == "/metrics":
            self._refresh()
            body = metrics.render(self._board.totals().pids)
            return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE, "Cache-Control": "no-store"})
        answer = await self.health.answer(path)
        if answer is None:
            return web.Response(status=404)
        status, document = answer
        return web.Response(
            status=status,
            text=json.dumps(document),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )
