# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Telling people of a rollout: what is said, and that nobody who cannot be told delays or fails anything."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _notification as notification
from ansible_collections.linkrift.platform.plugins.module_utils._notification import Webhook, compose, send_all
from ansible_collections.linkrift.platform.plugins.modules import notify

OLD, NEW = "1.3.0+0000000000aa", "1.4.0+3f9c2a71b0de"
ABOUT: dict[str, Any] = {
    "id": "20260131T120000Z-0a1b2c",
    "purpose": "deploy",
    "by": "alice@control",
    "releases": {service: {"from": OLD, "to": NEW} for service in ("redirect", "api")} | {"worker": {"to": NEW}},
}
DONE = {
    **ABOUT,
    "seconds": 93.4,
    "result": "success",
    "hosts": {"app1": {}, "app2": {}},
    "visitors": {"during": {"requests": 18600, "failed": 0, "retried": 2}},
}
# Seconds that no answer of this machine takes, however busy it is.
PLENTY = 60
SECRET = "/services/T0/B0/very-secret"


# -- what is said ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "about", "expected"),
    [
        ("start", ABOUT, f"deploy has begun: api, redirect {OLD} → {NEW}; worker {NEW}"),
        ("success", DONE, f"deploy is done after 93 s: api, redirect {OLD} → {NEW}; worker {NEW}"),
        ("success", {"releases": {"api": NEW}}, f"rollout is done: api {NEW}"),
        (
            "failure",
            {"purpose": "deploy", "result": "undone", "seconds": 4, "why": "app2: no answer"},
            "deploy was undone after 4 s, and every host is as it was: app2: no answer",
        ),
        (
            "failure",
            {"purpose": "deploy", "result": "refused", "why": "app2: no room", "releases": {"api": NEW}},
            f"deploy was refused, and nothing was begun: app2: no room: api {NEW}",
        ),
        ("failure", {"purpose": "rollback", "result": "failed"}, "rollback has failed"),
        ("failure", {"hosts": None, "visitors": None, "releases": None}, "rollout has failed"),
    ],
)
def test_the_sentence(event: str, about: dict[str, Any], expected: str) -> None:
    message = compose(event, about)
    assert message["text"] == notification._plain(expected, 9999)
    assert compose(event, about, "l.test")["text"] == f"l.test: {message['text']}"


def test_the_fields() -> None:
    [attachment] = compose("success", {**DONE, "report": "lb1:/var/lib/linkrift/rollouts/x.html"})["attachments"]
    assert attachment["color"] == "good"
    assert {entry["title"]: entry["value"] for entry in attachment["fields"]} == {
        "Run": ABOUT["id"],
        "By": "alice@control",
        "Hosts": "app1, app2",
        "Visitors meanwhile": "18,600 requests, 0 failed, 2 retried",
        "Report": "lb1:/var/lib/linkrift/rollouts/x.html",
    }
    [attachment] = compose("success", {"hosts": list("abcdef")})["attachments"]
    assert attachment["fields"][0]["value"] == "6 hosts"
    [attachment] = compose("start", {"left_out": ["app2, which cannot be reached", "lb2"]})["attachments"]
    assert attachment["fields"] == [{"title": "Left out", "value": "app2, which cannot be reached; lb2", "short": True}]
    assert compose("failure", {})["attachments"] == []


def test_a_message_mentions_nobody_and_has_an_end() -> None:
    message = compose("failure", {"why": "<!channel> & <https://x.test|here>", "by": "<@U1>"})
    assert "<" not in json.dumps(message)
    assert "&lt;!channel&gt; &amp; &lt;https" in message["text"]
    long = compose("failure", {"why": "x" * 10_000, "by": "y" * 10_000})
    assert len(long["text"]) == 3000
    assert len(long["attachments"][0]["fields"][0]["value"]) == 500


# -- sending -----------------------------------------------------------------------------------------------------------


