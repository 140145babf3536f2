"""One process of the API service."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from linkrift import metrics, tasks
from linkrift.admission import Admission
from linkrift.api import openapi
from linkrift.api.accounts import Accounts
from linkrift.api.audit import AuditLog
from linkrift.api.buckets import Buckets
from linkrift.api.compression import compressed
from linkrift.api.handlers import Handlers
from linkrift.api.idempotency import Idempotency
from linkrift.api.invalidation import Invalidation
from linkrift.api.middleware import Surroundings
from linkrift.api.passwords import Passwords
from linkrift.api.rate_limits import RateLimits
from linkrift.api.requests import MAXIMUM_BODY
from linkrift.api.routing import PREFIX, Route
from linkrift.api.runner import ApiRunner
from linkrift.api.settings import ApiSettings
from linkrift.api.store import Links
from linkrift.api.tokens import Tokens
from linkrift.clickhouse import GuardedClickHouse
from linkrift.connections import SilentConnections
from linkrift.health import Health
from linkrift.lifecycle import Activity, Process
from linkrift.link_passwords import LinkPasswords
from linkrift.operations import OPERATIONS_PATHS, Operations
from linkrift.postgres import Database
from linkrift.redis_client import connect_guarded
from linkrift.release import Release
from linkrift.visitors import VisitorNetworks

CLICKHOUSE_THREADS = 4
CLICKHOUSE_SECONDS = 10.0
# Longer than most statements take, shorter than people wait.
CLICKHOUSE_PATIENCE_SECONDS = 3.0
METRICS_SECONDS = 1.0
LINK_PASSWORDS_WAITING = 32


class ApiService:
    """Answers the API."""

    def __init__(self, settings: ApiSettings, release: Release, process: Process) -> None:
        """Prepare; nothing is connected yet. Must be called in the loop that runs it."""
        name = f"linkrift-api-{settings.process.slot or 'dev'}"
        self._database = Database(settings.database, name)
        self._redis = connect_guarded(settings.redis, name)
        self._clickhouse = GuardedClickHouse(
            settings.clickhouse,
            threads=CLICKHOUSE_THREADS,
            statement_timeout=CLICKHOUSE_SECONDS,
            patience=CLICKHOUSE_PATIENCE_SECONDS,
        )
        self._passwords = Passwords()
        self._link_passwords = LinkPasswords(waiting=LINK_PASSWORDS_WAITING)
        self._invalidation = Invalidation(self._redis)
        networks = VisitorNetworks(settings.trusted_proxies)
        self._audit = AuditLog(
            settings.audit_log,
            networks,
            {"slot": settings.process.slot, "version": release.id},
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.activity = Activity()
        self.health = Health(
            "api",
            release.id,
            settings.process.slot,
            Admission(settings.process.admission_file, settings.process.live_link),
            {"postgresql": self._database.check, "redis": self._check_redis, "clickhouse": self._check_clickhouse},
        )
        self._operations = Operations(self.health, process.board, self.refresh_metrics)
        links = Links(self._database)
        tokens = Tokens(settings.jwt_secret, settings.jwt_previous_secrets, settings.jwt_expiry)
        buckets = Buckets(self._redis, settings.process.processes)
        self._limits = RateLimits(settings.rate_limits, buckets, networks, tokens, settings.jwt_secret)
        self._idempotency = Idempotency(self._database, links)
        handlers = Handlers(
            accounts=Accounts(self._database),
            links=links,
            passwords=self._passwords,
            tokens=tokens,
            invalidation=self._invalidation,
            clickhouse=self._clickhouse,
            audit=self._audit,
            link_passwords=self._link_passwords,
            limits=self._limits,
            idempotency=self._idempotency,
            public_url=settings.public_url,
            own_hosts=settings.own_hosts,
        )
        self._routes = handlers.routes()
        self._routes.append(
            Route(
                *("GET", "/openapi.json", self._serve_openapi, "openapi", "This document"),
                authenticated=False,
            )
        )
        self._openapi = json.dumps(openapi.document(self._routes, release.id))
        self._application = self._make_application(Surroundings(release.id, self.health, self.activity, self._limits))
        self._runner: web.BaseRunner | None = None
        self._version = release.id
        self._silent_connections = SilentConnections(lambda: self._runner.server if self._runner else None)

    def make_runner(self, shutdown_timeout: float) -> web.BaseRunner:
        """Return what serves the port."""
        self._runner = ApiRunner(self._application, self._version, shutdown_timeout)
        return self._runner

    async def start(self) -> None:
        """Start what runs beside the requests and connect to what can be reached."""
        self._tasks = [
            asyncio.create_task(self._invalidation.run()),
            asyncio.create_task(self._idempotency.run()),
            asyncio.create_task(self._silent_connections.run()),
            asyncio.create_task(self._keep_metrics()),
        ]
        await self._database.open()

    async def flush(self, deadline_seconds: float) -> None:
        """Write what waits for the audit log, and announce the changed links that were not announced yet."""
        await tasks.end(self._tasks)
        # Side by side: each may need all of the time, and neither waits for the other's disk or server.
        await asyncio.gather(self._audit.flush(deadline_seconds), self._invalidation.flush(deadline_seconds))

    async def close(self) -> None:
        """Close Redis, then PostgreSQL and ClickHouse; the metrics are the last to know."""
        await self._redis.aclose()
        await self._database.close()
        await self._clickhouse.close()
        self._passwords.close()
        self._link_passwords.close()
        self.refresh_metrics()

    def refresh_metrics(self) -> None:
        """Bring gauges up to date."""
        self._database.refresh_metrics()
        server = self._runner.server if self._runner else None
        metrics.ACTIVE_CONNECTIONS.set(len(server.connections) if server else 0)

    def _make_application(self, surroundings: Surroundings) -> web.Application:
        application = web.Application(middlewares=[surroundings.middleware], client_max_size=MAXIMUM_BODY)
        for route in self._routes:
            handler = self._limits.around(
                route.operation, route.handler, writes=route.writes, authenticated=route.authenticated
            )
            if route.method == "GET":
                # What answers otherwise may hold an access token: see there.
                handler = compressed(handler)
                application.router.add_route("HEAD", PREFIX + route.path, handler)
            application.router.add_route(route.method, PREFIX + route.path, handler)
        for path in sorted(OPERATIONS_PATHS):
            application.router.add_route("*", path, self._operate)
        application.on_response_prepare.append(_name_the_server)
        return application

    async def _operate(self, request: web.Request) -> web.StreamResponse:
        return await self._operations.answer(request.method, request.path)

    async def _serve_openapi(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._openapi, content_type="application/json")

    async def _check_redis(self) -> None:
        await self._redis.ping()

    async def _check_clickhouse(self) -> None:
        await self._clickhouse.execute("SELECT 1")

    async def _keep_metrics(self) -> None:
        while True:
            await asyncio.sleep(METRICS_SECONDS)
            self.refresh_metrics()


async def _name_the_server(_request: web.Request, response: web.StreamResponse) -> None:
    """Say what this is, not which versions of what it is made of."""
    response.headers["Server"] = "linkrift"
