# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gates on the host: ask a slot for its health until it has said the right thing often enough, or time is up."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

_LARGEST_ANSWER = 64 * 1024


class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def monotonic(self) -> float:
        """Return seconds that only grow."""

    def time(self) -> float:
        """Return seconds since the epoch."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


class SystemClock:
    """The real one."""

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float, /) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(frozen=True)
class Answer:
    """What a slot said, or why it said nothing."""

    status: int | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it for results: status, and body or error."""
        return {"status": self.status, **({"error": self.error} if self.error else {"body": dict(self.body)})}


@dataclass(frozen=True)
class Identity:
    """What a slot that speaks TLS must prove, as the balancers have it prove.

    Attributes:
        name: which its certificate must carry.
        authorities: file of those that are believed.
    """

    name: str
    authorities: Path


class _TlsConnection(http.client.HTTPConnection):
    """HTTP over TLS, to an address that need not be what the certificate is for."""

    def __init__(self, address: str, port: int, timeout: float, identity: Identity) -> None:
        super().__init__(address, port, timeout=timeout)
        self._name = identity.name
        # Read here, not by its path: a file that is missing is then named.
        authorities = identity.authorities.read_text(encoding="ascii")
        self._context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=authorities)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2

    def connect(self) -> None:
        """Connect, and let the slot prove who it is."""
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)