class Channel:
    """A server that takes messages, or does not."""

    def __init__(self) -> None:
        channel = self
        self.got: list[tuple[str, dict[str, Any]]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                channel.got.append((self.path, json.loads(body)))
                assert self.headers["Content-Type"] == "application/json"
                self.send_response({"/gone": 404, "/moved": 302}.get(self.path, 200))
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST = answer  # noqa: N815 - the names are the server's

            def log_message(self, *_words: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Channel]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    made = Channel()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}{SECRET}"


def test_each_outcome_is_known(channel: Channel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}{SECRET}"
    urls = [
        channel.url + "/a",
        channel.url + "/gone",
        channel.url + "/moved",
        nobody,
        "file:///etc/passwd",
        f"http://127.0.0.1:x{SECRET}",
        f"http://127.0.0.1/a b{SECRET}",
        f"http://[::1{SECRET}",
    ]
    outcomes = send_all([Webhook(url) for url in urls], compose("start", ABOUT), PLENTY)
    assert outcomes[:4] == ["", "it answered 404", "it answered 302", "Connection refused"]
    assert outcomes[4] == "its address is neither http nor https"
    assert all("makes no sense" in outcome for outcome in outcomes[5:])
    assert SECRET not in str(outcomes)
    assert sorted(path for path, _body in channel.got) == ["/a", "/gone", "/moved"]


def test_all_are_waited_for_at_once(silent: str) -> None:
    began = time.monotonic()
    assert send_all([Webhook(silent)] * 40, {}, 0.5) == ["no answer within 0.5 s"] * 40
    assert time.monotonic() - began < 15, "one after the other it would be 20"


def test_what_knows_no_timeout_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(notification, "_send", lambda *_words: str(never.wait(20)))
    began = time.monotonic()
    assert send_all([Webhook("http://a.test"), Webhook("http://b.test")], {}, 0.2) == ["no answer within 0.2 s"] * 2
    assert time.monotonic() - began < 15
    never.set()


def test_certificates_that_are_not_there_are_an_outcome() -> None:
    assert send_all([Webhook("https://127.0.0.1:9/")], {}, PLENTY, "/nowhere/ca.pem") == ["No such file or directory"]


def test_an_address_is_shown_nowhere() -> None:
    assert SECRET not in repr(Webhook("https://hooks.example.com" + SECRET))
    assert Webhook("https://u:p@hooks.example.com" + SECRET).host == "hooks.example.com"
    assert Webhook("nonsense").host == "a webhook without a host"
    assert Webhook("http://[::1").host == "a webhook whose address is none"


# -- module ------------------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], check: bool = False, **arguments: Any) -> dict[str, Any]:
    with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
        notify.main()
    text = capsys.readouterr().out
    assert SECRET not in text
    answer: dict[str, Any] = json.loads(text)
    return answer


def test_the_module(channel: Channel, capsys: pytest.CaptureFixture[str]) -> None:
    webhooks = [{"url": channel.url + SECRET}, {"url": channel.url + "/f", "events": ["failure"]}]
    told = run(capsys, event="success", about=DONE, where="l.test", webhooks=webhooks, deadline=PLENTY)
    assert not told["changed"]
    assert told["told"] == [{"to": "127.0.0.1", "why": ""}]
    assert "warnings" not in told
    [(path, body)] = channel.got
    assert path == SECRET
    assert body["text"].startswith("l.test: deploy is done")


def test_who_does_not_answer_is_a_warning(silent: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, event="success", webhooks=[{"url": silent}], deadline=0.2)
    assert not told.get("failed")
    assert told["told"] == [{"to": "127.0.0.1", "why": "no answer within 0.2 s"}]
    [warning] = told["warnings"]
    assert "127.0.0.1 was not told of this success: no answer within 0.2 s" in str(warning)


def test_check_mode_and_nobody_to_tell(channel: Channel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, check=True, event="start", webhooks=[{"url": channel.url}])["told"] == []
    assert run(capsys, event="start", webhooks=[{"url": channel.url, "events": ["failure"]}])["told"] == []
    assert channel.got == []
