"""The API's operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel

from linkrift import codes
from linkrift.api import cursors, stats, targets
from linkrift.api.accounts import Accounts, EmailTakenError
from linkrift.api.audit import AuditLog
from linkrift.api.idempotency import HEADER, REPLAYED, Given, Idempotency
from linkrift.api.invalidation import Invalidation
from linkrift.api.models import Account, Credentials, Link, LinkChange, LinkPage, NewLink, Token, utc
from linkrift.api.passwords import Passwords
from linkrift.api.problems import ApiError
from linkrift.api.rate_limits import RateLimits
from linkrift.api.requests import authenticate, read_body
from linkrift.api.routing import HeaderParameter, QueryParameter, Route
from linkrift.api.store import CodeTakenError, Column, Links, OwnerGoneError, StoredLink
from linkrift.api.tokens import Tokens
from linkrift.clickhouse import ClickHouse
from linkrift.link_passwords import LinkPasswords
from linkrift.password_queue import BusyError

PAGE_DEFAULT = 50
PAGE_MAXIMUM = 200

_LINK_PAGE_QUERY = (
    QueryParameter(
        "limit",
        "How many links at most.",
        {"type": "integer", "minimum": 1, "maximum": PAGE_MAXIMUM, "default": PAGE_DEFAULT},
    ),
    QueryParameter("cursor", "Where the page before ended: its `next_cursor`.", {"type": "string"}),
)

# Fields of a body and their columns; a password is not stored as it came.
_COLUMNS: tuple[tuple[str, Column], ...] = (
    ("url", "original_url"),
    ("title", "title"),
    ("is_active", "is_active"),
    ("active_from", "active_from"),
    ("expires_at", "expires_at"),
    ("redirect_status", "redirect_status"),
    ("forward_query", "forward_query"),
    ("password", "password_hash"),
    ("max_clicks", "max_clicks"),
)
_NEVER_NULL = frozenset({"url", "is_active", "redirect_status", "forward_query"})

IDEMPOTENCY_KEY = HeaderParameter(
    HEADER,
    "Makes it safe to repeat the request: within 24 hours, the same key gets the same answer, and there is one link.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-\\[\\]-~]+$"},
)

OwnerHandler = Callable[[web.Request, UUID], Awaitable[web.StreamResponse]]


class Handlers:
    """Answers the API's operations."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        links: Links,
        passwords: Passwords,
        tokens: Tokens,
        invalidation: Invalidation,
        clickhouse: ClickHouse,
        audit: AuditLog,
        link_passwords: LinkPasswords,
        limits: RateLimits,
        idempotency: Idempotency,
        public_url: str,
        own_hosts: Collection[str],
    ) -> None:
        self._accounts = accounts
        self._links = links
        self._passwords = passwords
        self._tokens = tokens
        self._invalidation = invalidation
        self._clickhouse = clickhouse
        self._audit = audit
        self._limits = limits
        self._idempotency = idempotency
        self._public_url = public_url
        self._link_passwords = link_passwords
        self._own_hosts = own_hosts

    def routes(self) -> list[Route]:
        """Return the table of routes."""
        owned = self._owned
        return [
            Route(
                *("POST", "/auth/register", self.register, "register", "Make an account"),
                status=201,
                answer=Account,
                body=Credentials,
                problems=(409, 503),
                authenticated=False,
            ),
            Route(
                *("POST", "/auth/login", self.login, "login", "Get an access token"),
                answer=Token,
                body=Credentials,
                problems=(401, 503),
                authenticated=False,
            ),
            Route(
                *("POST", "/links", owned(self.create_link), "createLink", "Make a link"),
                status=201,
                answer=Link,
                body=NewLink,
                problems=(409, 503),
                headers=(IDEMPOTENCY_KEY,),
            ),
            Route(
                *("GET", "/links", owned(self.list_links), "listLinks", "List your links, newest first"),
                answer=LinkPage,
                problems=(400, 503),
                query=_LINK_PAGE_QUERY,
            ),
            Route(
                *("GET", "/links/{code}", owned(self.get_link), "getLink", "Show a link"),
                answer=Link,
                problems=(404, 503),
            ),
            Route(
                *("PATCH", "/links/{code}", owned(self.change_link), "changeLink", "Change a link"),
                answer=Link,
                body=LinkChange,
                problems=(404, 503),
            ),
            Route(
                *("DELETE", "/links/{code}", owned(self.delete_link), "deleteLink", "Delete a link, for good"),
                status=204,
                problems=(404, 503),
            ),
            Route(
                *("GET", "/links/{code}/stats", owned(self.stats), "linkStats", "Count a link's clicks"),
                answer=stats.Stats,
                problems=(400, 404, 503),
                query=stats.QUERY,
            ),
        ]

    async def register(self, request: web.Request) -> web.Response:
        """Make an account."""
        body = await read_body(request, Credentials)
        await self._spend_sign_in(request, "account.register", body.email)
        password_hash = await self._passwords.hash(body.password)
        try:
            user_id = await self._accounts.create(body.email, password_hash)
        except EmailTakenError as error:
            self._audit.record(request, "account.register", outcome="address taken")
            raise ApiError(409, "There is an account with this address.") from error
        self._audit.record(request, "account.register", account=user_id)
        token, expiry = self._tokens.issue(user_id), self._tokens.expiry
        return _json(Account(id=user_id, email=body.email, access_token=token, expires_in=expiry), 201)

    async def login(self, request: web.Request) -> web.Response:
        """Issue an access token. Whether address or password was wrong, or the account is off, is not told."""
        body = await read_body(request, Credentials)
        await self._spend_sign_in(request, "account.login", body.email)
        account = await self._accounts.find(body.email)
        known = account is not None and account.is_active
        right = await self._passwords.verify(account.password_hash if account and known else None, body.password)
        if account is None or not right:
            reason = "unknown address" if account is None else "wrong password" if known else "account is off"
            self._audit.record(
                request, "account.login", outcome=reason, account=None if account is None else account.id
            )
            raise ApiError(401, "Address or password is wrong.", headers={"WWW-Authenticate": "Bearer"})
        self._audit.record(request, "account.login", account=account.id)
        return _json(Token(access_token=self._tokens.issue(account.id), expires_in=self._tokens.expiry))

    async def create_link(self, request: web.Request, owner: UUID) -> web.Response:
        """Make a link."""
        body = await read_body(request, NewLink)
        if body.code is not None and codes.is_reserved(body.code):
            raise _invalid("code", "is reserved")
        values = await self._values(body)
        try:
            async with self._idempotency.attempt(request, owner) as attempt:
                if attempt.given is not None:
                    return await self._create_again(request, owner, attempt.given)
                link = await attempt.links.create(owner, body.code, values)
                created = self._present(link)
                await attempt.keep(link.short_code, created.model_dump_json())
        except CodeTakenError as error:
            raise ApiError(409, "This code is taken.") from error
        except OwnerGoneError as error:
            raise ApiError(401, "The account is gone.", headers={"WWW-Authenticate": "Bearer"}) from error
        self._audit.record(
            request, "link.create", account=owner, code=link.short_code, target=_host_of(link.original_url)
        )
        # The redirect processes may remember that there was no such link.
        await self._invalidation.announce(link.short_code, link.state())
        response = _json(created, 201)
        response.headers["Location"] = f"{request.path}/{link.short_code}"
        return response

    async def _create_again(self, request: web.Request, owner: UUID, given: Given) -> web.Response:
        """Give the answer that was given before."""
        self._audit.record(request, "link.create", outcome="repeated", account=owner, code=given.code)
        # Whoever made the link may have been killed before it could announce it.
        link = await self._links.find(owner, given.code)
        if link is not None:
            await self._invalidation.announce(link.short_code, link.state())
        headers = {"Location": f"{request.path}/{given.code}", REPLAYED: "true"}
        return web.Response(status=201, text=given.answer, content_type="application/json", headers=headers)

    async def list_links(self, request: web.Request, owner: UUID) -> web.Response:
        """List the owner's links."""
        text = request.query.get("limit", str(PAGE_DEFAULT))
        if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= PAGE_MAXIMUM):
            raise ApiError(400, f"`limit` must be a whole number from 1 to {PAGE_MAXIMUM}.")
        limit = int(text)
        cursor = request.query.get("cursor")
        try:
            after = None if cursor is None else cursors.decode(cursor)
        except cursors.CursorError as error:
            raise ApiError(400, "`cursor` must be a `next_cursor` from an earlier page.") from error
        # One more than asked for tells whether there is a next page.
        links = await self._links.page(owner, limit + 1, after)
        last = links[limit - 1] if len(links) > limit else None
        following = None if last is None else cursors.encode(last.created_at, last.id)
        return _json(LinkPage(items=[self._present(link) for link in links[:limit]], next_cursor=following))

    async def get_link(self, request: web.Request, owner: UUID) -> web.Response:
        """Show a link."""
        return _json(self._present(_found(await self._links.find(owner, _code(request)))))

    async def change_link(self, request: web.Request, owner: UUID) -> web.Response:
        """Change a link."""
        code = _code(request)
        body = await read_body(request, LinkChange)
        changes = await self._values(body)
        link = _found(await self._links.change(owner, code, changes))
        changed = {"target": _host_of(link.original_url)} if "original_url" in changes else {}
        fields = sorted(body.model_fields_set)
        self._audit.record(request, "link.update", account=owner, code=link.short_code, fields=fields, **changed)
        await self._invalidation.announce(link.short_code, link.state())
        return _json(self._present(link))

    async def delete_link(self, request: web.Request, owner: UUID) -> web.Response:
        """Delete a link."""
        link = _found(await self._links.delete(owner, _code(request)))
        self._audit.record(request, "link.delete", account=owner, code=link.short_code)
        await self._invalidation.announce(link.short_code, link.state())
        return web.Response(status=204)

    async def stats(self, request: web.Request, owner: UUID) -> web.Response:
        """Count a link's clicks."""
        question = stats.read_question(request.query, datetime.now(timezone.utc))
        link = _found(await self._links.find(owner, _code(request)))
        return _json(await stats.read_stats(self._clickhouse, link.short_code, question))

    async def _spend_sign_in(self, request: web.Request, action: str, email: str) -> None:
        """Count an attempt to sign in; too many are refused, from wherever they come."""
        try:
            await self._limits.spend_sign_in(request, email)
        except ApiError:
            self._audit.record(request, action, outcome="too many attempts")
            raise

    def _owned(self, handler: OwnerHandler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Give a handler the user who asks."""

        async def authenticated(request: web.Request) -> web.StreamResponse:
            return await handler(request, authenticate(request, self._tokens))

        return authenticated

    async def _values(self, body: NewLink | LinkChange) -> dict[Column, Any]:
        """Return the columns that a body sets."""
        values: dict[Column, Any] = {}
        for field, column in _COLUMNS:
            if field not in body.model_fields_set:
                continue
            value = getattr(body, field)
            if value is None and field in _NEVER_NULL:
                raise _invalid(field, "must not be null")
            if field == "url":
                value = self._target(value)
            elif field == "password" and value is not None:
                value = await self._hash(value)
            values[column] = value
        return values

    async def _hash(self, password: str) -> str:
        try:
            return await self._link_passwords.hash(password)
        except BusyError as error:
            raise ApiError(429, "Too many passwords are being set.", headers={"Retry-After": "1"}) from error

    def _target(self, url: str) -> str:
        try:
            return targets.normalise(url, self._own_hosts)
        except targets.TargetError as error:
            raise _invalid("url", str(error)) from error

    def _present(self, link: StoredLink) -> Link:
        return Link(
            code=link.short_code,
            short_url=f"{self._public_url}/{link.short_code}",
            url=link.original_url,
            title=link.title,
            is_active=link.is_active,
            active_from=None if link.active_from is None else utc(link.active_from),
            expires_at=None if link.expires_at is None else utc(link.expires_at),
            redirect_status=link.redirect_status,
            forward_query=link.forward_query,
            has_password=link.password > 0,
            max_clicks=link.max_clicks,
            clicks_used=link.clicks_used,
            created_at=utc(link.created_at),
            updated_at=utc(link.updated_at),
        )


def _code(request: web.Request) -> str:
    """Return the code that a request is about; what can be none does not get to the store: it may not even take it."""
    code = request.match_info["code"]
    if not codes.is_code(code):
        raise _no_such_link()
    return code


def _found(link: StoredLink | None) -> StoredLink:
    if link is None:
        raise _no_such_link()
    return link


def _no_such_link() -> ApiError:
    return ApiError(404, "You have no such link.")


def _host_of(url: str) -> str:
    """Return a target's host: of the rest, a query may hold what is none of the log's business."""
    return urlsplit(url).hostname or ""


def _invalid(field: str, message: str) -> ApiError:
    return ApiError(422, "The body is not what is expected.", [{"field": field, "message": message}])


def _json(model: BaseModel, status: int = 200) -> web.Response:
    return web.Response(status=status, text=model.model_dump_json(), content_type="application/json")
