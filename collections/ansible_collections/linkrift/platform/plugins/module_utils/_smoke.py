# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real requests to a slot, sent before a visitor's: the canary's link, and an API call for the canary's account.

The application's migration 000004 makes both. A release of a lower schema level does not know them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._gate import Answer, Response, Verdict, read

CANARY_LEVEL = 4
"""Releases that state this schema level, or a higher one, answer the canary's link."""
CANARY_CODE = "ping"
CANARY_TARGET = "https://canary.linkrift.invalid/"
CANARY_ACCOUNT = "00000000-0000-4000-8000-000000000001"

TOKEN_SECONDS = 30
_LINKS = "/api/v1/links?limit=1"
_MISSING = (
    "the canary is not in the database that this slot reads. Migration 000004_canary of the release makes it: has it "
    "run there (playbooks site and deploy do that), and do replicas have it already? Where somebody removed it, "
    "the statements of that migration may be repeated"
)

Fetch = Callable[[str, Mapping[str, str]], Response]
"""Sends the slot a request: path, headers."""


class SmokeError(Exception):
    """The requests cannot be made at all; the message holds no secret."""


@dataclass(frozen=True)
class Request:
    """One request, and what its answer must be."""

    path: str
    judge: Callable[[Response], Verdict]
    headers: Mapping[str, str] = field(default_factory=dict)


def requests_of(service: str, variables: Mapping[str, str], now: float) -> list[Request]:
    """Return what to ask a slot of a service.

    Args:
        service: the service. A worker takes no requests: its `/health/ready` reads the table it writes to.
        variables: the slot's pinned environment.
        now: seconds since the epoch.

    Raises:
        SmokeError: the environment has no key to sign a token with.
    """
    if service == "redirect":
        # Nobody has this code, and no cache knows that: the answer comes from PostgreSQL, each time.
        unknown = f"canary-{secrets.token_hex(16)}"
        return [Request(f"/{CANARY_CODE}", judge_canary_link), Request(f"/{unknown}", judge_unknown_link)]
    if service == "api":
        bearer = token(_secret(variables), now)
        return [Request(_LINKS, judge_canary_list, {"Authorization": f"Bearer {bearer}"})]
    return []


def judge_canary_link(response: Response) -> Verdict:
    """Judge the answer to the canary's code: a redirection to its target."""
    location = response.headers.get("location")
    if response.status == 404:
        return Verdict(f"/{CANARY_CODE} answers 404: {_MISSING}")
    if response.status != 302 or response.error:
        return Verdict(_told(response, f"/{CANARY_CODE}", 302))
    return (
        Verdict() if location == CANARY_TARGET else Verdict(f"/{CANARY_CODE} leads to {location}, not {CANARY_TARGET}")
    )


def judge_unknown_link(response: Response) -> Verdict:
    """Judge the answer to a code that no link has."""
    return Verdict() if response.status == 404 else Verdict(_told(response, "a code that no link has", 404))


def judge_canary_list(response: Response) -> Verdict:
    """Judge the answer to an authenticated call: the canary's own links, which are one."""
    if response.status == 401:
        return Verdict(
            f"{_LINKS} answers 401: it does not take a token that is signed with its own LINKRIFT_JWT_SECRET"
        )
    if response.status != 200 or response.error:
        return Verdict(_told(response, _LINKS, 200))
    answer = read(response)
    items = answer.body.get("items")
    if answer.error or not isinstance(items, list):
        return Verdict(
            f"{_LINKS} answers 200 without a list of links {f'({answer.error})' if answer.error else ''}".strip()
        )
    if not items:
        return Verdict(f"{_LINKS} finds no link: {_MISSING}")
    found = items[0] if isinstance(items[0], dict) else {}
    if (found.get("code"), found.get("url")) != (CANARY_CODE, CANARY_TARGET):
        return Verdict(
            f"{_LINKS} finds {found.get('code')} to {found.get('url')}, not {CANARY_CODE} to {CANARY_TARGET}"
        )
    return Verdict()


def _told(response: Response, what: str, expected: int) -> str:
    if response.status is None:
        return f"{what} gets no answer ({response.error})"
    return f"{what} answers {response.status}, not {expected}" + (f" ({response.error})" if response.error else "")


class Smoke:
    """Sends all the requests of a slot, one after the other, up to the first wrong answer."""

    def __init__(self, service: str, variables: Mapping[str, str], fetch: Fetch, time: Callable[[], float]) -> None:
        """Prepare; nothing is sent yet.

        Args:
            service: the service.
            variables: the slot's pinned environment.
            fetch: sends a request.
            time: seconds since the epoch.
        """
        self._service = service
        self._variables = variables
        self._fetch = fetch
        self._time = time
        self._verdict = Verdict()

    def ask(self) -> Answer:
        """Send the requests; return the last answer, without what was sent."""
        answer = Answer(200)
        try:
            requests = requests_of(self._service, self._variables, self._time())
        except SmokeError as error:
            self._verdict = Verdict(str(error), final=True)
            return Answer(error=str(error))
        for request in requests:
            response = self._fetch(request.path, request.headers)
            self._verdict = request.judge(response)
            answer = _shown(request.path, response)
            if not self._verdict.right:
                break
        return answer

    def judge(self, _answer: Answer) -> Verdict:
        """Return what the answers of the last `ask` mean."""
        return self._verdict


def _shown(path: str, response: Response) -> Answer:
    body: dict[str, Any] = {"path": path}
    if "location" in response.headers:
        body["location"] = response.headers["location"]
    if response.content:
        body["content"] = response.content[:2000].decode(errors="replace")
    return Answer(response.status, body, response.error)


def token(secret: str, now: float) -> str:
    """Return an access token for the canary's account, as the API itself would sign it, good for half a minute."""
    key_id = hashlib.sha256(b"linkrift key id\0" + secret.encode()).hexdigest()[:16]
    issued = int(now)
    claims = {
        "iss": "linkrift",
        "aud": "linkrift-api",
        "sub": CANARY_ACCOUNT,
        "iat": issued,
        "exp": issued + TOKEN_SECONDS,
    }
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': key_id})}.{_part(claims)}"
    return f"{signed}.{_encoded(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


def _part(document: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(document, separators=(",", ":")).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _secret(variables: Mapping[str, str]) -> str:
    """Return the key that the API signs with; like every variable it may be given as a file.

    Raises:
        SmokeError: there is none.
    """
    value = variables.get("LINKRIFT_JWT_SECRET", "")
    path = variables.get("LINKRIFT_JWT_SECRET_FILE", "")
    if not value and path:
        try:
            value = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"LINKRIFT_JWT_SECRET_FILE of the slot cannot be read: {error}"
            raise SmokeError(msg) from error
    if not value:
        msg = "the slot's environment has no LINKRIFT_JWT_SECRET: no call of the API can be tried"
        raise SmokeError(msg)
    return value
