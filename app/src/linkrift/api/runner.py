"""Serves the API's application, so that whatever does not reach it gets an answer of the API's form all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from linkrift.api.headers import SECURITY_HEADERS
from linkrift.api.problems import ApiError
from linkrift.connections import Server
from linkrift.request_ids import HEADER as REQUEST_ID
from linkrift.request_ids import RequestIds

# A client whose body was refused may go on sending for so long: one that read the answer stops.
LINGERING_SECONDS = 2.0

_DETAILS: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "This is not HTTP as it should be.",
    HTTPStatus.EXPECTATION_FAILED: "Nothing but 100-continue can be expected.",
}


class ApiRunner(web.AppRunner):
    """Serves an application."""

    def __init__(self, application: web.Application, version: str, shutdown_timeout: float) -> None:
        """Prepare.

        Args:
            application: answers requests.
            version: the release id.
            shutdown_timeout: see Service.make_runner.
        """
        super().__init__(application, access_log=None, shutdown_timeout=shutdown_timeout)
        self._version = version
        self._request_ids = RequestIds()

    def refuse(self, status: int) -> web.Response:
        """Return the answer to a request that reached nothing which could answer it."""
        request_id = self._request_ids.of(None)
        detail = _DETAILS.get(status, "Something went wrong here.")
        response = ApiError(status, detail).response(request_id)
        response.headers.update(SECURITY_HEADERS)
        own = {REQUEST_ID: request_id, "X-Deployment-Version": self._version, "Server": "linkrift"}
        response.headers.update({**own, "Cache-Control": "no-store"})
        return response

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        return Server(
            self._answer_with(plain.request_handler),
            refuse=self.refuse,
            request_factory=plain.request_factory,
            access_log=None,
            # What is compressed is refused, not unpacked.
            auto_decompress=False,
            lingering_time=LINGERING_SECONDS,
        )

    def _answer_with(
        self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPException as error:
                # An expectation (RFC 9110, 10.1.1) is looked at before everything else.
                return self.refuse(error.status)

        return answer
