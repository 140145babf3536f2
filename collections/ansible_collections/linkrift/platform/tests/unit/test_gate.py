# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _gate as gate
from ansible_collections.linkrift.platform.plugins.module_utils._gate import Answer, Verdict
from ansible_collections.linkrift.platform.plugins.module_utils._paths import Layout
from ansible_collections.linkrift.platform.plugins.module_utils._slot_state import Host
from ansible_collections.linkrift.platform.tests.unit.certificate_fakes import make
from ansible_collections.linkrift.platform.tests.unit.slot_fakes import NEW, OLD, FakeClock

Serve = Callable[[int, bytes], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve one answer on loopback, and return the port."""
    servers = []

    def start(status: int, content: bytes) -> int:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(port: int, timeout: float = 2) -> Answer:
    return gate.ask("127.0.0.1", port, "/health", timeout)


@pytest.mark.parametrize("status", [200, 404, 503])
def test_answer_has_status_and_body(serve: Serve, status: int) -> None:
    body = {"status": "ok", "version": OLD}
    answer = ask(serve(status, json.dumps(body).encode()))
    assert (answer.status, answer.body, answer.error) == (status, body, "")
    assert answer.as_dict() == {"status": status, "body": body}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"<html>", "no JSON: '<html>'"),
        (b"[1]", "no JSON object but list"),
        (b"x" * 70000, "larger than 65536 bytes"),
    ],
)
def test_answer_that_is_no_health_says_so(serve: Serve, content: bytes, error: str) -> None:
    answer = ask(serve(200, content))
    assert error in answer.error
    assert answer.as_dict()["error"] == answer.error


def test_request_has_its_headers_and_the_answer_its_own() -> None:
    seen: dict[str, str] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.update(self.headers.items())
            self.send_response(302)
            self.send_header("LOCATION", "https://x/")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        response = gate.fetch("127.0.0.1", server.server_address[1], "/x", 2, headers={"Authorization": "Bearer y"})
        server.shutdown()
    assert (response.status, response.headers["location"], response.content) == (302, "https://x/", b"")
    assert (seen["Authorization"], seen["Accept"]) == ("Bearer y", "application/json")


def test_nobody_listening_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answer = ask(port)
    assert answer.status is None
    assert "ConnectionRefusedError" in answer.error


def test_silence_ends_at_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        assert ask(server.getsockname()[1], 0.2).status is None
        assert time.monotonic() - start < 2


def test_answer_in_drips_ends_at_the_timeout() -> None:
    """Each byte comes in time, the whole answer never would."""
    done = threading.Event()

    def drip(server: socket.socket) -> None:
        connection = server.accept()[0]
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
            with contextlib.suppress(OSError):
                while not done.wait(0.05):
                    connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        answer = ask(server.getsockname()[1], 0.3)
        done.set()
        thread.join(5)
    assert "took longer than 0.3 s" in answer.error


def test_other_protocol_is_no_answer() -> None:
    def greet(server: socket.socket) -> None:
        connection = server.accept()[0]
        with connection:
            connection.sendall(b"SSH-2.0-x\r\n")
            connection.recv(1024)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet, args=(server,))
        thread.start()
        answer = ask(server.getsockname()[1])
        thread.join(5)
    assert answer.status is None
    assert "BadStatusLine" in answer.error


# --- TLS ---


@dataclass
class Tls:
    """A slot that speaks TLS, and who signed its certificate."""

    port: int
    authorities: Path


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Tls]:
    """Serve health by TLS on loopback, as what `redirect.services.linkrift.internal` would be."""
    issuer = make("authority", authority=True)
    own = make("slot", ["redirect.services.linkrift.internal"], issuer=issuer)
    for name, content in (("ca.pem", issuer.pem), ("own.pem", own.pem + own.key_pem())):
        (tmp_path / name).write_text(content)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = b'{"status": "ok"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that goes away is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield Tls(int(server.server_address[1]), tmp_path / "ca.pem")
    server.shutdown()
    server.server_close()


def ask_by_tls(tls: Tls, name: str = "redirect.services.linkrift.internal") -> Answer:
    return gate.ask("127.0.0.1", tls.port, "/health", 2, gate.Identity(name, tls.authorities))


def test_slot_that_speaks_tls_answers(tls: Tls) -> None:
    assert ask_by_tls(tls) == Answer(200, {"status": "ok"})
    assert ask(tls.port).status is None


def test_slot_with_another_name_is_not_believed(tls: Tls) -> None:
    answer = ask_by_tls(tls, "api.services.linkrift.internal")
    assert answer.status is None
    assert "not valid for 'api.services.linkrift.internal'" in answer.error
    assert ask_by_tls(tls, "127.0.0.1").status is None


def test_slot_of_another_authority_is_not_believed(tls: Tls) -> None:
    tls.authorities.write_text(make("other authority", authority=True).pem)
    answer = ask_by_tls(tls)
    assert answer.status is None
    assert "certificate verify failed" in answer.error


@pytest.mark.parametrize(
    ("content", "words"), [(None, "ca.pem"), ("nonsense", "SSLError"), ("é", "UnicodeDecodeError")]
)
def test_authorities_that_are_none_say_so(tls: Tls, content: str | None, words: str) -> None:
    tls.authorities.unlink()
    if content:
        tls.authorities.write_text(content)
    answer = ask_by_tls(tls)
    assert answer.status is None
    assert words in answer.error


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, None),
        ({"LINKRIFT_TLS_NAME": "redirect.internal"}, None),
        ({"LINKRIFT_TLS_CERTIFICATE": "/x", "LINKRIFT_TLS_NAME": "redirect.internal"}, "redirect.internal"),
        ({"LINKRIFT_TLS_CERTIFICATE": "/x", "LINKRIFT_REDIRECT_HOST": "192.0.2.1"}, "192.0.2.1"),
    ],
)
def test_environment_says_how_a_slot_is_asked(tmp_path: Path, variables: dict[str, str], name: str | None) -> None:
    host = Host("redirect", Layout(tmp_path))
    wanted = gate.Identity(name, tmp_path / "etc/linkrift/tls/ca.pem") if name else None
    assert host.identity(variables) == wanted


def test_host_asks_by_tls_what_speaks_tls(tls: Tls, tmp_path: Path) -> None:
    host = Host("redirect", Layout(tmp_path), ports={"blue": tls.port})
    host.layout.authorities.parent.mkdir(parents=True)
    host.layout.authorities.write_text(tls.authorities.read_text())
    variables = {"LINKRIFT_TLS_CERTIFICATE": "/x", "LINKRIFT_TLS_NAME": "redirect.services.linkrift.internal"}
    assert host.ask("blue", "/health", variables).status == 200
    assert host.ask("blue", "/health", {}).status is None


# --- watch ---


def watch(answers: list[Answer], required: int = 3, dead_after: int = 99, deadline: float = 10) -> gate.GateResult:
    """Watch a slot that gives these answers, the last one for ever."""
    given = iter(answers)
    last = answers[-1]
    count = 0

    def question() -> Answer:
        nonlocal count
        count += 1
        return next(given, last)

    return gate.watch(
        "ready",
        question=question,
        judge=lambda answer: (
            Verdict() if answer.status == 200 else Verdict(f"is {answer.status}", answer.status == 500)
        ),
        alive=lambda: "it ended" if count >= dead_after else "",
        required=required,
        deadline=deadline,
        interval=0.5,
        clock=FakeClock(),
    )


GOOD, BAD, WRONG, NONE = Answer(200), Answer(503), Answer(500), Answer(error="refused")


def test_right_answers_must_come_in_a_row() -> None:
    result = watch([BAD, GOOD, GOOD, BAD, GOOD, GOOD, GOOD])
    assert (result.verdict, result.answers, result.successes, result.reason) == ("pass", 7, 3, "")
    assert result.passed
    assert result.as_dict()["seconds"] == 3.0


@pytest.mark.parametrize(("answers", "verdict"), [([BAD], "fail"), ([NONE], "inconclusive"), ([NONE, BAD], "fail")])
def test_deadline_ends_it(answers: list[Answer], verdict: str) -> None:
    result = watch(answers)
    assert (result.verdict, result.passed) == (verdict, False)
    assert result.seconds <= 10
    assert "(after 9.5 s, 20 questions)" in result.reason


def test_right_but_too_seldom_is_not_enough() -> None:
    result = watch([GOOD], required=50)
    assert result.verdict == "fail"
    assert "right 20 times in a row, 50 are needed" in result.reason


def test_end_of_the_process_ends_it() -> None:
    result = watch([NONE], dead_after=2)
    assert (result.verdict, result.reason, result.answers) == ("fail", "it ended", 2)


def test_answer_that_waiting_cannot_mend_ends_it() -> None:
    result = watch([BAD, WRONG])
    assert (result.verdict, result.reason, result.answers) == ("fail", "is 500", 2)


# --- judges ---


@pytest.mark.parametrize(
    ("answer", "reason", "final"),
    [
        (Answer(200, {"version": NEW}), "", False),
        (Answer(200, {"version": OLD}), f"release {OLD} answers, not {NEW}: something else listens there", True),
        (Answer(503, {"version": NEW}), "/health/ready answers 503", False),
        (Answer(200, {}), "/health/ready names no version", False),
        (Answer(404, error="the answer is no JSON: ''"), "/health/ready answers 404", False),
        (
            Answer(503, {"version": NEW, "checks": {"redis": {"error": None}, "db": {"error": "away"}, "x": 1}}),
            "/health/ready answers 503; not well: db",
            False,
        ),
        (Answer(error="refused"), "/health/ready gives no answer (refused)", False),
    ],
)
def test_candidate_must_be_ready_with_the_right_release(answer: Answer, reason: str, final: bool) -> None:
    verdict = gate.judge_ready(NEW, paused=False)(answer)
    assert (verdict.reason, verdict.final, verdict.right) == (reason, final, not reason)


@pytest.mark.parametrize(("paused", "right"), [(True, True), (False, False), (None, False)])
def test_worker_candidate_must_be_paused(paused: bool | None, right: bool) -> None:
    assert gate.judge_ready(NEW, paused=True)(Answer(200, {"version": NEW, "paused": paused})).right is right


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"paused": True, "pending": 0}, ""),
        ({"paused": True}, ""),
        ({"paused": True, "pending": 7}, "the worker still has 7 clicks to flush"),
        ({"paused": False, "pending": 0}, "the worker is not paused yet"),
        ({}, "/health answers 200"),
    ],
)
def test_worker_is_paused_when_nothing_is_left(body: dict[str, Any], reason: str) -> None:
    assert gate.judge_paused(Answer(200, body)).reason == reason


def test_health_has_the_wished_status() -> None:
    assert gate.judge_health(200)(Answer(200)).right
    assert gate.judge_health(200)(Answer(404)).reason == "/health answers 404"
    assert gate.judge_health(404)(Answer(404)).right


def test_system_clock_passes() -> None:
    clock = gate.SystemClock()
    before = clock.monotonic()
    clock.sleep(0.001)
    assert clock.monotonic() > before
    assert clock.time() > 1e9
