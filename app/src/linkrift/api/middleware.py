"""What happens around every request of the API: its id, its errors, its headers, its log line and its metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from linkrift import logs, metrics
from linkrift.api.headers import SECURITY_HEADERS
from linkrift.api.problems import ApiError, unavailable
from linkrift.api.rate_limits import VERDICT, RateLimits, headers_of
from linkrift.clickhouse import ClickHouseAwayError
from linkrift.health import Health, State
from linkrift.lifecycle import Activity
from linkrift.operations import OPERATIONS_PATHS
from linkrift.password_queue import BusyError
from linkrift.postgres import DatabaseAwayError
from linkrift.request_ids import HEADER as REQUEST_ID
from linkrift.request_ids import RequestIds

LOG = logging.getLogger("linkrift.api.access")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
UNMATCHED = "unmatched"


class Surroundings:
    """The API's one middleware: each more would cost every request."""

    def __init__(self, version: str, health: Health, activity: Activity, limits: RateLimits) -> None:
        self._version = version
        self._health = health
        self._activity = activity
        self._limits = limits
        self._request_ids = RequestIds()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request, whatever happens."""
        request_id = self._request_ids.of(request.headers.get(REQUEST_ID))
        # Each request runs in a task of its own, so this does not leak into the next one.
        logs.request_id.set(request_id)
        started = time.monotonic()
        operations = request.path in OPERATIONS_PATHS
        if not operations:
            self._activity.last = started
            self._activity.unanswered += 1
        try:
            response = await self._answer(request, handler, request_id)
        finally:
            if not operations:
                self._activity.unanswered -= 1
        seconds = time.monotonic() - started
        response.headers.update(SECURITY_HEADERS)
        response.headers.update({REQUEST_ID: request_id, "X-Deployment-Version": self._version})
        if (verdict := request.get(VERDICT)) is not None:
            response.headers.update(headers_of(verdict))
        response.headers.setdefault("Cache-Control", "no-store")
        draining = self._health.state is State.DRAINING and not operations
        if draining or response.status == HTTPStatus.REQUEST_TIMEOUT:
            response.force_close()
        if not operations:
            self._record(request, response.status, seconds)
        return response

    def _record(self, request: web.Request, status: int, seconds: float) -> None:
        resource = request.match_info.route.resource
        path = UNMATCHED if resource is None else resource.canonical
        method = request.method if request.method in _METHODS else "other"
        metrics.HTTP_REQUESTS.labels(method, path, str(status)).inc()
        metrics.HTTP_SECONDS.labels(method, path, str(status)).observe(seconds)
        fields = {"method": method, "path": path, "status": status, "duration_ms": round(seconds * 1000, 3)}
        LOG.info("request", extra=fields)

    async def _answer(self, request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
        """Run the handler and turn whatever it raises into an answer."""
        try:
            if request.match_info.http_exception is not None:
                await self._limits.spend_unmatched(request)
            return await handler(request)
        except ApiError as problem:
            return problem.response(request_id)
        except DatabaseAwayError as error:
            LOG.warning("PostgreSQL is away: %s", error)
            return unavailable("The database").response(request_id)
        except ClickHouseAwayError as error:
            LOG.warning("ClickHouse is away: %s", error)
            return unavailable("The click counts").response(request_id)
        except BusyError:
            # Nothing is broken: as a 5xx it would let anybody undo a rollout.
            detail = "Too many passwords are being checked at the moment."
            return ApiError(429, detail, headers={"Retry-After": "1"}).response(request_id)
        except web.HTTPException as error:
            headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            detail = "There is nothing here." if error.status == 404 else f"{error.reason}."
            return ApiError(error.status, detail, headers=headers).response(request_id)
        except Exception:
            LOG.exception("a request failed", extra={"path": request.path})
            return ApiError(500, "Something went wrong here; the request id helps to find it.").response(request_id)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
