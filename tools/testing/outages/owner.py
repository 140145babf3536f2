"""Whoever owns the links: asks the API and follows links through the balancers, and keeps what was said."""

from __future__ import annotations

import json
import secrets
import ssl
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from tools.lab import LabToolError
from tools.lab.material import domains, lab_hosts
from tools.testing.other_visitors import Connection
from tools.testing.outages.hosts import Hosts

# A service waits up to 5 s for a store that hangs, before it says so.
TIMEOUT = 20.0
# Of each question that a redirect process has to find an answer to: the balancer sends them to all hosts in turn.
TIMES = 3


@dataclass(frozen=True)
class Answer:
    """An answer, or what came instead of one.

    Attributes:
        status: 0: there was none.
        kind: Its media type.
        retry_after: Whether it says when to ask again.
        location: Where it leads.
        limits: Whether it says how often one may ask.
        seconds: How long it took.
        at: When it was there (seconds since the epoch).
        document: Its JSON, or what went wrong.
    """

    status: int
    kind: str
    retry_after: bool
    location: str
    limits: bool
    seconds: float
    at: float
    document: Any


class Owner:
    """An account with links."""

    def __init__(self, hosts: Hosts) -> None:
        """Sign up, and sign in.

        Raises:
            LabToolError: The API does not let us.
        """
        self._address = str(lab_hosts(hosts.directory).visitors()[0])
        self._context = ssl.create_default_context(cafile=str(hosts.directory / "ca.pem"))
        self.go, self._api = f"go.{domains()[0]}", f"api.{domains()[0]}"
        self._headers: dict[str, str] = {}
        account = {"email": f"outages-{secrets.token_hex(6)}@example.org", "password": secrets.token_urlsafe(18)}
        self.must("POST", "/auth/register", 201, account)
        token = self.must("POST", "/auth/login", 200, account)["access_token"]
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(self, host: str, method: str, path: str, body: object = None) -> Answer:
        """Send a request on a connection of its own."""
        headers = {"User-Agent": "linkrift-outages", "Connection": "close"}
        if host == self._api:
            headers |= self._headers
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = Connection(host, self._address, self._context, timeout=TIMEOUT)
        began = time.monotonic()
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except OSError as error:
            return Answer(0, "", False, "", False, time.monotonic() - began, time.time(), str(error))
        finally:
            connection.close()
        kind = answer.headers.get_content_type()
        return Answer(
            status=answer.status,
            kind=kind,
            retry_after="Retry-After" in answer.headers,
            location=answer.headers.get("Location", ""),
            limits="RateLimit" in answer.headers,
            seconds=round(time.monotonic() - began, 3),
            at=time.time(),
            document=json.loads(text) if kind.endswith("json") and text else text[:200],
        )

    def api(self, method: str, path: str, body: object = None) -> Answer:
        """Ask the API."""
        return self.ask(self._api, method, f"/api/v1{path}", body)

    def must(self, method: str, path: str, status: int, body: object = None) -> Any:
        """Ask the API what it has to answer, and return the document.

        Raises:
            LabToolError: It answers otherwise.
        """
        answer = self.api(method, path, body)
        if answer.status != status:
            raise LabToolError(f"{method} {path} was answered {answer.status}, not {status}: {answer.document}")
        return answer.document

    def links(self, count: int) -> list[str]:
        """Make links, and return their codes."""
        return [
            str(self.must("POST", "/links", 201, {"url": f"https://example.org/{number}"})["code"])
            for number in range(count)
        ]

    def questions(self, known: str, unread: Sequence[str]) -> dict[str, list[dict[str, object]]]:
        """Ask everything at once that there is to ask while something is away; see cases.QUESTIONS.

        Args:
            known: A link of ours.
            unread: Links that nobody has followed yet.
        """
        asked: dict[str, list[tuple[str, str, str, object]]] = {
            "read": [(self._api, "GET", "/api/v1/links?limit=1", None)],
            "write": [(self._api, "POST", "/api/v1/links", {"url": "https://example.org/while-away"})],
            "stats": [(self._api, "GET", f"/api/v1/links/{known}/stats", None)],
            "unread": [(self.go, "GET", f"/{code}", None) for code in unread],
            "unknown": [(self.go, "GET", f"/{secrets.token_hex(6)}", None) for _ in range(TIMES)],
        }
        with ThreadPoolExecutor(sum(map(len, asked.values()))) as pool:
            waiting = {name: [pool.submit(self.ask, *one) for one in several] for name, several in asked.items()}
            return {name: [asdict(one.result()) for one in several] for name, several in waiting.items()}

    def counted(self, codes: Sequence[str]) -> Mapping[str, int]:
        """Return how many clicks the API tells of each link; -1: it does not."""
        answers = {code: self.api("GET", f"/links/{code}/stats") for code in codes}
        return {code: one.document["clicks"] if one.status == 200 else -1 for code, one in answers.items()}
