"""One process of the worker service."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterable

from aiohttp import web
from asyncpg import InvalidAuthorizationSpecificationError

from linkrift import metrics, tasks
from linkrift.admission import Admission
from linkrift.breaker import BreakerOpenError
from linkrift.clickhouse import ClickHouse
from linkrift.clicks import Click
from linkrift.health import CanWaitError, Check, Health, State
from linkrift.lifecycle import Activity, Process
from linkrift.operations import OPERATIONS_PATHS, Operations
from linkrift.postgres import Database, DatabaseAwayError
from linkrift.redis_client import REDIS_ERRORS, connect
from linkrift.release import Release
from linkrift.worker.consumer import POLL_SECONDS, Consumer
from linkrift.worker.counts import ClickCounts
from linkrift.worker.queue import ClickQueue
from linkrift.worker.rows import COLUMNS, INSERT
from linkrift.worker.settings import WorkerSettings

LOG = logging.getLogger(__name__)

INSERT_SECONDS = 30.0
METRICS_SECONDS = 1.0


class CountsCheck:
    """Whether counts could be stored in PostgreSQL; that it is away can wait, since clicks are stored without it."""

    def __init__(self, counts: ClickCounts) -> None:
        """Prepare."""
        self._counts = counts
        self._can_wait = True

    async def __call__(self) -> None:
        """Try it out.

        Raises:
            CanWaitError: PostgreSQL is away.
            DatabaseAwayError, PostgresError: the settings or the rights are wrong.
        """
        try:
            await self._counts.try_out()
        except DatabaseAwayError as error:
            # While it is not asked, what it said last counts.
            if not isinstance(error.__cause__, BreakerOpenError):
                self._can_wait = not isinstance(error.__cause__, InvalidAuthorizationSpecificationError)
            if self._can_wait:
                raise CanWaitError(str(error)) from error
            raise


class WorkerService:
    """Takes clicks from Redis to ClickHouse; its port answers health and metrics only."""

    def __init__(self, settings: WorkerSettings, release: Release, process: Process) -> None:
        """Prepare; nothing is connected yet."""
        slot = settings.process.slot or "dev"
        self._process = process
        self._version = release.id
        self._redis = connect(settings.redis, f"linkrift-worker-{slot}")
        self._clickhouse = ClickHouse(
            settings.clickhouse, threads=settings.concurrency + 2, statement_timeout=INSERT_SECONDS
        )
        self._queue = ClickQueue(self._redis, f"{socket.gethostname()}:{slot}:{process.index}")
        self._admission = Admission(settings.process.admission_file, settings.process.live_link)
        self._database: Database | None = None
        self._counts: ClickCounts | None = None
        if settings.database is not None:
            self._database = Database(settings.database, f"linkrift-worker-{slot}")
            self._counts = ClickCounts(
                self._clickhouse, self._database, self._may_consume, interval=settings.count_interval
            )
        self._consumer = Consumer(
            self._queue,
            self._clickhouse,
            self._may_consume,
            concurrency=settings.concurrency,
            batch_size=settings.batch_size,
            batch_limit=settings.batch_limit,
            flush_interval=settings.flush_interval,
            reclaim_after=settings.reclaim_after,
            stored=self._touch,
        )
        checks: dict[str, Check] = {"redis": self._check_redis, "clickhouse": self._check_clickhouse}
        if self._counts is not None:
            checks["postgresql"] = CountsCheck(self._counts)
        self._tasks: list[asyncio.Task[None]] = []
        self._consuming: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None
        self.activity = Activity()
        self.health = Health(
            "worker",
            release.id,
            settings.process.slot,
            self._admission,
            checks,
            self._extra,
        )
        self._operations = Operations(self.health, process.board, self.refresh_metrics)
        self._server = web.Server(self.handle, access_log=None)

    def make_runner(self, shutdown_timeout: float) -> web.BaseRunner:
        """Return what serves the port."""
        return web.ServerRunner(self._server, shutdown_timeout=shutdown_timeout)

    async def start(self) -> None:
        """Start consuming, or waiting to be admitted."""
        self._report()
        self._consuming = asyncio.create_task(self._consumer.run())
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._keep_metrics())]
        if self._database is not None and self._counts is not None:
            await self._database.open()
            self._counting = asyncio.create_task(self._counts.run())
            self._tasks.append(self._counting)

    async def flush(self, deadline_seconds: float) -> None:
        """Store and acknowledge what was taken."""
        self._consumer.stop()
        if self._consuming is not None:
            await asyncio.wait([self._consuming], timeout=deadline_seconds)
            self._tasks.append(self._consuming)
        await tasks.end(self._tasks)

    async def close(self) -> None:
        """Close Redis, PostgreSQL, then ClickHouse; the metrics are the last to know."""
        await self._redis.aclose()
        if self._database is not None:
            await self._database.close()
        await self._clickhouse.close()
        self.refresh_metrics()

    def refresh_metrics(self) -> None:
        """Bring gauges up to date."""
        metrics.ACTIVE_CONNECTIONS.set(len(self._server.connections))
        self._report()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer health and metrics."""
        if request.path in OPERATIONS_PATHS:
            response = await self._operations.answer(request.method, request.path)
        else:
            response = web.Response(status=404)
        response.headers.update({"X-Deployment-Version": self._version, "Server": "linkrift"})
        return response

    def _touch(self, clicks: Iterable[Click]) -> None:
        if self._counts is not None:
            self._counts.touch(clicks)

    def _may_consume(self) -> bool:
        return self.health.state is not State.DRAINING and self._admission.admitted()

    def _extra(self) -> dict[str, object]:
        self._report()
        totals = self._process.board.totals()
        overdue = 0.0 if totals.due is None else max(0.0, time.monotonic() - totals.due)
        return {"paused": totals.paused, "pending": totals.pending, "overdue_seconds": round(overdue, 1)}

    def _report(self) -> None:
        """Tell the slot's other processes: any of them may be asked."""
        self._process.board.write(
            self._process.index,
            os.getpid(),
            paused=self._consumer.paused,
            pending=self._consumer.pending(),
            due=self._consumer.due(),
        )

    async def _check_redis(self) -> None:
        # Not a PING: that says nothing of whether this worker may use the stream.
        await self._queue.try_out()

    async def _check_clickhouse(self) -> None:
        # Of no rows: refused where the table, a column, or the right to insert is missing.
        await self._clickhouse.insert(INSERT, [()] * len(COLUMNS))

    async def _watch(self) -> None:
        """Report; end the process when a task ended in a way that nobody foresaw, so that it is started again."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self._report()
            for name, task in (("consumer", self._consuming), ("counts", self._counting)):
                error = None if task is None or not task.done() or task.cancelled() else task.exception()
                if error is not None:
                    LOG.critical("the %s failed; ending the process", name, exc_info=error)
                    os._exit(1)

    async def _keep_metrics(self) -> None:
        while True:
            try:
                length, oldest = await self._queue.length(), await self._queue.oldest_ms()
                metrics.QUEUE_LENGTH.labels("clicks").set(length)
                metrics.CLICK_LAG.set(0.0 if oldest is None else max(0.0, time.time() - oldest / 1000))
            except REDIS_ERRORS as error:
                LOG.debug("cannot measure the queue: %s", error)
            self.refresh_metrics()
            await asyncio.sleep(METRICS_SECONDS)
