"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from aiohttp import web

CONTENT_TYPE = "application/problem+json"


class ApiError(Exception):
    """A request that gets an error for an answer.

    Attributes:
        status: the HTTP status.
        detail: one sentence for the one who sent it.
        errors: what is wrong with each field: `field` and `message`.
        headers: more headers of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors or []
        self.headers = headers or {}

    def response(self, request_id: str) -> web.Response:
        """Return the answer."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.errors:
            document["errors"] = self.errors
        return web.Response(
            status=self.status, text=json.dumps(document), content_type=CONTENT_TYPE, headers=self.headers
        )


def unavailable(what: str) -> ApiError:
    """Return the problem of a data store that is away."""
    return ApiError(503, f"{what} cannot be reached at the moment.", headers={"Retry-After": "5"})
