"""One process of the redirect service."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from linkrift import metrics, tasks
from linkrift.admission import Admission
from linkrift.clicks import EventIds
from linkrift.codes import CANARY, is_code
from linkrift.connections import Server, SilentConnections
from linkrift.health import Health, State
from linkrift.lifecycle import Activity, Process
from linkrift.link_passwords import LinkPasswords
from linkrift.operations import OPERATIONS_PATHS, Operations
from linkrift.postgres import Database
from linkrift.redirect.answers import Answers
from linkrift.redirect.at_once import MEMORY_HITS, AnswersAtOnce
from linkrift.redirect.attempts import Attempts
from linkrift.redirect.buffer import ClickBuffer
from linkrift.redirect.cache import Entry
from linkrift.redirect.capture import ClickCapture
from linkrift.redirect.clicks_left import ClicksLeft
from linkrift.redirect.enumeration import Address, UnknownCodes
from linkrift.redirect.fixed import FIXED
from linkrift.redirect.guarded import GuardedLinks, refuse_method
from linkrift.redirect.hosts import Guests, Hosts
from linkrift.redirect.lookup import LookupUnavailableError
from linkrift.redirect.passes import Passes
from linkrift.redirect.passwords import Passwords
from linkrift.redirect.previews import Previews
from linkrift.redirect.settings import RedirectSettings
from linkrift.redirect.sources import Sources
from linkrift.redirect.spool import Spool
from linkrift.redirect.tally import Tally
from linkrift.redirect.visit import Reply, Visit
from linkrift.redirect.visitor_ids import VisitorSalts
from linkrift.redis_client import connect, connect_guarded
from linkrift.release import Release
from linkrift.request_ids import HEADER as REQUEST_ID
from linkrift.request_ids import RequestIds
from linkrift.visitors import VisitorNetworks

LOG = logging.getLogger(__name__)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PREVIEW = "+"
PASSWORDS_WAITING = 8
TALLY_SECONDS = 1.0


class RedirectService:
    """Answers short links."""

    def __init__(self, settings: RedirectSettings, release: Release, process: Process) -> None:
        """Prepare; nothing is connected yet."""
        name = f"linkrift-redirect-{settings.process.slot or 'dev'}"
        self._settings = settings
        self._redis = connect_guarded(settings.redis, name)
        self._click_redis = connect(settings.redis, f"{name}-clicks", timeout=settings.write_timeout)
        self._database = Database(settings.database, name)
        self._sources = Sources(settings, self._redis, self._database, writes=process.index == 0)
        self._cache = self._sources.cache
        self._lookup = self._sources.lookup
        self._networks = VisitorNetworks(
            settings.trusted_proxies,
            ipv4_prefix=settings.click_ipv4_prefix,
            ipv6_prefix=settings.click_ipv6_prefix,
        )
        self._visitors = VisitorSalts(self._redis)
        event_ids = EventIds()
        self._clicks = ClickBuffer(
            self._click_redis,
            event_ids,
            size=settings.click_buffer_size,
            spool=Spool(settings.click_spool, settings.click_spool_bytes) if settings.click_spool else None,
        )
        self._capture = ClickCapture(self._clicks, event_ids, self._networks, self._visitors)
        self._hosts = Hosts(settings.public_hosts)
        self._unknown_codes = UnknownCodes(settings.unknown_codes)
        self._guests = Guests(self._networks)
        self._password_checker = LinkPasswords(waiting=PASSWORDS_WAITING)
        self._guarded = self._make_guarded(settings)
        self._previews = Previews(self._database, timeout=settings.read_timeout)
        self._tally = Tally()
        # Asked once: a log line for each request costs as much as the request.
        self._logs_requests = LOG.isEnabledFor(logging.DEBUG)
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
        self._at_once = AnswersAtOnce(
            cache=self._cache,
            hosts=self._hosts,
            guests=self._guests,
            unknown_codes=self._unknown_codes,
            health=self.health,
            activity=self.activity,
            answers=self._answers,
            request_ids=self._request_ids,
            capture=self._capture,
            tally=self._tally,
        )
        self._server = Server(
            self.handle,
            refuse=self._refuse,
            at_once=None if self._logs_requests else self._at_once.answer,
            access_log=None,
            # Nothing here takes a body that is compressed.
            auto_decompress=False,
        )
        self._silent_connections = SilentConnections(lambda: self._server)

    def _make_guarded(self, settings: RedirectSettings) -> GuardedLinks:
        attempts = Attempts(self._redis, settings.pass_keys[0])
        return GuardedLinks(
            clicks_left=ClicksLeft(
                self._database,
                timeout=settings.read_timeout,
                at_once=max(1, settings.database.max_connections // 3),
            ),
            passwords=Passwords(self._database, attempts, self._password_checker, timeout=settings.read_timeout),
            passes=Passes(settings.pass_keys),
            networks=self._networks,
            capture=self._take_click,
            changed=self._lookup.changed,
        )

    def make_runner(self, shutdown_timeout: float) -> web.BaseRunner:
        """Return what serves the port."""
        return web.ServerRunner(self._server, shutdown_timeout=shutdown_timeout)

    async def start(self) -> None:
        """Start what runs beside the requests and connect to what can be reached."""
        self._tasks = [
            asyncio.create_task(self._clicks.run()),
            asyncio.create_task(self._visitors.run()),
            asyncio.create_task(self._silent_connections.run()),
            asyncio.create_task(self._keep_metrics()),
        ]
        await self._database.open()
        await self._sources.start()

    async def flush(self, deadline_seconds: float) -> None:
        """Send the clicks that are left."""
        await tasks.end(self._tasks)
        await self._clicks.flush(deadline_seconds)
        self._clicks.close()

    async def close(self) -> None:
        """Close Redis, then PostgreSQL; the metrics are the last to know."""
        await self._sources.close()
        self._password_checker.close()
        await self._redis.aclose()
        await self._click_redis.aclose()
        await self._database.close()
        self.refresh_metrics()

    def refresh_metrics(self) -> None:
        """Hand over what was counted since the last time."""
        self._tally.hand_over()
        self._at_once.refresh_metrics()
        self._clicks.refresh_metrics()
        self._database.refresh_metrics()
        metrics.ACTIVE_CONNECTIONS.set(len(self._server.connections))
        self._sources.refresh_metrics()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that could not be answered at once."""
        started = time.monotonic()
        path = request.path
        if path in OPERATIONS_PATHS:
            response = await self._operations.answer(request.method, path)
            response.headers.update({"X-Deployment-Version": self._version, "Server": "linkrift"})
            return response
        elsewhere = not self._hosts.ours(request) or self._hosts.leads_elsewhere(request)
        # The query belongs to the visitor, not to the code; neither does a host before the path, which is allowed.
        code = request.rel_url.raw_path[1:]
        self.activity.last = started
        request_id = self._request_ids.of(request.headers.get(REQUEST_ID))
        method = request.method if request.method in METHODS else "other"
        if elsewhere or method not in ("GET", "HEAD"):
            status, answer = await self._answer_otherwise(request, code, request_id, elsewhere=elsewhere)
        else:
            status, answer = await self._answer_link(request, code, request_id)
        seconds = time.monotonic() - started
        self._tally.add(method, status, seconds)
        if self._logs_requests:
            fields = {"method": method, "status": status, "code": code, "request_id": request_id}
            LOG.debug("request", extra={**fields, "duration_ms": round(seconds * 1000, 3)})
        return answer

    def _answer(self, request: web.BaseRequest, entry: Entry, code: str, request_id: str) -> Reply:
        """Answer from what is known of a link."""
        now = time.time()
        if entry.gone or entry.expires_at <= now:
            return self._visit(request, code, request_id).gone()
        if request.method == "GET" and code != CANARY:
            # HEAD looks whether the link is there; a visitor follows it with GET. The canary is followed by gates.
            self._take_click(request, code, request_id, now, request.headers.get(hdrs.REFERER, ""))
        close = self.health.state is State.DRAINING
        return 302, self._answers.found(entry.location, request_id, now, close=close)

    def _take_click(self, request: web.BaseRequest, code: str, request_id: str, now: float, referrer: str) -> None:
        self._capture.take(request.headers, request.remote or "", code, request_id, now, referrer)

    async def _answer_link(self, request: web.BaseRequest, code: str, request_id: str) -> Reply:
        """Answer GET or HEAD."""
        visit = self._visit(request, code, request_id)
        if code in FIXED:
            return visit.text(*FIXED[code])
        if code.endswith(PREVIEW):
            return await self._answer_after_lookup(visit, code.removesuffix(PREVIEW), self._preview)
        return await self._answer_after_lookup(visit, code, self._answer_found)

    async def _answer_otherwise(
        self, request: web.BaseRequest, code: str, request_id: str, *, elsewhere: bool
    ) -> Reply:
        """Answer what is not GET or HEAD, or is for another host than ours."""
        visit = self._visit(request, code, request_id)
        if elsewhere:
            return visit.text("421 Misdirected Request", "There are no short links under this name.", close=True)
        if request.method == "POST" and is_code(code):
            return await self._answer_after_lookup(visit, code, self._open)
        return refuse_method(visit)

    async def _answer_after_lookup(
        self, visit: Visit, code: str, answer: Callable[[Visit, Entry], Awaitable[Reply]]
    ) -> Reply:
        """Answer with a link that has to be looked up first, or that there is none."""
        if code not in self._cache.links and is_code(code):
            # Whoever tries out codes learns nothing more, and costs no store anything.
            wait = self._unknown_codes.wait(self._counted_address(visit), time.monotonic())
            if wait:
                return visit.slow_down(wait)
        try:
            entry = await self._find(code)
        except LookupUnavailableError as error:
            LOG.warning("cannot look up a link: %s", error, extra={"code": code, "request_id": visit.request_id})
            return visit.unavailable("This short link cannot be looked up at the moment. Please try again.")
        return self._not_there(visit) if entry is None else await answer(visit, entry)

    async def _find(self, code: str) -> Entry | None:
        """Return a link, from wherever it can be had; None: there is none.

        Raises:
            LookupUnavailableError: nobody could tell.
        """
        now = time.monotonic()
        if not is_code(code) or self._cache.is_unknown(code, now):
            return None
        entry = self._cache.links.get(code)
        if entry is not None and entry.fresh_until > now:
            MEMORY_HITS.inc()
            self._cache.links.move_to_end(code)
            return entry
        self.activity.unanswered += 1
        try:
            return await self._lookup.find(code)
        finally:
            self.activity.unanswered -= 1

    async def _answer_found(self, visit: Visit, entry: Entry) -> Reply:
        if entry.rules is None:
            return self._answer(visit.request, entry, visit.code, visit.request_id)
        return await self._follow(visit, entry)

    async def _follow(self, visit: Visit, entry: Entry) -> Reply:
        """Answer GET or HEAD of a link that has rules."""
        return await self._answer_by_rules(visit, self._guarded.follow(visit, entry))

    async def _open(self, visit: Visit, entry: Entry) -> Reply:
        """Answer a form with a link's password."""
        return await self._answer_by_rules(visit, self._guarded.open(visit, entry))

    async def _preview(self, visit: Visit, entry: Entry) -> Reply:
        """Show where a link leads. That is no click."""
        return await self._answer_by_rules(visit, self._previews.show(visit, entry))

    async def _answer_by_rules(self, visit: Visit, answer: Awaitable[Reply]) -> Reply:
        self.activity.unanswered += 1
        try:
            reply = await answer
        finally:
            self.activity.unanswered -= 1
        # What looks as if it were not there looks so to those who ask too often, too.
        return self._not_there(visit) if reply[0] == 404 else reply

    def _not_there(self, visit: Visit) -> Reply:
        """There is no such link; whoever asks for one such after another is told to slow down."""
        wait = self._unknown_codes.note(self._counted_address(visit), time.monotonic())
        return visit.slow_down(wait) if wait else visit.not_there()

    def _counted_address(self, visit: Visit) -> Address | None:
        """Return whose unknown codes are counted; None: nobody's."""
        request = visit.request
        forwarded_for = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ()))
        return self._guests.address(request.remote or "", forwarded_for, request.transport)

    def _visit(self, request: web.BaseRequest, code: str, request_id: str) -> Visit:
        # A body that is not read must not be taken for the next request.
        close = self.health.state is State.DRAINING or request.method not in ("GET", "HEAD")
        return Visit(request, code, request_id, self._answers, close)

    def _refuse(self, status: int) -> web.Response:
        """Answer what cannot be read as a request, or what failed."""
        text = "This is no request that can be read.\n" if status < 500 else "Something went wrong here.\n"
        headers = {
            "Server": "linkrift",
            "X-Deployment-Version": self._version,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        return web.Response(status=status, text=text, headers=headers)

    async def _check_redis(self) -> None:
        await self._redis.ping()

    async def _keep_metrics(self) -> None:
        """Hand figures over to the slot's other processes, any of which may be asked for all."""
        while True:
            await asyncio.sleep(TALLY_SECONDS)
            self.refresh_metrics()
