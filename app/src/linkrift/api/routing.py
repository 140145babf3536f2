"""The table of routes: what is served, and what the OpenAPI document says, come from the same lines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import BaseModel

PREFIX = "/api/v1"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class QueryParameter:
    """A parameter in the query.

    Attributes:
        schema: its JSON schema.
    """

    name: str
    description: str
    schema: dict[str, object]


@dataclass(frozen=True)
class HeaderParameter(QueryParameter):
    """A parameter in a field of the head."""


@dataclass(frozen=True)
class Route:
    """One operation.

    Attributes:
        method: the HTTP method.
        path: below PREFIX, with `{code}` for a link's code.
        handler: answers it.
        operation: its name in the OpenAPI document.
        summary: what it does.
        status: of the answer when all is well.
        answer: the answer's body; None: empty, or a document of its own.
        body: the request's body, if it takes one.
        problems: the statuses that it may answer otherwise, beside those that any operation may.
        authenticated: it needs an access token.
        query: its parameters.
        headers: fields of the head that it looks at.
    """

    method: str
    path: str
    handler: Handler
    operation: str
    summary: str
    status: int = 200
    answer: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    problems: tuple[int, ...] = ()
    authenticated: bool = True
    query: tuple[QueryParameter, ...] = ()
    headers: tuple[HeaderParameter, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether it changes something, or costs as much: it may be asked for less often."""
        return self.method != "GET"
