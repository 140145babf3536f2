"""ClickHouse over its native protocol. The driver blocks, so it runs in threads of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clickhouse_driver import Client
from clickhouse_driver.errors import Error as DriverError
from clickhouse_driver.errors import ErrorCodes, ServerException

from linkrift import metrics
from linkrift.breaker import PROBE_SECONDS, Breaker, BreakerOpenError
from linkrift.settings import ClickHouseSettings

Row = tuple[Any, ...]

# What tells events apart, to be counted by uniqExact: each once, however often it was delivered and whether or not its
# rows were merged yet. As a text: of a UUID, ClickHouse takes one half for its hash, which is the same for all events
# of a redirect process, and counting 400,000 of them took two minutes.
EVENT = "toString(event_id)"

_TOO_LARGE = (ErrorCodes.TIMEOUT_EXCEEDED, ErrorCodes.TOO_SLOW, ErrorCodes.MEMORY_LIMIT_EXCEEDED)

# The driver logs every failed connection with a traceback; we say it once, in one line.
logging.getLogger("clickhouse_driver").setLevel(logging.CRITICAL)


class ClickHouseAwayError(Exception):
    """ClickHouse cannot be used at the moment, or refused the statement.

    Attributes:
        code: what the server calls the error; None: it did not come to that.
    """

    code: int | None = None

    @property
    def too_large(self) -> bool:
        """Whether it was more than the server has memory or time for: less of it may do."""
        return self.code in _TOO_LARGE

    @classmethod
    def of(cls, error: BaseException) -> ClickHouseAwayError:
        """Describe what the driver raised, without the stack trace that the server sends along."""
        if isinstance(error, ServerException):
            refused = cls(f"code {error.code}: {str(error.message).partition('Stack trace:')[0].strip()}")
            refused.code = error.code
            return refused
        return ClickHouseSilentError(f"{type(error).__name__}: {error}".strip().rstrip(":"))


class ClickHouseSilentError(ClickHouseAwayError):
    """ClickHouse gave no answer: it cannot be reached, hangs, or went away meanwhile."""


def make_client(settings: ClickHouseSettings, database: str, /, **options: Any) -> Client:
    """Return a client of the driver; it connects with its first statement.

    Args:
        settings: where and how.
        database: the one to log in to.
        options: the driver's own.
    """
    tls: dict[str, Any] = {}
    if settings.tls:
        tls = {"secure": True, "verify": True}
        if settings.ca_file:
            tls["ca_certs"] = str(settings.ca_file)
    return Client(
        settings.host,
        port=settings.port,
        database=database,
        user=settings.user,
        password=settings.password,
        connect_timeout=settings.timeout,
        **tls,
        **options,
    )


class ClickHouse:
    """Runs statements in threads, each of which keeps one connection."""

    def __init__(self, settings: ClickHouseSettings, *, threads: int, statement_timeout: float) -> None:
        """Prepare; a thread connects with its first statement.

        Args:
            settings: where and how.
            threads: statements that run at the same time.
            statement_timeout: seconds a statement may take.
        """
        self._settings = settings
        self._statement_timeout = statement_timeout
        self._local = threading.local()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="clickhouse")
        self._clients: list[Client] = []
        self._running = 0

    async def execute(self, statement: str, parameters: dict[str, Any] | None = None) -> list[Row]:
        """Run a statement and return its rows.

        Raises:
            ClickHouseAwayError: it could not be run.
        """
        rows: list[Row] = await self._call(statement, parameters)
        return rows

    async def insert(self, statement: str, columns: Sequence[Sequence[Any]]) -> None:
        """Insert rows, given column by column, as one block; `statement` ends with VALUES.

        Raises:
            ClickHouseAwayError: it is not known whether they were inserted.
        """
        await self._call(statement, list(columns), columnar=True)

    async def close(self) -> None:
        """Disconnect. A statement that still runs is not waited for: its caller gave up on it."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        if not self._running:
            for client in self._clients:
                client.disconnect()

    async def _call(self, statement: str, parameters: Any, *, columnar: bool = False) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, self._execute_in_thread, statement, parameters, columnar
            )
        except (DriverError, OSError, EOFError) as error:
            metrics.DEPENDENCY_ERRORS.labels("clickhouse").inc()
            raise ClickHouseAwayError.of(error) from error

    def _execute_in_thread(self, statement: str, parameters: Any, columnar: bool) -> Any:
        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._connect()
        self._running += 1
        try:
            return client.execute(statement, parameters, columnar=columnar)
        except BaseException:
            # Whatever happened, the connection may be in the middle of an answer.
            client.disconnect()
            raise
        finally:
            self._running -= 1

    def _connect(self) -> Client:
        settings = self._settings
        client = make_client(
            settings,
            settings.database,
            sync_request_timeout=settings.timeout,
            send_receive_timeout=self._statement_timeout,
            client_name="linkrift",
            settings={"max_execution_time": int(self._statement_timeout) or 1},
        )
        self._clients.append(client)
        return client


class GuardedClickHouse(ClickHouse):
    """For people who wait for an answer: a server that does not answer is not asked until it answers a probe.

    See `breaker`. Of statements that find all threads in use, each waits for one here, where it can give up.
    """

    def __init__(
        self, settings: ClickHouseSettings, *, threads: int, statement_timeout: float, patience: float
    ) -> None:
        """Prepare, in the loop that uses it.

        Args:
            settings: where and how.
            threads: statements that run at the same time.
            statement_timeout: seconds a statement may take.
            patience: see Breaker.
        """
        super().__init__(settings, threads=threads, statement_timeout=statement_timeout)
        self._free = asyncio.Semaphore(threads)
        self._breaker = Breaker("clickhouse", self._probe, (ClickHouseSilentError,), patience=patience)
        # With a thread of its own: all others may hang.
        self._prober = ClickHouse(settings, threads=1, statement_timeout=PROBE_SECONDS)

    async def close(self) -> None:
        """Disconnect. A statement that still runs is not waited for: its caller gave up on it."""
        await self._breaker.close()
        await self._prober.close()
        await super().close()

    async def _call(self, statement: str, parameters: Any, *, columnar: bool = False) -> Any:
        try:
            self._breaker.admit()
            await self._free.acquire()
            # A caller who gives up does not end what the thread does, which therefore stays in use until it is done.
            asked = asyncio.create_task(self._ask(statement, parameters, columnar))
            asked.add_done_callback(_take_note)
            return await asyncio.shield(asked)
        except BreakerOpenError as error:
            raise ClickHouseAwayError(str(error)) from error

    async def _ask(self, statement: str, parameters: Any, columnar: bool) -> Any:
        try:
            with self._breaker.call() as asked:
                asked()
                return await super()._call(statement, parameters, columnar=columnar)
        finally:
            self._free.release()

    async def _probe(self) -> None:
        await self._prober.execute("SELECT 1")


def _take_note(asked: asyncio.Task[Any]) -> None:
    """Have nobody complain that nobody heard of an error: its caller may have given up."""
    if not asked.cancelled():
        asked.exception()
