#!/usr/bin/env python3
"""Visitors of other kinds than those of tools/load.py, side by side, until a file appears; prints what each kind saw.

    head      HEAD requests on a kept connection
    brief     a connection of its own for each GET
    follow    GET of a link that exists, on a kept connection, to where it leads
    http2     GET on one HTTP/2 connection (by curl, which has it)
    post      new links, one after the other, each followed once, so that one that got lost or was made twice is noticed
    long      large answers (a page of links), each read over several seconds, so that a slot is busy with it as long

Runs on a lab host with Python's standard library and curl. Nothing is tried again. A large answer is one only with many
long links in the account: `--account FILE` only makes the account, and writes its token to the file.
"""

from __future__ import annotations

import argparse
import http.client
import json
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MAX_SECONDS = 900.0
# Clients may send 100 requests a minute to the API.
POST_PAUSE = 1.5
# Made by a migration; nobody counts its clicks.
CANARY = "ping"
PAGE = "/api/v1/links?limit=200"
KINDS = ("head", "brief", "follow", "http2", "post", "long")


@dataclass
class Seen:
    """What one kind of visitor saw."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    bytes: int = 0

    def report(self) -> dict[str, object]:
        """Return the figures."""
        return {
            "requests": self.requests,
            "failed": sum(self.failures.values()),
            "failures": dict(self.failures),
            "connections": self.connections,
            "bytes": self.bytes,
        }


class Connection(http.client.HTTPSConnection):
    """Connects to a given address, while name checks and SNI use the host's name; may have a small receive buffer."""

    def __init__(self, name: str, address: str, context: ssl.SSLContext, *, timeout: float, buffer: int = 0) -> None:
        super().__init__(name, 443, timeout=timeout, context=context)
        self._address, self._tls, self._receive = address, context, buffer

    def connect(self) -> None:
        """Open the TCP connection and the TLS session."""
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        plain.settimeout(self.timeout)
        if self._receive:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive)
        try:
            plain.connect((self._address, self.port))
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except OSError:
            plain.close()
            raise


