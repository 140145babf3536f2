"""Visitors of other kinds count whatever a visitor would have missed."""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.testing import other_visitors
from tools.testing.certificates import write_server_certificate
from tools.testing.other_visitors import Connection, Visitors, parse_arguments


class Platform(BaseHTTPRequestHandler):
    """Answers as the platform does, until it is told otherwise."""

    protocol_version = "HTTP/1.1"
    links: dict[str, str]
    wrong = ""

    def answer(self, status: int, content: object = None, target: str = "") -> None:
        body = b"" if content is None else json.dumps(content).encode()
        if self.wrong == "cut":
            self.close_connection = True
            return
        self.send_response(503 if self.wrong == "busy" else status)
        self.send_header("Location", target)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.wrong == "half" else body)
        self.close_connection = self.wrong == "half" or self.close_connection

    def do_GET(self) -> None:
        code = self.path[1:]
        if self.path == other_visitors.PAGE:
            self.answer(200, {"items": ["x" * 1000] * 200})
        elif code == other_visitors.CANARY:
            self.answer(302, target="https://example.org/")
        elif code in self.links:
            self.answer(302, target=self.links[code])
        else:
            self.answer(404)

    def do_HEAD(self) -> None:
        self.answer(302, target="https://example.org/")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = asked["code"] in self.links
        if self.wrong != "lost":
            self.links[asked["code"]] = asked["url"]
        self.answer(409 if known else 201, {})

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def platform() -> type[Platform]:
    return type("Fresh", (Platform,), {"links": {"known": "https://example.org/known"}})


@pytest.fixture
def visitors(platform: type[Platform], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visitors]:
    authority = write_server_certificate(tmp_path, "platform", ["go.test", "api.test"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "platform.pem", tmp_path / "platform.key")
    # One visit of each kind is enough.
    monkeypatch.setattr(Visitors, "over", lambda self: any(seen.requests for seen in self.seen.values()))
    monkeypatch.setattr(other_visitors, "POST_PAUSE", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), platform) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        monkeypatch.setattr(Connection, "connect", connect_to(server.server_port))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        options = argparse.Namespace(
            seconds=60.0, ca=authority, domain="test", connect="127.0.0.1", reading=0.1, stop_file=tmp_path / "stop"
        )
        yield Visitors(options, "token")
        server.shutdown()
        thread.join()


def connect_to(port: int) -> object:
    def connect(self: Connection) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)

    return connect


def come(visitors: Visitors, kind: str) -> dict[str, object]:
    if kind == "head":
        visitors.kept("head", "HEAD", lambda: other_visitors.CANARY, 302)
    elif kind == "follow":
        visitors.kept("follow", "GET", lambda: "known", 302, "https://example.org/known")
    else:
        getattr(visitors, kind)()
    return visitors.seen[kind].report()


@pytest.mark.parametrize("kind", ["head", "follow", "brief", "post", "long"])
def test_what_is_right_is_no_failure(kind: str, visitors: Visitors) -> None:
    found = come(visitors, kind)
    assert (found["requests"], found["failures"]) == (1, {})


@pytest.mark.parametrize("kind", ["head", "follow", "brief", "post", "long"])
@pytest.mark.parametrize("wrong", ["cut", "busy"])
def test_no_answer_or_a_wrong_one_is_a_failure(
    kind: str, wrong: str, visitors: Visitors, platform: type[Platform]
) -> None:
    platform.wrong = wrong
    found = come(visitors, kind)
    assert (found["requests"], found["failed"]) == (1, 1)


def test_half_of_a_large_answer_is_a_failure(visitors: Visitors, platform: type[Platform]) -> None:
    platform.wrong = "half"
    assert come(visitors, "long")["failed"] == 1


def test_a_link_that_got_lost_is_a_failure(visitors: Visitors, platform: type[Platform]) -> None:
    platform.wrong = "lost"
    assert "404" in str(come(visitors, "post")["failures"])


def test_a_link_that_leads_elsewhere_is_a_failure(visitors: Visitors, platform: type[Platform]) -> None:
    platform.links["known"] = "https://example.org/other"
    assert come(visitors, "follow")["failed"] == 1


@pytest.mark.parametrize("more", [["--seconds", "0"], ["--seconds", "9999"], ["--account", "x"]])
def test_an_unbounded_or_unclear_wish_is_refused(more: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--domain=x", "--connect=x", "--ca=x", "--stop-file=x", "--token=x", *more])
