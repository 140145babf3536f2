"""Use the platform as its users do: an account, links, a visitor who follows one; by HTTPS through the balancer."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from tools.lab import LabToolError

_AT_ONCE = 8
_REQUEST_SECONDS = 20.0
# A deploy may be under way, or a limit of requests a minute reached.
_PATIENCE_SECONDS = 90.0
_CLICK_SECONDS = 30.0
_BUSY = (429, 502, 503, 504)


@dataclass(frozen=True)
class Link:
    """A link of the lab's account.

    Attributes:
        code: Its code; the same URL always gets the same, so that a second run adds nothing.
        url: Where it leads.
    """

    code: str
    url: str

    @classmethod
    def to(cls, url: str) -> Link:
        """The link to a URL."""
        return cls(f"doc-{hashlib.sha256(url.encode()).hexdigest()[:10]}", url)


class _Balancer(AbstractResolver):
    """Finds every name at the balancer, as DNS would."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=self._address, port=port, family=socket.AF_INET, proto=0, flags=numeric)
        ]

    async def close(self) -> None:
        """Nothing to close."""


class Platform:
    """The platform of a lab, seen from outside; made by `connected`."""

    def __init__(self, session: aiohttp.ClientSession, domain: str) -> None:
        self._session = session
        self.api_url = f"https://api.{domain}"
        self.go_url = f"https://go.{domain}"
        self._token: str | None = None

    async def _ask(
        self, method: str, path: str, body: dict[str, str] | None = None, *, fine: Sequence[int]
    ) -> tuple[int, Any]:
        """Ask the API; wait while it says that it is busy.

        Raises:
            LabToolError: It answers anything but a status that is fine.
        """
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            async with self._session.request(method, f"{self.api_url}{path}", json=body, headers=headers) as answer:
                if answer.status in fine:
                    typed = answer.content_type.endswith("json")
                    return answer.status, await answer.json(content_type=None) if typed else None
                text = (await answer.text()).strip()[:400]
            pause = min(float(answer.headers.get("Retry-After", "1") or 1), 30.0)
            if answer.status not in _BUSY or time.monotonic() + pause > deadline:
                raise LabToolError(f"{method} {self.api_url}{path} answered {answer.status}: {text}")
            await asyncio.sleep(pause)

    async def sign_in(self, email: str, password: str) -> bool:
        """Register the account, or log in when it exists; tell whether the password is the account's."""
        account = {"email": email, "password": password}
        await self._ask("POST", "/api/v1/auth/register", account, fine=(200, 201, 409))
        status, answer = await self._ask("POST", "/api/v1/auth/login", account, fine=(200, 401))
        if status == 200:
            self._token = str(answer["access_token"])
        return status == 200

    async def has(self, link: Link) -> bool:
        """Whether the account has this link."""
        status, _ = await self._ask("GET", f"/api/v1/links/{link.code}", fine=(200, 404))
        return status == 200

    async def create(self, links: Sequence[Link], done: Callable[[int], None]) -> int:
        """Create links, a few at a time; those that exist stay as they are.

        Args:
            links: The links.
            done: Told how many are done.

        Returns:
            How many are new.
        """
        gate = asyncio.Semaphore(_AT_ONCE)
        finished = 0

        async def one(link: Link) -> bool:
            nonlocal finished
            async with gate:
                body = {"url": link.url, "code": link.code}
                status, _ = await self._ask("POST", "/api/v1/links", body, fine=(201, 409))
            finished += 1
            done(finished)
            return status == 201

        return sum(await asyncio.gather(*map(one, links)))

    async def clicks(self, link: Link) -> int:
        """How often a link has been followed, as far as it is counted."""
        _, answer = await self._ask("GET", f"/api/v1/links/{link.code}/stats", fine=(200,))
        return int(answer["clicks"])

    async def follow(self, link: Link) -> None:
        """Follow a link as a browser does.

        Raises:
            LabToolError: It does not lead where it should.
        """
        url = f"{self.go_url}/{link.code}"
        async with self._session.get(url, allow_redirects=False) as answer:
            target = answer.headers.get("Location")
            if answer.status != 302 or target != link.url:
                raise LabToolError(f"{url} answered {answer.status} to {target}, not 302 to {link.url}")

    async def counted(self, link: Link, more_than: int) -> int:
        """Wait until a click on a link is counted, and return how many there are.

        Raises:
            LabToolError: None is, in more time than it should ever take.
        """
        deadline = time.monotonic() + _CLICK_SECONDS
        while (clicks := await self.clicks(link)) <= more_than:
            if time.monotonic() > deadline:
                raise LabToolError(f"the click on {link.code} is not counted after {_CLICK_SECONDS:.0f} s")
            await asyncio.sleep(0.5)
        return clicks


@asynccontextmanager
async def connected(domain: str, balancer: str, ca_file: str) -> AsyncIterator[Platform]:
    """The platform behind a balancer; its certificate is checked.

    Args:
        domain: Its domain.
        balancer: Address of the balancer.
        ca_file: Certificate of the lab's authority.

    Raises:
        LabToolError: The balancer is not there, or not the one that the authority vouches for.
    """
    connector = aiohttp.TCPConnector(
        resolver=_Balancer(balancer), ssl=ssl.create_default_context(cafile=ca_file), limit=_AT_ONCE
    )
    timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
            yield Platform(session, domain)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise LabToolError(f"no answer from the balancer at {balancer}: {error or type(error).__name__}") from error
