"""Who may ask how often: limits by operation and by who asks, and what the answers say about them.

The fields are those of draft-ietf-httpapi-ratelimit-headers-10 (`RateLimit-Policy`, `RateLimit`), and beside them the
three of its earlier versions (`RateLimit-Limit`, `-Remaining`, `-Reset`), which most clients know.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import uuid
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web

from linkrift import metrics
from linkrift.api.buckets import Buckets, Limit, Verdict
from linkrift.api.problems import ApiError
from linkrift.api.requests import owner_of
from linkrift.api.settings import RateLimitSettings
from linkrift.api.tokens import Tokens
from linkrift.visitors import VisitorNetworks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Who has an IPv6 address has at least this many of them.
IPV6_PREFIX = 64
VERDICT = web.RequestKey("verdict", Verdict)
# What asks for no operation at all: unknown paths and methods.
UNMATCHED = "unmatched"
SIGN_IN = "signIn"
# Whom the gates of a rollout ask for (migration 000004): one account for all hosts, each of which asks every second. It
# cannot sign in, so only who has our signing key can ask in its name.
CANARY_ACCOUNT = uuid.UUID("00000000-0000-4000-8000-000000000001")


class RateLimits:
    """Lets requests through or refuses them."""

    def __init__(
        self, settings: RateLimitSettings, buckets: Buckets, networks: VisitorNetworks, tokens: Tokens, secret: str
    ) -> None:
        """Prepare.

        Args:
            settings: the limits.
            buckets: count.
            networks: find out where a request came from.
            tokens: say whose it is.
            secret: hides addresses and names where the buckets are kept.
        """
        self._settings = settings
        self._buckets = buckets
        self._networks = networks
        self._tokens = tokens
        self._secret = hashlib.sha256(b"linkrift rate limits\0" + secret.encode()).digest()

    def around(self, operation: str, handler: Handler, *, writes: bool, authenticated: bool) -> Handler:
        """Return a handler that answers only as often as its operation may be asked for.

        Args:
            operation: its name.
            handler: answers it.
            writes: see Route.
            authenticated: counted by account. Otherwise a token counts for nothing: who has one must not be let sign
                in, or make accounts, more often than others.
        """
        limit = self._limit(operation, writes=writes)

        async def limited(request: web.Request) -> web.StreamResponse:
            owner = owner_of(request, self._tokens) if authenticated else None
            if owner != CANARY_ACCOUNT:
                await self._spend(request, limit, self._address(request) if owner is None else str(owner))
            return await handler(request)

        return limited

    async def spend_unmatched(self, request: web.Request) -> None:
        """Count a request that asks for nothing there is.

        Raises:
            ApiError: 429.
        """
        await self._spend(request, self._limit(UNMATCHED, writes=False), self._address(request))

    async def spend_sign_in(self, request: web.Request, email: str) -> None:
        """Count an attempt to sign in to an account, from wherever it comes.

        Raises:
            ApiError: 429.
        """
        settings = self._settings
        limit = Limit(SIGN_IN, settings.logins, settings.login_window, settings.logins)
        verdict = await self._buckets.take(limit, f"{SIGN_IN}:{self._hidden(email)}")
        if not verdict.allowed:
            request[VERDICT] = verdict
            raise _refusal(verdict)

    async def _spend(self, request: web.Request, limit: Limit, principal: str) -> None:
        verdict = await self._buckets.take(limit, f"{limit.name}:{principal}")
        request[VERDICT] = verdict
        if not verdict.allowed:
            raise _refusal(verdict)

    def _limit(self, operation: str, *, writes: bool) -> Limit:
        settings = self._settings
        requests = settings.writes if writes else settings.requests
        return Limit(operation, requests, settings.window, requests * settings.burst)

    def _address(self, request: web.Request) -> str:
        """Return where a request came from, hidden: the address or, with IPv6, its network."""
        forwarded_for = ",".join(request.headers.getall("X-Forwarded-For", ()))
        address = self._networks.address(request.remote or "", forwarded_for)
        if isinstance(address, ipaddress.IPv6Address):
            return self._hidden(str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False)))
        return self._hidden(str(address or ""))

    def _hidden(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), "sha256").hexdigest()[:32]


def headers_of(verdict: Verdict) -> dict[str, str]:
    """Return what an answer says about the limit it was counted against."""
    limit = verdict.limit
    reset = str(math.ceil(verdict.full_after))
    quota = f"q={limit.requests};w={math.ceil(limit.window)};linkrift-burst={limit.burst}"
    return {
        "RateLimit-Policy": f'"{limit.name}";{quota}',
        "RateLimit": f'"{limit.name}";r={verdict.remaining};t={reset}',
        "RateLimit-Limit": str(limit.burst),
        "RateLimit-Remaining": str(verdict.remaining),
        "RateLimit-Reset": reset,
    }


def _refusal(verdict: Verdict) -> ApiError:
    metrics.RATE_LIMITED.labels(verdict.limit.name).inc()
    seconds = max(1, math.ceil(verdict.retry_after))
    detail = f"Too many requests of this kind. The next one may come in {seconds} seconds."
    return ApiError(429, detail, headers={"Retry-After": str(seconds)})
