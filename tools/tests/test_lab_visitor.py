"""`make up` uses the platform as its users do, adds nothing twice, and says what does not answer."""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tools import up
from tools.lab import LabToolError, authority, visitor
from tools.lab.progress import Progress
from tools.lab.visitor import Link, Platform

DOMAIN = "linkrift.test"
LINKS = [Link.to(f"https://docs.example/{number}") for number in range(40)]


class FakePlatform:
    """Answers as the API and the redirect service do, for one account."""

    def __init__(self) -> None:
        self.accounts: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.clicks: dict[str, int] = {}
        self.busy = 0
        self.posts = 0
        self.loses_clicks = False

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/api/v1/auth/register", self.register)
        application.router.add_post("/api/v1/auth/login", self.login)
        application.router.add_post("/api/v1/links", self.create)
        application.router.add_get("/api/v1/links/{code}", self.show)
        application.router.add_get("/api/v1/links/{code}/stats", self.stats)
        application.router.add_get("/{code}", self.follow)
        return application

    async def register(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["email"] in self.accounts:
            return web.json_response({}, status=409)
        self.accounts[body["email"]] = body["password"]
        return web.json_response({}, status=201)

    async def login(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.accounts.get(body["email"]) != body["password"]:
            return web.json_response({}, status=401)
        return web.json_response({"access_token": "token"})

    async def create(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer token"
        self.posts += 1
        if self.busy:
            self.busy -= 1
            return web.Response(status=429, headers={"Retry-After": "0"})
        body = await request.json()
        if body["code"] in self.links:
            return web.json_response({}, status=409)
        if "bad" in body["url"]:
            return web.json_response({"detail": "no such URL"}, status=422)
        self.links[body["code"]] = body["url"]
        return web.json_response({"code": body["code"]}, status=201)

    async def show(self, request: web.Request) -> web.Response:
        url = self.links.get(request.match_info["code"])
        return web.json_response({"url": url}, status=200 if url else 404)

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response({"clicks": self.clicks.get(request.match_info["code"], 0)})

    async def follow(self, request: web.Request) -> web.Response:
        code = request.match_info["code"]
        if not self.loses_clicks:
            self.clicks[code] = self.clicks.get(code, 0) + 1
        return web.Response(status=302, headers={"Location": self.links[code]})


@pytest.fixture
def fake() -> FakePlatform:
    return FakePlatform()


Connect = Callable[[], Any]


@pytest.fixture
async def connect(fake: FakePlatform, tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Connect]:
    signer, _ = authority.ensure_authority(tmp_path)
    authority.ensure_certificate(
        signer, tmp_path, "public", [f"go.{DOMAIN}", f"api.{DOMAIN}"], [ip_address("127.0.0.1")]
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls/public.pem", tmp_path / "tls/public.key")
    runner = web.AppRunner(fake.application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port, ssl_context=context).start()
    yield lambda: visitor.connected(f"{DOMAIN}:{unused_tcp_port}", "127.0.0.1", str(tmp_path / "ca.pem"))
    await runner.cleanup()


def quiet() -> Progress:
    return Progress(io.StringIO())


async def test_account_links_and_a_counted_click(fake: FakePlatform, connect: Connect) -> None:
    async with connect() as platform:
        account, clicks = await up.use(platform, quiet(), up.Account("a@b.test", "password"), LINKS)
    assert account == up.Account("a@b.test", "password")
    assert fake.links == {link.code: link.url for link in LINKS}
    assert clicks == 1


async def test_a_second_run_adds_nothing(fake: FakePlatform, connect: Connect) -> None:
    for _ in range(2):
        async with connect() as platform:
            await up.use(platform, quiet(), up.Account("a@b.test", "password"), LINKS)
    assert fake.posts == len(LINKS)
    assert len(fake.accounts) == 1


async def test_an_interrupted_run_goes_on(fake: FakePlatform, connect: Connect) -> None:
    fake.links = {link.code: link.url for link in LINKS[:7]}
    async with connect() as platform:
        await up.use(platform, quiet(), up.Account("a@b.test", "password"), LINKS)
    assert len(fake.links) == len(LINKS)


async def test_an_account_with_a_lost_password_is_left_alone(fake: FakePlatform, connect: Connect) -> None:
    fake.accounts["a@b.test"] = "forgotten"
    async with connect() as platform:
        account, _ = await up.use(platform, quiet(), up.Account("a@b.test", "password"), LINKS)
    assert account.email != "a@b.test"
    assert fake.accounts[account.email] == "password"


async def test_waits_while_the_api_is_busy(fake: FakePlatform, connect: Connect) -> None:
    fake.busy = 5
    async with connect() as platform:
        await platform.sign_in("a@b.test", "password")
        assert await platform.create(LINKS, lambda count: None) == len(LINKS)


async def test_says_what_the_api_refuses(connect: Connect) -> None:
    async with connect() as platform:
        await platform.sign_in("a@b.test", "password")
        with pytest.raises(LabToolError, match=r"POST https://api\.linkrift\.test.* answered 422: .*no such URL"):
            await platform.create([Link.to("https://bad.example")], lambda count: None)


async def test_a_link_that_leads_elsewhere_is_an_error(fake: FakePlatform, connect: Connect) -> None:
    fake.links[LINKS[0].code] = "https://evil.example"
    async with connect() as platform:
        with pytest.raises(LabToolError, match="evil"):
            await platform.follow(LINKS[0])


async def test_a_click_that_is_never_counted_is_an_error(
    fake: FakePlatform, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitor, "_CLICK_SECONDS", 0.1)
    fake.loses_clicks = True
    fake.links = {link.code: link.url for link in LINKS}
    async with connect() as platform:
        await platform.follow(LINKS[0])
        with pytest.raises(LabToolError, match="not counted"):
            await platform.counted(LINKS[0], 0)


async def test_a_certificate_of_another_authority_is_refused(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    authority.ensure_authority(tmp_path / "other")
    (tmp_path / "ca.pem").write_bytes((tmp_path / "other/ca.pem").read_bytes())
    with pytest.raises(LabToolError, match=r"no answer from the balancer at 127\.0\.0\.1"):
        async with connect() as platform:
            await platform.sign_in("a@b.test", "password")


async def test_a_balancer_that_is_not_there_is_told(tmp_path: Path, unused_tcp_port: int) -> None:
    authority.ensure_authority(tmp_path)
    with pytest.raises(LabToolError, match="no answer"):
        async with visitor.connected(f"x.test:{unused_tcp_port}", "127.0.0.1", str(tmp_path / "ca.pem")) as platform:
            await platform.sign_in("a@b.test", "password")


def test_a_url_always_gets_the_same_code() -> None:
    assert Link.to("https://docs.example/") == Link.to("https://docs.example/")
    assert len({link.code for link in LINKS}) == len(LINKS)


def test_the_projects_urls_are_http_and_each_there_once() -> None:
    links = up.sample_links()
    assert 200 <= len(links) <= 400
    assert len({link.code for link in links}) == len(links)
    assert all(link.url.startswith(("http://", "https://")) for link in links)


@pytest.mark.parametrize("content", [None, "", "{}", '{"admin": {}}', "[]"])
def test_without_an_account_of_before_there_is_a_new_one(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "lab.json").write_text(content)
    account = up.account(tmp_path / "lab.json")
    assert account.email == up.EMAIL
    assert len(account.password) >= 24


def test_describes_the_lab_for_scripts(tmp_path: Path) -> None:
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory/hosts.yml").write_text(
        'all: {hosts: {lb1: {linkrift_address: 198.18.1.11, linkrift_address6: "fd6c:696e:6b72:1::11"}},'
        " children: {balancers: {hosts: {lb1: {}}}}}"
    )
    account = up.Account("a@b.test", "password")
    up.write_description(tmp_path, account)
    assert json.loads((tmp_path / "lab.json").read_text()) == {
        "api_url": "https://api.linkrift.test",
        "go_url": "https://go.linkrift.test",
        "ca_file": str(tmp_path / "ca.pem"),
        "addresses": {"lb1": "198.18.1.11"},
        "visitors": "198.18.1.11",
        "admin": {"email": "a@b.test", "password": "password"},
    }
    assert (tmp_path / "lab.json").stat().st_mode & 0o777 == 0o600
    assert up.account(tmp_path / "lab.json") == account


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with up.alone(tmp_path), pytest.raises(LabToolError, match="another make up"), up.alone(tmp_path):
        pass


def test_the_summary_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    description = {"visitors": "198.18.1.10", "go_url": "https://go.x.test", "api_url": "https://api.x.test"}
    text = up.summary(description, LINKS[0], "1.0+abc")
    [line] = [line for line in text.splitlines() if "follow it" in line]
    assert line.endswith(f"ca.pem --resolve go.x.test:443:198.18.1.10 -i https://go.x.test/{LINKS[0].code}")


def test_platform_urls_are_the_domains() -> None:
    platform = Platform(None, "x.test")  # type: ignore[arg-type]  # no request is made
    assert (platform.api_url, platform.go_url) == ("https://api.x.test", "https://go.x.test")
