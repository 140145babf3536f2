"""One process of the redirect service."""

from __future__ import annotations

import asyncio
import logging
import time

from aiohttp import web

from linkrift import metrics, tasks
from linkrift.admission import Admission
from linkrift.codes import CANARY, is_code
from linkrift.health import Health, State
from linkrift.lifecycle import Activity, Process
from linkrift.operations import OPERATIONS_PATHS, Operations
from linkrift.postgres import Database
from linkrift.redirect.answers import Answer, Answers
from linkrift.redirect.buffer import ClickBuffer, RawClick
from linkrift.redirect.cache import Entry, MemoryCache
from linkrift.redirect.invalidation import listen
from linkrift.redirect.lookup import Lookup, LookupUnavailableError
from linkrift.redirect.settings import RedirectSettings
from linkrift.redirect.tally import Tally
from linkrift.redis_client import connect, connect_guarded
from linkrift.release import Release
from linkrift.request_ids import HEADER as REQUEST_ID
from linkrift.request_ids import RequestIds
from linkrift.visitors import VisitorNetworks

LOG = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
TALLY_SECONDS = 1.0

MEMORY_HITS = metrics.CACHE_HITS.labels("memory")


class RedirectService:
    """Answers short links."""

    def __init__(self, settings: RedirectSettings, release: Release, process: Process) -> None:
        """Prepare; nothing is connected yet."""
        name = f"linkrift-redirect-{settings.process.slot or 'dev'}"
        self._settings = settings
        self._redis = connect_guarded(settings.redis, name)
        self._click_redis = connect(settings.redis, f"{name}-clicks", timeout=settings.write_timeout)
        self._database = Database(settings.database, name)
        self._cache = MemoryCache(settings.cache_size)
        self._lookup = Lookup(self._cache, self._redis, self._database, timeout=settings.read_timeout)
        self._networks = VisitorNetworks(settings.trusted_proxies)
        self._clicks = ClickBuffer(self._click_redis, self._networks, size=settings.click_buffer_size)
        self._tally = Tally()
        # Asked once: a log line for each request costs half of what a request does.
        self._logs_requests = LOG.isEnabledFor(logging.DEBUG)
        self._memory_hits = 0
        self._answers = Answers(release.id)
        self._version = release.id
        self._request_ids = RequestIds()
        self._tasks: list[asyncio.Task[None]] = []
        self.activity = Activity()
        self.health = Health(
            "redirect",
            release.id,
            settings.process.slot,
            Admission(settings.process.admission_file, settings.process.live_link),
            {"postgresql": self._database.check, "redis": self._check_redis},
        )
        self._operations = Operations(self.health, process.board, self.refresh_metrics)
        self._server = web.Server(self.handle, access_log=None)

    def make_runner(self, shutdown_timeout: float) -> web.BaseRunner:
        """Return what serves the port."""
        return web.ServerRunner(self._server, shutdown_timeout=shutdown_timeout)

    async def start(self) -> None:
        """Start what runs beside the requests and connect to what can be reached."""
        self._tasks = [
            asyncio.create_task(listen(self._redis, self._cache, self._lookup)),
            asyncio.create_task(self._clicks.run()),
            asyncio.create_task(self._keep_metrics()),
        ]
        await self._database.open()

    async def flush(self, deadline_seconds: float) -> None:
        """Send the clicks that are left."""
        await tasks.end(self._tasks)
        await self._clicks.flush(deadline_seconds)

    async def close(self) -> None:
        """Close Redis, then PostgreSQL; the metrics are the last to know."""
        await self._lookup.close()
        await self._redis.aclose()
        await self._click_redis.aclose()
        await self._database.close()
        self.refresh_metrics()

    def refresh_metrics(self) -> None:
        """Hand over what was counted since the last time."""
        self._tally.hand_over()
        MEMORY_HITS.inc(self._memory_hits)
        self._memory_hits = 0
        self._clicks.refresh_metrics()
        self._database.refresh_metrics()
        metrics.ACTIVE_CONNECTIONS.set(len(self._server.connections))
        links, unknown = self._cache.sizes()
        metrics.CACHE_ENTRIES.labels("link").set(links)
        metrics.CACHE_ENTRIES.labels("unknown").set(unknown)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request. A link that is fresh in memory is answered without waiting for anything."""
        started = time.monotonic()
        method = request.method
        code = request.raw_path[1:]
        entry = self._cache.links.get(code)
        if entry is None:
            path = request.path
            if path in OPERATIONS_PATHS:
                response = await self._operations.answer(method, path)
                response.headers.update({"X-Deployment-Version": self._version, "Server": "linkrift"})
                return response
            # The query belongs to the visitor, not to the code; neither does a host before the path, which is allowed.
            code = request.rel_url.raw_path[1:]
            entry = self._cache.links.get(code)
        self.activity.last = started
        headers = request.headers
        request_id = self._request_ids.of(headers.get(REQUEST_ID))
        if method not in ("GET", "HEAD"):
            method = method if method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
            status, answer = 405, self._refuse_method(request_id)
        elif entry is not None and entry.fresh_until > started:
            self._memory_hits += 1
            self._cache.links.move_to_end(code)
            status, answer = self._answer(request, entry, code, request_id)
        else:
            status, answer = await self._answer_from_stores(request, code, request_id)
        seconds = time.monotonic() - started
        self._tally.add(method, status, seconds)
        if self._logs_requests:
            fields = {"method": method, "status": status, "code": code, "request_id": request_id}
            LOG.debug("request", extra={**fields, "duration_ms": round(seconds * 1000, 3)})
        return answer

    def _answer(self, request: web.BaseRequest, entry: Entry, code: str, request_id: str) -> tuple[int, Answer]:
        """Answer from what is known of a link."""
        now = time.time()
        if entry.gone or entry.expires_at <= now:
            return 410, self._text(request, "410 Gone", "This short link is no longer active.", request_id)
        if request.method == "GET" and code != CANARY:
            # HEAD looks whether the link is there; a visitor follows it with GET. The canary is followed by gates.
            headers = request.headers
            self._clicks.capture(
                RawClick(
                    code,
                    now,
                    request_id,
                    headers.get("Referer", ""),
                    headers.get("User-Agent", ""),
                    request.remote or "",
                    ",".join(headers.getall("X-Forwarded-For", ())),
                )
            )
        close = self.health.state is State.DRAINING
        return 302, self._answers.found(entry.location, request_id, now, close=close)

    async def _answer_from_stores(self, request: web.BaseRequest, code: str, request_id: str) -> tuple[int, Answer]:
        if not is_code(code) or self._cache.is_unknown(code, time.monotonic()):
            return 404, self._text(request, "404 Not Found", "There is no such short link.", request_id)
        self.activity.unanswered += 1
        try:
            entry = await self._lookup.find(code)
        except LookupUnavailableError as error:
            LOG.warning("cannot look up a link: %s", error, extra={"code": code, "request_id": request_id})
            retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            text = "This short link cannot be looked up at the moment. Please try again."
            return 503, self._text(request, "503 Service Unavailable", text, request_id, retry)
        finally:
            self.activity.unanswered -= 1
        if entry is None:
            return 404, self._text(request, "404 Not Found", "There is no such short link.", request_id)
        return self._answer(request, entry, code, request_id)

    def _refuse_method(self, request_id: str) -> Answer:
        return self._answers.text(
            "405 Method Not Allowed",
            "Short links are followed with GET.",
            request_id,
            head=False,
            # Its body, if it has one, is not read.
            close=True,
            extra={"Allow": "GET, HEAD"},
        )

    def _text(
        self, request: web.BaseRequest, status: str, text: str, request_id: str, extra: dict[str, str] | None = None
    ) -> Answer:
        close = self.health.state is State.DRAINING
        return self._answers.text(status, text, request_id, head=request.method == "HEAD", close=close, extra=extra)

    async def _check_redis(self) -> None:
        await self._redis.ping()

    async def _keep_metrics(self) -> None:
        """Hand figures over to the slot's other processes, any of which may be asked for all."""
        while True:
            await asyncio.sleep(TALLY_SECONDS)
            self.refresh_metrics()
