# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A balancer is asked what visitors ask it: names and certificates are checked, and what answers is counted."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _visitor_probe
from ansible_collections.linkrift.platform.plugins.module_utils._gate import Response
from ansible_collections.linkrift.platform.plugins.module_utils._smoke import CANARY_TARGET
from ansible_collections.linkrift.platform.plugins.module_utils._visitor_probe import (
    Exchange,
    ProbeError,
    Site,
    exchange,
    is_here,
    patient,
    trust,
)
from ansible_collections.linkrift.platform.plugins.modules import visitor_probe as module
from ansible_collections.linkrift.platform.tests.unit.certificate_fakes import make

NEW, OLD = "1.4.0+3f9c2a71b0de", "1.3.2+0d4b1c2a9f3e"
HOSTS = [
    {"name": "go.example.com", "service": "redirect"},
    {"name": "api.example.com", "service": "api"},
    {"name": "example.com", "service": "web"},
]
Run = Callable[..., dict[str, Any]]


class Balancer(ThreadingHTTPServer):
    """Answers as a balancer with services behind it; tests change what it says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.location = CANARY_TARGET
        self.description: str | None = '{"openapi": "3.1.0"}'
        self.releases = [NEW]
        self.asked = 0
        self.refuse = 0

    def verify_request(self, *_: Any) -> bool:
        """Close some connections without a word."""
        refused = self.refuse > 0
        self.refuse -= refused
        return not refused

    def handle_error(self, *_: Any) -> None:
        """A visitor that does not believe the certificate goes away: that is what is tested."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Balancer)
        release = server.releases[server.asked % len(server.releases)]
        server.asked += 1
        asked = (self.headers["Host"], self.path)
        content = b""
        if asked == ("go.example.com", "/ping"):
            self.send_response(302)
            self.send_header("Location", server.location)
        elif asked == ("api.example.com", "/api/v1/openapi.json") and server.description is not None:
            self.send_response(200)
            content = server.description.encode()
        else:
            self.send_response(503)
        self.send_header("X-Deployment-Version", release)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Balancer]:
    authority = make("Authority", authority=True)
    made = make(names=("go.example.com", "api.example.com"), days=61, issuer=authority)
    (tmp_path / "ca.pem").write_text(authority.pem)
    (tmp_path / "own.pem").write_text(made.pem + made.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    server = Balancer()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run(balancer: Balancer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def start(**arguments: Any) -> dict[str, Any]:
        wished = {
            "hosts": HOSTS,
            "addresses": ["127.0.0.1"],
            "port": balancer.server_port,
            "authorities": [str(tmp_path / "ca.pem")],
            **arguments,
        }
        with patch_module_args(wished), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return start


def test_all_is_as_it_should_be(run: Run) -> None:
    result = run(releases={"redirect": [NEW]}, requests=3)
    assert (result["changed"], result["problems"], result["addresses"]) == (False, [], ["127.0.0.1"])
    redirect, api = result["sites"]
    assert redirect.pop("slowest_ms") > 0
    assert redirect == {
        "name": "go.example.com",
        "service": "redirect",
        "asked": 3,
        "failed": 0,
        "releases": {NEW: 3},
        "certificate_days": 61,
    }
    assert (api["service"], api["asked"], api["failed"]) == ("api", 3, 0)
    assert result["msg"].startswith(f"6 requests as visitors send them, answered by {NEW} in at most ")


def test_a_link_that_leads_elsewhere(run: Run, balancer: Balancer) -> None:
    balancer.location = "https://elsewhere.example.com/"
    result = run()
    assert result["failed"]
    # Four wrong answers are one problem.
    assert result["problems"] == [
        f"go.example.com at 127.0.0.1: /ping leads to https://elsewhere.example.com/, not {CANARY_TARGET}"
    ]
    assert result["sites"][0]["failed"] == 4


@pytest.mark.parametrize("said", ["[]", "{}", "<html>"])
def test_an_api_that_is_none(run: Run, balancer: Balancer, said: str) -> None:
    balancer.description = said
    assert "answers 200 without the API's description" in run()["msg"]


def test_an_error_of_the_api(run: Run, balancer: Balancer) -> None:
    balancer.description = None
    assert "/api/v1/openapi.json answers 503, not 200" in run()["msg"]


def test_another_release_answers_now_and_then(run: Run, balancer: Balancer) -> None:
    balancer.releases = [NEW, OLD]
    result = run(hosts=HOSTS[:1], releases={"redirect": [NEW]})
    assert result["problems"] == [f"go.example.com at 127.0.0.1: release {OLD} answers, not {NEW}"]
    assert result["sites"][0]["releases"] == {OLD: 2, NEW: 2}
    assert not run(hosts=HOSTS[:1], releases={"redirect": [NEW, OLD]}).get("failed")


def test_a_certificate_of_nobody_we_know(run: Run, tmp_path: Path) -> None:
    result = run(authorities=[str(tmp_path / "gone.pem")])
    assert "CERTIFICATE_VERIFY_FAILED" in result["msg"]
    assert result["sites"][0]["certificate_days"] is None


def test_the_very_certificate_may_be_believed(run: Run, tmp_path: Path) -> None:
    assert not run(authorities=[str(tmp_path / "own.pem")]).get("failed")


def test_a_certificate_for_another_name(run: Run) -> None:
    assert "Hostname mismatch" in run(hosts=[{"name": "other.example.com", "service": "redirect"}])["msg"]


def test_nobody_listens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_visitor_probe, "_SILENCE", 0.3)
    assert "ConnectionRefusedError" in run(port=1)["msg"]


def test_a_balancer_that_is_restarted_meanwhile_is_asked_again(run: Run, balancer: Balancer) -> None:
    balancer.refuse = 3
    result = run(requests=2)
    assert not result.get("failed")
    assert [site["asked"] for site in result["sites"]] == [2, 2]
    assert balancer.refuse == 0


class Clock:
    """Time that passes while somebody waits; asking takes some, too."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[tuple[float, str]] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def silent(self, address: str, site: Site) -> Exchange:
        self.asked.append((self.now, address))
        self.now += 1
        return Exchange(Response(error="ConnectionRefusedError"), silent=True)


def test_silence_is_waited_out_once_whatever_is_asked() -> None:
    clock = Clock()
    ask = patient(clock.silent, lambda: clock.now, clock.sleep)
    site = Site("go.example.com", "redirect")
    assert ask("192.0.2.10", site).silent
    assert 108 < clock.asked[-1][0] < 110
    tries = len(clock.asked)
    # The next one is asked once: that was restart enough.
    assert ask("192.0.2.11", site).silent
    assert len(clock.asked) == tries + 1


def test_what_is_answered_is_not_asked_again(balancer: Balancer, tmp_path: Path) -> None:
    clock = Clock()
    balancer.description = None
    right = ("api.example.com", "ca.pem")
    for name, authority in (right, ("api.example.com", "no.pem"), ("other.example.com", "ca.pem")):
        context = trust([str(tmp_path / authority)])

        def ask(address: str, site: Site, context: ssl.SSLContext = context) -> Exchange:
            return exchange(address, balancer.server_port, site, context, 5)

        before = clock.now
        came = patient(ask, lambda: clock.now, clock.sleep)("127.0.0.1", Site(name, "api"))
        assert not came.silent
        assert (came.response.status == 503) is ((name, authority) == right)
        assert clock.now == before


def test_an_address_of_somebody_else_is_left_out(run: Run) -> None:
    assert run(addresses=["127.0.0.1", "192.0.2.1"])["addresses"] == ["127.0.0.1"]
    result = run(addresses=["192.0.2.1"])
    assert result["problems"] == ["none of the addresses 192.0.2.1 is this host's"]


def test_which_addresses_are_here() -> None:
    assert is_here("127.0.0.1")
    assert not is_here("192.0.2.1")
    assert not is_here("no address")


def test_authorities_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(ProbeError, match="cannot be used"):
        trust([str(tmp_path / "ca.pem")])
