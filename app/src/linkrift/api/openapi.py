"""The OpenAPI document, made from the table of routes and the models."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic.json_schema import models_json_schema

from linkrift.api import problems
from linkrift.api.idempotency import REPLAYED
from linkrift.api.models import Code, Problem
from linkrift.api.routing import PREFIX, Route

_REFERENCES = "#/components/schemas/{model}"

_NUMBER = {"type": "integer", "minimum": 0}
_HEADERS: dict[str, dict[str, Any]] = {
    "RateLimit-Policy": {
        "description": "The limit that was counted: so many requests (`q`) in so many seconds (`w`), so many at once.",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "How many are left (`r`), and in how many seconds all of them are there again (`t`).",
        "schema": {"type": "string"},
    },
    "RateLimit-Limit": {"description": "How many may come at once.", "schema": _NUMBER},
    "RateLimit-Remaining": {"description": "How many of them are left.", "schema": _NUMBER},
    "RateLimit-Reset": {"description": "In how many seconds all of them are there again.", "schema": _NUMBER},
    "Retry-After": {"description": "Seconds.", "schema": _NUMBER},
    "Location": {"description": "Where the link is.", "schema": {"type": "string"}},
    REPLAYED: {"description": "The answer was given before.", "schema": {"type": "string", "const": "true"}},
}
_LIMIT_HEADERS = ("RateLimit-Policy", "RateLimit", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
# What may be asked for again later.
_LATER = (429, 503)


def document(routes: Sequence[Route], version: str, api_url: str = "") -> dict[str, Any]:
    """Return the OpenAPI 3.1 document.

    Args:
        routes: all of them.
        version: the release id.
        api_url: where the API is served; empty: where the document came from.
    """
    models = {model for route in routes for model in (route.answer, route.body) if model is not None} | {Problem}
    ordered = sorted(models, key=lambda model: model.__name__)
    # Answers are described as they are sent: a field with a default is always there.
    modes: list[Any] = [
        (model, "validation" if any(route.body is model for route in routes) else "serialization") for model in ordered
    ]
    _, schema = models_json_schema(modes, ref_template=_REFERENCES)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Linkrift",
            "version": version,
            "description": "Short links and how often they are followed.",
        },
        "servers": [{"url": api_url or "/"}],
        "paths": paths,
        "components": {
            "schemas": schema.get("$defs", {}),
            "headers": _HEADERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "security": [{"bearer": []}] if route.authenticated else [],
        "responses": {str(route.status): _answer(route)},
    }
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(route.body)}},
        }
    for status in sorted({*route.problems, *_common_problems(route)}):
        operation["responses"][str(status)] = {
            "description": HTTPStatus(status).phrase,
            "headers": _headers(*_LIMIT_HEADERS, *(["Retry-After"] if status in _LATER else [])),
            "content": {problems.CONTENT_TYPE: {"schema": _reference(Problem)}},
        }
    return operation


def _headers(*names: str) -> dict[str, dict[str, str]]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _answer(route: Route) -> dict[str, Any]:
    more = ["Location", REPLAYED] if route.headers else []
    answer: dict[str, Any] = {
        "description": HTTPStatus(route.status).phrase,
        "headers": _headers(*_LIMIT_HEADERS, *more),
    }
    if route.answer is not None:
        answer["content"] = {"application/json": {"schema": _reference(route.answer)}}
    elif route.status != HTTPStatus.NO_CONTENT:
        answer["content"] = {"application/json": {"schema": {"type": "object"}}}
    return answer


def _common_problems(route: Route) -> list[int]:
    found = [429, 500]
    if route.authenticated:
        found += [401]
    if route.body is not None:
        found += [400, 408, 413, 415, 422]
    return found


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if "{code}" in route.path:
        pattern = Code.__metadata__[0].pattern  # type: ignore[attr-defined] # typeshed hides what Annotated keeps
        parameters.append(
            {"name": "code", "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}
        )
    parameters += [
        {"name": each.name, "in": "query", "required": False, "description": each.description, "schema": each.schema}
        for each in route.query
    ]
    parameters += [
        {"name": each.name, "in": "header", "required": False, "description": each.description, "schema": each.schema}
        for each in route.headers
    ]
    return parameters


def _reference(model: type[Any]) -> dict[str, str]:
    return {"$ref": _REFERENCES.format(model=model.__name__)}
