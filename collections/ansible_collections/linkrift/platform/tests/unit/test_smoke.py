# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _smoke as smoke
from ansible_collections.linkrift.platform.plugins.module_utils._gate import Response

KEY = "made-up-key-of-the-tests-0123456789"
ENVIRONMENT = {"LINKRIFT_JWT_SECRET": KEY}
CANARY = {"code": "ping", "url": "https://canary.linkrift.invalid/"}


def part(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return document


def links(*items: object) -> Response:
    return Response(200, content=json.dumps({"items": items}).encode())


def test_a_token_is_the_canarys_for_half_a_minute() -> None:
    header, claims, signature = smoke.token(KEY, 1000.7).split(".")
    assert part(header) == {
        "alg": "HS256",
        "typ": "JWT",
        "kid": hashlib.sha256(b"linkrift key id\0" + KEY.encode()).hexdigest()[:16],
    }
    assert part(claims) == {
        "iss": "linkrift",
        "aud": "linkrift-api",
        "sub": smoke.CANARY_ACCOUNT,
        "iat": 1000,
        "exp": 1030,
    }
    expected = hmac.new(KEY.encode(), f"{header}.{claims}".encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(signature + "=") == expected


def test_redirect_is_asked_for_the_canary_and_for_what_nobody_has() -> None:
    canary, unknown = smoke.requests_of("redirect", {}, 0)
    assert canary.path == "/ping"
    assert unknown.path.startswith("/canary-")
    assert unknown.path != smoke.requests_of("redirect", {}, 0)[1].path
    assert len(unknown.path) <= 65


def test_the_api_is_asked_as_the_canary() -> None:
    [request] = smoke.requests_of("api", ENVIRONMENT, 1000)
    assert request.path == "/api/v1/links?limit=1"
    assert request.headers == {"Authorization": f"Bearer {smoke.token(KEY, 1000)}"}


def test_a_worker_is_asked_nothing() -> None:
    assert smoke.requests_of("worker", {}, 0) == []


def test_the_key_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    [request] = smoke.requests_of("api", {"LINKRIFT_JWT_SECRET_FILE": str(path)}, 5)
    assert request.headers["Authorization"] == f"Bearer {smoke.token(KEY, 5)}"
    path.unlink()
    with pytest.raises(smoke.SmokeError, match="LINKRIFT_JWT_SECRET_FILE of the slot cannot be read"):
        smoke.requests_of("api", {"LINKRIFT_JWT_SECRET_FILE": str(path)}, 5)
    with pytest.raises(smoke.SmokeError, match="has no LINKRIFT_JWT_SECRET"):
        smoke.requests_of("api", {}, 5)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Response(302, {"location": "https://canary.linkrift.invalid/"}), ""),
        (Response(302, {"location": "https://elsewhere.example/"}), "/ping leads to https://elsewhere.example/, not"),
        (Response(302), "/ping leads to None, not"),
        (Response(301, {"location": "https://canary.linkrift.invalid/"}), "/ping answers 301, not 302"),
        (Response(404), "Migration 000004_canary of the release makes it"),
        (Response(500), "/ping answers 500, not 302"),
        (Response(error="timed out"), r"/ping gets no answer \(timed out\)"),
        (Response(302, error="larger"), r"/ping answers 302, not 302 \(larger\)"),
    ],
)
def test_the_answer_to_the_canarys_link(response: Response, reason: str) -> None:
    matches(smoke.judge_canary_link(response).reason, reason)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Response(404), ""),
        (Response(503), "a code that no link has answers 503, not 404"),
        (Response(302, {"location": "https://x/"}), "answers 302, not 404"),
    ],
)
def test_the_answer_to_an_unknown_code(response: Response, reason: str) -> None:
    matches(smoke.judge_unknown_link(response).reason, reason)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (links(CANARY), ""),
        (links(), "Migration 000004_canary of the release makes it"),
        (links({**CANARY, "url": "https://x/"}), "finds ping to https://x/, not ping to https://canary"),
        (links("ping"), "finds None to None"),
        (Response(401), "does not take a token that is signed with its own LINKRIFT_JWT_SECRET"),
        (Response(500), "answers 500, not 200"),
        (Response(200, content=b"<html>"), r"without a list of links \(the answer is no JSON"),
        (Response(200, content=b"{}"), "answers 200 without a list of links$"),
        (Response(error="refused"), r"gets no answer \(refused\)"),
    ],
)
def test_the_answer_to_an_api_call(response: Response, reason: str) -> None:
    matches(smoke.judge_canary_list(response).reason, reason)


def matches(found: str, pattern: str) -> None:
    """Tell that the text fits; an empty pattern fits an empty text only."""
    if pattern:
        with pytest.raises(ValueError, match=pattern):
            raise ValueError(found)
    else:
        assert found == ""


def test_requests_end_with_the_first_wrong_answer_and_begin_anew() -> None:
    answers = {"/ping": Response(500, content=b"x" * 5000)}
    asked: list[str] = []

    def fetch(path: str, headers: Mapping[str, str]) -> Response:
        asked.append(path)
        return answers.get(path, Response(404))

    requests = smoke.Smoke("redirect", {}, fetch, lambda: 0.0)
    answer = requests.ask()
    assert asked == ["/ping"]
    assert (answer.status, len(answer.body["content"])) == (500, 2000)
    assert not requests.judge(answer).right
    answers["/ping"] = Response(302, {"location": smoke.CANARY_TARGET})
    assert requests.judge(requests.ask()).right
    assert len(asked) == 3


def test_what_is_sent_is_no_evidence() -> None:
    sent: list[str] = []

    def fetch(path: str, headers: Mapping[str, str]) -> Response:
        sent.append(headers["Authorization"])
        return Response(500, content=b"oh")

    answer = smoke.Smoke("api", ENVIRONMENT, fetch, lambda: 0.0).ask()
    assert sent[0].removeprefix("Bearer ") not in json.dumps(answer.as_dict())
