"""Takes requests apart: bodies, who is asking."""

from __future__ import annotations

import asyncio
import uuid
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from linkrift.api import bodies
from linkrift.api.problems import ApiError
from linkrift.api.tokens import TokenError, Tokens

MAXIMUM_BODY = 64 * 1024
# Balancers send a body that fits their buffer as a whole; a longer one has this many seconds.
BODY_SECONDS = 10.0

Model = TypeVar("Model", bound=BaseModel)

# What came of looking at a request's access token; it is looked at once.
_OWNER = web.RequestKey("owner", uuid.UUID)
_REFUSAL = web.RequestKey("refusal", ApiError)


async def read_body(request: web.Request, model: type[Model]) -> Model:
    """Read and check a JSON body.

    Raises:
        ApiError: 415 another content type, encoding or character set, 413 too large (chunked, too), 408 too slow,
            400 not JSON or none that is worth reading, 422 not what is expected.
    """
    data = await read_json(request)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        if any(item["type"] == "json_invalid" for item in error.errors(include_url=False)):
            raise ApiError(400, "The body is not JSON.") from error
        raise ApiError(422, "The body is not what is expected.", field_errors(error)) from error


async def read_json(request: web.Request) -> bytes:
    """Read a body that says that it is JSON, and is not too large in any way; a second time it is there already.

    Raises:
        ApiError: see read_body.
    """
    _check_type(request)
    if (request.content_length or 0) > MAXIMUM_BODY:
        raise _too_large()
    try:
        data = await asyncio.wait_for(request.read(), BODY_SECONDS)
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large() from error
    except asyncio.TimeoutError as error:
        raise ApiError(408, "The body did not arrive in time.") from error
    except (OSError, web.RequestPayloadError) as error:
        # Who hangs up, or sends what is none, makes no error of ours: a rollout is undone for one.
        raise ApiError(400, "The body did not arrive as a whole.") from error
    try:
        bodies.check(data)
    except bodies.BodyError as error:
        raise ApiError(400, str(error)) from error
    return data


def field_errors(error: ValidationError) -> list[dict[str, str]]:
    """Return what is wrong with each field, without the values: one of them may be a password."""
    return [
        {
            "field": ".".join(map(str, item["loc"])) or "body",
            "message": item["msg"].removeprefix("Value error, "),
        }
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def authenticate(request: web.Request, tokens: Tokens) -> uuid.UUID:
    """Return the user that a request's access token was issued to.

    Raises:
        ApiError: 401.
    """
    owner = owner_of(request, tokens)
    if owner is None:
        raise request[_REFUSAL]
    return owner


def owner_of(request: web.Request, tokens: Tokens) -> uuid.UUID | None:
    """Return the user that a request's access token was issued to, or None where there is no good one."""
    if _OWNER not in request and _REFUSAL not in request:
        try:
            request[_OWNER] = _authenticate(request, tokens)
        except ApiError as refusal:
            request[_REFUSAL] = refusal
    return request.get(_OWNER)


def _authenticate(request: web.Request, tokens: Tokens) -> uuid.UUID:
    values = request.headers.getall("Authorization", ())
    scheme, _, token = (values[0] if len(values) == 1 else "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ApiError(401, "Send an access token.", headers={"WWW-Authenticate": "Bearer"})
    try:
        return tokens.verify(token.strip(" "))
    except TokenError as error:
        headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise ApiError(401, "The access token is not good, or no longer.", headers=headers) from error


def _check_type(request: web.Request) -> None:
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise ApiError(415, "Send application/json in UTF-8.", headers={"Accept": "application/json"})
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        # A few compressed bytes could be a body of any size.
        raise ApiError(415, "Send the body as it is, not compressed.", headers={"Accept-Encoding": "identity"})


def _too_large() -> ApiError:
    return ApiError(413, f"The body may have {MAXIMUM_BODY} bytes.")
