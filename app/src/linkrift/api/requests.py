"""Takes requests apart: bodies, cursors, who is asking."""

from __future__ import annotations

import uuid
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from linkrift.api.problems import ApiError
from linkrift.api.tokens import TokenError, Tokens

MAXIMUM_BODY = 64 * 1024

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: web.Request, model: type[Model]) -> Model:
    """Read and check a JSON body.

    Raises:
        ApiError: 415 another content type, 413 too large (chunked, too), 400 not JSON, 422 not what is expected.
    """
    if request.content_type != "application/json":
        raise ApiError(415, "Send application/json.")
    try:
        data = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise ApiError(413, f"The body may have {MAXIMUM_BODY} bytes.") from error
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        if any(item["type"] == "json_invalid" for item in error.errors(include_url=False)):
            raise ApiError(400, "The body is not JSON.") from error
        raise ApiError(422, "The body is not what is expected.", field_errors(error)) from error


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
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ApiError(401, "Send an access token.", headers={"WWW-Authenticate": "Bearer"})
    try:
        return tokens.verify(token.strip())
    except TokenError as error:
        headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise ApiError(401, "The access token is not good, or no longer.", headers=headers) from error
