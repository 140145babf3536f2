"""A visitor's and an API client's path, from client1, through HAProxy and TLS, to the counted click."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass

import pytest

from tools.testing.lab_hosts import Lab, get_host, run_json


@dataclass
class Client:
    """curl on client1, pinned to the balancer's address and the lab's own certificate authority."""

    lab: Lab

    def curl(self, url: str, *options: str) -> tuple[int, dict[str, str], str]:
        """Return status, headers (lower case) and body."""
        host = url.split("/")[2]
        resolve = ["--resolve", f"{host}:443:{self.lab.balancer}", "--resolve", f"{host}:80:{self.lab.balancer}"]
        words = [
            "curl",
            "-sS",
            "-i",
            "--http1.1",
            "--max-time",
            "10",
            "--cacert",
            "/tmp/lab-ca.pem",
            *resolve,
            *options,
            url,
        ]
        result = get_host("client1").run(" ".join(["%s"] * len(words)), *words)
        assert result.rc == 0, result.stderr
        head, _, body = result.stdout.replace("\r\n", "\n").partition("\n\n")
        lines = head.split("\n")
        return int(lines[0].split()[1]), dict(map(_header, lines[1:])), body

    def api(self, method: str, path: str, body: object = None, token: str = "") -> tuple[int, dict[str, object]]:
        """Call the API and return status and JSON."""
        options = ["-X", method, "-H", f"Authorization: Bearer {token}"] if token else ["-X", method]
        if body is not None:
            options += ["-H", "Content-Type: application/json", "--data", json.dumps(body)]
        status, _, text = self.curl(f"https://api.{self.lab.domain}/api/v1{path}", *options)
        return status, json.loads(text) if text else {}

    def go(self, path: str, *options: str) -> tuple[int, dict[str, str], str]:
        """Follow a short link, without following where it leads."""
        return self.curl(f"https://go.{self.lab.domain}/{path}", *options)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


@pytest.fixture(scope="module")
def client(lab: Lab) -> Client:
    authority = (lab.directory / "ca.pem").read_text()
    get_host("client1").run_test("printf %%s %s > /tmp/lab-ca.pem", authority)
    return Client(lab)


@pytest.fixture(scope="module")
def token(client: Client) -> str:
    account = {"email": f"{secrets.token_hex(6)}@example.org", "password": secrets.token_urlsafe(18)}
    status, _ = client.api("POST", "/auth/register", account)
    assert status == 201
    status, answer = client.api("POST", "/auth/login", account)
    assert status == 200
    return str(answer["access_token"])


def make_link(client: Client, token: str, url: str) -> str:
    status, answer = client.api("POST", "/links", {"url": url}, token)
    assert status == 201, answer
    assert answer["short_url"] == f"https://go.{client.lab.domain}/{answer['code']}"
    return str(answer["code"])


def clicks(client: Client, token: str, code: str) -> int:
    status, answer = client.api("GET", f"/links/{code}/stats", token=token)
    assert status == 200, answer
    return int(str(answer["clicks"]))


def test_a_link_is_followed_and_its_clicks_are_counted(client: Client, token: str) -> None:
    code = make_link(client, token, "https://example.org/a?b=c#d")
    for _ in range(5):
        status, headers, _ = client.go(code)
        assert (status, headers["location"]) == (302, "https://example.org/a?b=c#d")
        assert "x-deployment-version" in headers
    deadline = time.monotonic() + 30
    while (counted := clicks(client, token, code)) < 5 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert counted == 5


def test_head_answers_without_a_body(client: Client, token: str) -> None:
    code = make_link(client, token, "https://example.org/head")
    status, headers, body = client.go(code, "-I")
    assert (status, headers["location"], body.strip()) == (302, "https://example.org/head", "")


def test_a_deleted_link_is_gone_within_a_second(client: Client, token: str) -> None:
    code = make_link(client, token, "https://example.org/gone")
    assert client.go(code)[0] == 302
    status, _ = client.api("DELETE", f"/links/{code}", token=token)
    assert status == 204
    deadline = time.monotonic() + 1
    while (status := client.go(code)[0]) != 410 and time.monotonic() < deadline:
        pass
    # Every process of every host, not just the one that answered first.
    assert {client.go(code)[0] for _ in range(9)} == {410}


def test_an_unknown_code_is_not_found(client: Client) -> None:
    assert client.go("doesnotexist")[0] == 404


def test_an_unknown_host_name_is_misdirected(client: Client) -> None:
    assert client.go("x", "-H", "Host: elsewhere.example")[0] == 421


@pytest.mark.parametrize("name", ["go", "api"])
@pytest.mark.parametrize("path", ["metrics", "health", "health/ready", "health/live", "metrics/", "//metrics"])
def test_the_inside_is_not_shown_to_the_public(client: Client, name: str, path: str) -> None:
    status, _, body = client.curl(f"https://{name}.{client.lab.domain}/{path}", "--path-as-is")
    assert status in {400, 403, 404}
    assert "http_requests_total" not in body
    assert "checks" not in body


def test_plain_http_leads_to_tls(client: Client) -> None:
    status, headers, _ = client.curl(f"http://go.{client.lab.domain}/abc")
    assert status in {301, 308}
    assert headers["location"] == f"https://go.{client.lab.domain}/abc"


def test_old_tls_is_refused(client: Client) -> None:
    address = client.lab.balancer
    for version, expected in (("-tls1_1", 1), ("-tls1_2", 0)):
        words = f"echo | openssl s_client -connect {address}:443 -servername go.{client.lab.domain} {version}"
        assert get_host("client1").run(words).rc == expected, version


def test_the_api_refuses_strangers(client: Client) -> None:
    assert client.api("GET", "/links")[0] == 401
    assert client.api("GET", "/links", token="a.b.c")[0] == 401


@pytest.fixture(scope="module")
def forged(client: Client, token: str) -> dict[str, str]:
    """Return what is stored of a visitor's click who says of himself what only Cloudflare may say."""
    code = make_link(client, token, "https://example.org/forged")
    claims = ("X-Forwarded-For: 203.0.113.77", "CF-Connecting-IP: 203.0.113.77", "True-Client-IP: 203.0.113.77")
    words = [word for claim in (*claims, "CF-IPCountry: AT", "cf-ipcountry: AT") for word in ("-H", claim)]
    assert client.go(code, *words)[0] == 302
    deadline = time.monotonic() + 30
    while clicks(client, token, code) < 1 and time.monotonic() < deadline:
        time.sleep(0.5)  # between two looks, with a deadline
    query = f"SELECT DISTINCT address, country FROM linkrift_analytics.clicks WHERE code = '{code}' FORMAT JSON"
    (click,) = run_json(get_host("data1"), "clickhouse-client --query %s", query)["data"]
    return dict(click)


def test_a_client_does_not_choose_its_address(forged: dict[str, str]) -> None:
    """The balancer replaces what the client claims; what is stored has its last part removed anyway."""
    assert forged["address"]
    assert not forged["address"].startswith("203.0.113.")


def test_a_client_does_not_choose_its_country(forged: dict[str, str]) -> None:
    assert forged["country"] == ""
