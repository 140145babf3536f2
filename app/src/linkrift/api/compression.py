"""Compresses answers for clients that take gzip."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TypeAlias

from aiohttp import web

MINIMUM_BYTES = 1024
# More than this takes a millisecond or more: that is not for the loop that answers everybody.
INLINE_BYTES = 32 * 1024
LEVEL = 5
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

TYPES = frozenset({"application/json", "application/problem+json"})


def compressed(handler: Handler) -> Handler:
    """Return a handler whose answers are compressed."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        await compress(request, response)
        return response

    return answer


async def compress(request: web.Request, response: web.StreamResponse) -> None:
    """Compress an answer if it is worth it and the client takes it.

    An answer with a secret in it must not come here: together with something that a stranger chose, its compressed
    length would tell what the secret begins with. Access tokens, therefore, are sent as they are.
    """
    if not isinstance(response, web.Response) or response.content_type not in TYPES:
        return
    body = response.body
    if not isinstance(body, bytes) or len(body) < MINIMUM_BYTES or "Content-Encoding" in response.headers:
        return
    response.headers.add("Vary", "Accept-Encoding")
    if not takes_gzip(",".join(request.headers.getall("Accept-Encoding", ()))):
        return
    if len(body) <= INLINE_BYTES:
        response.body = gzip.compress(body, LEVEL, mtime=0)
    else:
        response.body = await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
    response.headers["Content-Encoding"] = "gzip"


@lru_cache(maxsize=256)
def takes_gzip(accepted: str) -> bool:
    """Tell whether an Accept-Encoding header asks for gzip (RFC 9110, 12.5.3)."""
    qualities: dict[str, float] = {}
    for part in accepted.lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _quality(value.strip())
        qualities["gzip" if coding == "x-gzip" else coding] = quality
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _quality(text: str) -> float:
    """Return a quality; 0 for what is none."""
    if not (len(text) <= 5 and text.replace(".", "", 1).isdecimal() and text.isascii()):
        return 0.0
    return min(float(text), 1.0)