class Visitors:
    """All kinds, on one platform."""

    def __init__(self, options: argparse.Namespace, token: str) -> None:
        self._options = options
        self._token = token
        self._end = time.monotonic() + options.seconds
        self._context = ssl.create_default_context(cafile=options.ca)
        self._go, self._api = f"go.{options.domain}", f"api.{options.domain}"
        self.seen = {kind: Seen() for kind in KINDS}

    def over(self) -> bool:
        """Tell whether it is time to go."""
        return bool(self._options.stop_file.exists()) or time.monotonic() >= self._end

    def open(self, name: str, *, buffer: int = 0, timeout: float = 5.0) -> Connection:
        """Return a connection to be opened by its first request."""
        return Connection(name, self._options.connect, self._context, timeout=timeout, buffer=buffer)

    def ask(
        self, connection: Connection, method: str, path: str, body: object = None, *, closes: bool = False
    ) -> http.client.HTTPResponse:
        """Send a request and return its answer, of which nothing was read yet."""
        headers = {"User-Agent": "linkrift-other-visitors"}
        if connection.host == self._api and self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if closes:
            headers["Connection"] = "close"
        data = None if body is None else json.dumps(body)
        if data is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, data, headers)
        return connection.getresponse()

    def each(self, kind: str, pause: float, visit: Callable[[], str]) -> None:
        """Have a kind of visitor come again and again; `visit` returns what was wrong."""
        seen = self.seen[kind]
        while not self.over():
            began = time.monotonic()
            try:
                wrong = visit()
            except (OSError, http.client.HTTPException, ValueError) as error:
                wrong = f"{type(error).__name__}: {error}"
            seen.requests += 1
            if wrong:
                seen.failures[wrong] += 1
            time.sleep(max(0.0, pause - (time.monotonic() - began)))

    def kept(self, kind: str, method: str, code: Callable[[], str], expected: int, target: str = "") -> None:
        """Visit the redirect service on a kept connection."""
        connection = self.open(self._go)

        def visit() -> str:
            self.seen[kind].connections += connection.sock is None
            try:
                answer = self.ask(connection, method, f"/{code()}")
                body = answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                raise
            if method == "HEAD" and body:
                return "a body after HEAD"
            if target and answer.headers["Location"] != target:
                return f"leads to {answer.headers['Location']}"
            return "" if answer.status == expected else f"status {answer.status}"

        self.each(kind, 0.05, visit)
        connection.close()

    def brief(self) -> None:
        """Open a connection for each request."""

        def visit() -> str:
            connection = self.open(self._go)
            self.seen["brief"].connections += 1
            try:
                answer = self.ask(connection, "GET", f"/{CANARY}", closes=True)
                answer.read()
            finally:
                connection.close()
            return "" if answer.status == 302 else f"status {answer.status}"

        self.each("brief", 0.2, visit)

    def post(self) -> None:
        """Make links, and follow each."""
        api, go = self.open(self._api), self.open(self._go)

        def visit() -> str:
            code = f"swap-{secrets.token_hex(8)}"
            target = f"https://example.org/{code}"
            try:
                made = self.ask(api, "POST", "/api/v1/links", {"url": target, "code": code})
                text = made.read()
                followed = self.ask(go, "GET", f"/{code}")
                followed.read()
            except (OSError, http.client.HTTPException):
                api.close()
                go.close()
                raise
            if made.status != 201:
                return f"POST: status {made.status}: {text[:120].decode(errors='replace')}"
            leads = followed.headers["Location"]
            return "" if (followed.status, leads) == (302, target) else f"{code}: {followed.status} to {leads}"

        self.each("post", POST_PAUSE, visit)
        api.close()
        go.close()

    def long(self) -> None:
        """Read a large answer slowly."""

        def visit() -> str:
            # What does not fit the buffers on the way stays with the slot.
            connection = self.open(self._api, buffer=4096, timeout=30.0)
            self.seen["long"].connections += 1
            try:
                answer = self.ask(connection, "GET", PAGE, closes=True)
                expected = int(answer.headers["Content-Length"] or 0)
                content = bytearray()
                began = time.monotonic()
                while piece := answer.read(4096):
                    content += piece
                    due = began + self._options.reading * len(content) / max(expected, 1)
                    time.sleep(max(0.0, due - time.monotonic()))
            finally:
                connection.close()
            self.seen["long"].bytes = max(self.seen["long"].bytes, len(content))
            if answer.status != 200:
                return f"status {answer.status}"
            return "" if len(json.loads(content)["items"]) == 200 else "too few links"

        self.each("long", 0.0, visit)

    def http2(self) -> None:
        """Have curl ask again and again on one connection."""
        seen = self.seen["http2"]
        line = "%{stderr}%{http_code} %{http_version} %{num_connects} %{errormsg}\n"
        command = [
            *("curl", "--silent", "--http2", "--rate", "20/s", "--cacert", str(self._options.ca)),
            *("--resolve", f"{self._go}:443:{self._options.connect}", "--max-time", "5", "--output", "/dev/null"),
            *("--write-out", line, f"https://{self._go}/{CANARY}?n=[1-{int(self._options.seconds * 20)}]"),
        ]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, bufsize=1) as curl:
            for text in curl.stderr or ():
                status, version, connects, *error = text.rstrip("\n").split(" ", 3)
                seen.requests += 1
                seen.connections += int(connects)
                if (status, version) != ("302", "2"):
                    seen.failures[f"status {status} by HTTP/{version} {' '.join(error)}"] += 1
                if self.over():
                    break
            curl.terminate()

    def come(self) -> dict[str, dict[str, object]]:
        """Come all at once, and return what each kind saw."""
        link = f"swap-{secrets.token_hex(8)}"
        target = "https://example.org/followed"
        api = self.open(self._api)
        made = self.ask(api, "POST", "/api/v1/links", {"url": target, "code": link})
        made.read()
        api.close()
        if made.status != 201:
            raise SystemExit(f"no link to follow: status {made.status}")
        threads = [
            threading.Thread(target=self.kept, args=("head", "HEAD", lambda: CANARY, 302)),
            threading.Thread(target=self.kept, args=("follow", "GET", lambda: link, 302, target)),
            *(threading.Thread(target=kind) for kind in (self.brief, self.post, self.long, self.long, self.http2)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {kind: seen.report() for kind, seen in self.seen.items()}


def sign_in(options: argparse.Namespace) -> str:
    """Make an account, and return a token for it."""
    visitors = Visitors(options, "")
    account = {"email": options.email, "password": secrets.token_urlsafe(18)}
    connection = visitors.open(f"api.{options.domain}")
    for path, expected in (("register", 201), ("login", 200)):
        answer = visitors.ask(connection, "POST", f"/api/v1/auth/{path}", account)
        text = answer.read()
        if answer.status != expected:
            raise SystemExit(f"{path}: status {answer.status}: {text.decode(errors='replace')}")
    connection.close()
    return str(json.loads(text)["access_token"])


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the checked command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--connect", required=True, help="the balancers' address")
    parser.add_argument("--ca", type=Path, required=True, help="file of certificate authorities to trust")
    parser.add_argument("--account", type=Path, metavar="FILE", help="only make an account; its token goes there")
    parser.add_argument("--email", default="", help="of that account")
    parser.add_argument("--token", type=Path, metavar="FILE", help="the account's token")
    parser.add_argument("--reading", type=float, default=8.0, help="seconds over which a large answer is read")
    parser.add_argument("--seconds", type=float, default=300.0, help="seconds at the most (default 300)")
    parser.add_argument("--stop-file", type=Path, required=True, help="end when this file exists")
    options = parser.parse_args(arguments)
    if not 0 < options.seconds <= MAX_SECONDS:
        parser.error(f"--seconds must be above 0 and at most {MAX_SECONDS:.0f}")
    if (options.account is None) == (options.token is None):
        parser.error("either --account or --token")
    return options


def main() -> int:
    """Print what was seen as JSON; exit 1 when something failed."""
    options = parse_arguments()
    if options.account:
        options.account.write_text(sign_in(options), encoding="utf-8")
        return 0
    report = Visitors(options, options.token.read_text(encoding="utf-8").strip()).come()
    print(json.dumps(report, indent=2))
    return 1 if any(kind["failed"] for kind in report.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