@dataclass(frozen=True)
class Response:
    """What came back over HTTP, or why nothing did.

    Attributes:
        headers: by their names in small letters.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    error: str = ""


def fetch(
    address: str,
    port: int,
    path: str,
    timeout: float,
    identity: Identity | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Send a GET request over HTTP, or over TLS.

    Args:
        address: IP address or name.
        port: TCP port.
        path: of the request.
        timeout: seconds for the whole exchange.
        identity: what the slot must prove; None: it speaks plain HTTP.
        headers: more headers.
    """
    end = time.monotonic() + timeout
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        if identity:
            connection = _TlsConnection(address, port, timeout, identity)
        connection.request(
            "GET", path, headers={"Accept": "application/json", "Connection": "close", **(headers or {})}
        )
        response = connection.getresponse()
        content = b""
        while chunk := response.read1(_LARGEST_ANSWER):
            content += chunk
            if len(content) > _LARGEST_ANSWER:
                return Response(response.status, error=f"the answer is larger than {_LARGEST_ANSWER} bytes")
            if time.monotonic() > end:
                return Response(response.status, error=f"the answer took longer than {timeout:g} s")
    except (OSError, UnicodeDecodeError, http.client.HTTPException) as error:
        return Response(error=f"{type(error).__name__}: {error}")
    finally:
        connection.close()
    return Response(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


def ask(address: str, port: int, path: str, timeout: float, identity: Identity | None = None) -> Answer:
    """Ask a slot for JSON; the arguments are those of `fetch`."""
    return read(fetch(address, port, path, timeout, identity))


def read(response: Response) -> Answer:
    """Read the JSON object that came back."""
    if response.error or response.status is None:
        return Answer(response.status, error=response.error)
    return _parsed(response.status, response.content)


def _parsed(status: int, content: bytes) -> Answer:
    try:
        body = json.loads(content)
    except ValueError:
        return Answer(status, error=f"the answer is no JSON: {content[:200].decode(errors='replace')!r}")
    if not isinstance(body, dict):
        return Answer(status, error=f"the answer is no JSON object but {type(body).__name__}")
    return Answer(status, body)


@dataclass(frozen=True)
class Verdict:
    """What one answer means: right, not right yet, or so wrong that waiting cannot help."""

    reason: str = ""
    final: bool = False

    @property
    def right(self) -> bool:
        """Nothing is wrong with the answer."""
        return not self.reason


@dataclass
class GateResult:
    """What a gate came to, with figures."""

    name: str
    verdict: str = "inconclusive"
    """`pass`, `fail`, `inconclusive` when nothing could be learnt, or `skipped` for the reason that is given."""
    reason: str = ""
    required: int = 1
    successes: int = 0
    """Right answers in a row at the end."""
    answers: int = 0
    seconds: float = 0.0
    deadline: float = 0.0
    last: Answer | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    """What was measured, by name and unit."""
    lines: Sequence[str] = ()
    """What the slot wrote, where that is what counts: evidence, which may need masking."""

    @property
    def passed(self) -> bool:
        """The next step may happen."""
        return self.verdict in ("pass", "skipped")

    def as_dict(self) -> dict[str, Any]:
        """Return it for results, without the last answer, which is evidence and may need masking."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "reason": self.reason,
            "required": self.required,
            "successes": self.successes,
            "answers": self.answers,
            "seconds": round(self.seconds, 3),
            "deadline": round(self.deadline, 3),
            **({"figures": dict(self.figures)} if self.figures else {}),
        }


def watch(
    name: str,
    *,
    question: Callable[[], Answer],
    judge: Callable[[Answer], Verdict],
    alive: Callable[[], str],
    required: int,
    deadline: float,
    interval: float,
    clock: Clock,
) -> GateResult:
    """Ask until `required` answers in a row are right.

    Args:
        name: of the gate.
        question: asks once.
        judge: says what an answer means.
        alive: returns why waiting is no use any more (the process ended), or an empty text.
        required: right answers in a row that make it pass.
        deadline: seconds.
        interval: seconds between two questions.
        clock: time.
    """
    start = clock.monotonic()
    result = GateResult(name, required=required, deadline=deadline)
    while True:
        result.last = question()
        result.answers += 1
        verdict = judge(result.last)
        result.successes = result.successes + 1 if verdict.right else 0
        result.seconds = clock.monotonic() - start
        if result.successes >= required:
            result.verdict = "pass"
            result.reason = ""
            return result
        result.reason = verdict.reason or f"right {result.successes} times in a row, {required} are needed"
        dead = "" if verdict.right else alive()
        if dead or verdict.final:
            result.verdict = "fail"
            result.reason = dead or verdict.reason
            return result
        if result.seconds + interval >= deadline:
            # Without a single status, nothing was learnt about the slot.
            result.verdict = "inconclusive" if result.last.status is None else "fail"
            result.reason = f"{result.reason} (after {result.seconds:.1f} s, {result.answers} questions)"
            return result
        clock.sleep(interval)


def judge_ready(release: str, *, paused: bool) -> Callable[[Answer], Verdict]:
    """Return the judge of a candidate: `/health/ready` is 200, from the right release.

    Args:
        release: id the slot must report.
        paused: it must also say that it is paused (a worker that is not admitted).
    """

    def judge(answer: Answer) -> Verdict:
        version = answer.body.get("version")
        if version is not None and version != release:
            return Verdict(f"release {version} answers, not {release}: something else listens there", final=True)
        if answer.status != 200 or answer.error:
            return Verdict(_told(answer, "/health/ready"))
        if version is None:
            return Verdict("/health/ready names no version")
        if paused and answer.body.get("paused") is not True:
            return Verdict("the worker is not paused, though it is not admitted")
        return Verdict()

    return judge


def judge_health(status: int) -> Callable[[Answer], Verdict]:
    """Return the judge that wants `/health` to have a status: 200 live, 404 standby."""

    def judge(answer: Answer) -> Verdict:
        return Verdict() if answer.status == status else Verdict(_told(answer, "/health"))

    return judge


def judge_paused(answer: Answer) -> Verdict:
    """Judge whether a worker is paused and has nothing left to flush or acknowledge."""
    if answer.body.get("paused") is not True:
        return Verdict("the worker is not paused yet" if answer.body else _told(answer, "/health"))
    pending = answer.body.get("pending", 0)
    return Verdict() if not pending else Verdict(f"the worker still has {pending} clicks to flush")


def _told(answer: Answer, path: str) -> str:
    if answer.status is None:
        return f"{path} gives no answer ({answer.error})"
    checks = answer.body.get("checks")
    bad = []
    if isinstance(checks, dict):
        bad = [name for name, check in checks.items() if isinstance(check, dict) and check.get("error")]
    return f"{path} answers {answer.status}" + (f"; not well: {', '.join(sorted(bad))}" if bad else "")
