# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The list of networks that are believed: what is refused, and what reaches HAProxy."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils._allowlist import (
    MAX_BYTES,
    Allowlist,
    AllowlistError,
    Refresh,
    check_networks,
    check_shrink,
    lines_of,
    parse,
    read_time,
)
from ansible_collections.linkrift.platform.plugins.module_utils._certificates import CertificateError
from ansible_collections.linkrift.platform.plugins.modules import cloudflare_allowlist, cloudflare_networks_info
from ansible_collections.linkrift.platform.tests.unit.certificate_fakes import FakeHaproxy

FOUR = ["203.0.113.0/24", "198.51.100.0/24"]
SIX = ["2001:db8::/32"]
Run = Callable[..., dict[str, Any]]


def make(networks: list[str], as_of: str = "2026-01-01") -> Allowlist:
    return Allowlist(tuple(check_networks(networks)), read_time(as_of), "test")


def test_networks_are_sorted_and_each_there_once() -> None:
    assert check_networks([*SIX, *FOUR, *FOUR]) == ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        ([], "no IPv4 network"),
        (FOUR, "no IPv6 network"),
        (SIX, "no IPv4 network"),
        ([*FOUR, *SIX, "0.0.0.0/0"], "0.0.0.0/0 is too large: at least /8"),
        ([*FOUR, *SIX, "::/0"], "::/0 is too large: at least /16"),
        ([*FOUR, *SIX, "<html>"], "not a network"),
        ([*FOUR, *SIX, "192.0.2.1"], "has no prefix length"),
        ([*FOUR, *SIX, "192.0.2.1/24"], "host bits set"),
        ([*FOUR, *SIX, "192.0.2.0/24; shutdown"], "not a network"),
        ([*SIX, *(f"{first}.0.0.0/8" for first in range(1, 6))], "too large together"),
        ([*SIX, *(f"10.0.{a}.{b}/32" for a in range(4) for b in range(256))], "1025 networks are too many"),
    ],
)
def test_what_is_no_list_is_refused(networks: list[str], words: str) -> None:
    with pytest.raises(AllowlistError, match=words):
        check_networks(networks)


def test_text_is_bounded() -> None:
    assert lines_of("192.0.2.0/24\r\n\n 198.51.100.0/24 \n") == ["192.0.2.0/24", "198.51.100.0/24"]
    with pytest.raises(AllowlistError, match="larger than"):
        lines_of("x" * (MAX_BYTES + 1))


def test_drastic_loss_is_refused_and_summed_up_networks_are_none() -> None:
    check_shrink(["192.0.2.0/25", "192.0.2.128/25", *SIX], ["192.0.2.0/24", *SIX])
    check_shrink(FOUR, FOUR[:1])
    with pytest.raises(AllowlistError, match="67 % of its IPv4 addresses"):
        check_shrink([*FOUR, "192.0.2.0/24"], FOUR[:1])
    with pytest.raises(AllowlistError, match="100 % of its IPv6"):
        check_shrink([*FOUR, *SIX], FOUR)


def test_file_says_of_when_it_is() -> None:
    allowlist = make([*FOUR, *SIX], "2026-01-31T12:00:00Z")
    assert parse(allowlist.text) == allowlist
    assert "# as of: 2026-01-31T12:00:00Z\n" in allowlist.text
    assert allowlist.age_days(read_time("2026-02-01T00:00:00Z")) == 0.5
    for damaged in ("", "192.0.2.0/24\n", "# as of: yesterday\n192.0.2.0/24\n2001:db8::/32\n"):
        with pytest.raises(AllowlistError):
            parse(damaged)


class World:
    """A file and a HAProxy."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "cloudflare.lst"
        self.haproxy = FakeHaproxy()
        self.reloads = 0

    def reload(self) -> None:
        self.reloads += 1

    def refresh(self, *, force: bool = False) -> Refresh:
        return Refresh(self.path, cast("Any", self.haproxy), self.reload, force)

    @property
    def loaded(self) -> list[str]:
        return self.haproxy.lists[str(self.path)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A HAProxy that runs with a list of before."""
    made = World(tmp_path)
    before = make([*FOUR, *SIX])
    made.path.write_text(before.text)
    made.path.chmod(0o644)
    made.haproxy.lists[str(made.path)] = list(before.networks)
    return made


def test_first_list_of_a_host_without_haproxy(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.haproxy.running = False
    given = make([*FOUR, *SIX])
    assert world.refresh().apply(given).changed
    assert world.path.read_text() == given.text
    assert not world.refresh().apply(given).changed


def test_newer_list_reaches_haproxy_without_a_reload(world: World) -> None:
    given = make([FOUR[0], "192.0.2.0/24", *SIX], "2026-02-01")
    foreseen = world.refresh().plan(given)
    assert (foreseen.changed, foreseen.added, foreseen.removed) == (True, ["192.0.2.0/24"], ["198.51.100.0/24"])
    outcome = world.refresh().apply(given)
    assert (outcome, world.reloads) == (foreseen, 0)
    assert world.loaded == list(given.networks)
    assert world.path.read_text() == given.text
    assert not world.refresh().apply(given).changed


def test_older_list_does_not_undo_a_newer_one(world: World) -> None:
    text = world.path.read_text()
    given = make([FOUR[0], *SIX], "2025-12-31")
    outcome = world.refresh().apply(given)
    assert (outcome.changed, outcome.kept_newer) == (False, True)
    assert world.path.read_text() == text
    assert world.refresh(force=True).apply(given).changed
    assert world.loaded == list(given.networks)


def test_haproxy_that_has_another_list_than_the_file_gets_it(world: World) -> None:
    world.haproxy.lists[str(world.path)] = ["192.0.2.0/24"]
    outcome = world.refresh().apply(make([*FOUR, *SIX]))
    assert (outcome.changed, outcome.how) == (True, "runtime")
    assert world.loaded == check_networks([*FOUR, *SIX])


def test_loss_needs_force(world: World) -> None:
    text = world.path.read_text()
    given = make(["198.51.100.0/26", *SIX], "2026-02-01")
    with pytest.raises(AllowlistError, match="say so with force"):
        world.refresh().apply(given)
    assert (world.path.read_text(), world.haproxy.calls) == (text, [])
    assert world.refresh(force=True).apply(given).changed


def test_file_that_others_may_write_is_closed_again(world: World) -> None:
    world.path.chmod(0o666)
    assert world.refresh().apply(make([*FOUR, *SIX])).changed
    assert world.path.stat().st_mode & 0o777 == 0o644
    assert not world.refresh().apply(make([*FOUR, *SIX])).changed


def test_damaged_file_is_replaced(world: World) -> None:
    world.path.write_text("0.0.0.0/0\n")
    assert world.refresh().apply(make([*FOUR, *SIX])).changed


def test_reload_where_haproxy_does_not_take_it(world: World) -> None:
    world.haproxy.refuses = True
    assert world.refresh().apply(make([*FOUR, *SIX, "192.0.2.0/24"], "2026-02-01")).how == "reload"
    assert world.reloads == 1
    world.haproxy.refuses, world.haproxy.forgets = False, True
    with pytest.raises(AllowlistError, match="shows another one"):
        world.refresh().apply(make([*FOUR, *SIX, "192.0.2.0/25"], "2026-03-01"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def start(module: Any, **arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        return cast("dict[str, Any]", json.loads(capsys.readouterr().out))

    return start


def test_module_warns_of_age_and_measures_it(
    run: Run, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloudflare_allowlist, "Haproxy", lambda _admin, _master: world.haproxy)
    given: dict[str, Any] = {
        "networks": [*FOUR, *SIX, "192.0.2.0/24"],
        "as_of": "2026-01-02",
        "path": str(world.path),
        "metrics_path": str(tmp_path / "textfiles/list.prom"),
        "lock_path": str(tmp_path / "lock"),
    }
    foreseen = run(cloudflare_allowlist, **given, _ansible_check_mode=True)
    assert (foreseen["changed"], world.haproxy.calls) == (True, [])
    result = run(cloudflare_allowlist, **given)
    assert (result["changed"], result["how"], result["added"], result["stale"]) == (
        True,
        "runtime",
        ["192.0.2.0/24"],
        True,
    )
    assert result["diff"] == foreseen["diff"]
    assert "days old: run playbooks/allowlist.yml" in json.dumps(result["warnings"])
    metric = (tmp_path / "textfiles/list.prom").read_text()
    assert (
        f'linkrift_allowlist_as_of_seconds{{list="cloudflare"}} {int(read_time("2026-01-02").timestamp())}\n' in metric
    )
    again = run(cloudflare_allowlist, **given, max_age=100_000)
    assert (again["changed"], again["stale"]) == (False, False)
    assert "no IPv6 network" in run(cloudflare_allowlist, **given | {"networks": FOUR})["msg"]
    assert "is no time such as" in run(cloudflare_allowlist, **given | {"as_of": "yesterday"})["msg"]

    def fail() -> None:
        raise CertificateError("the unit is broken")

    monkeypatch.setattr(cloudflare_allowlist, "reload_with", lambda *_command: fail)
    world.haproxy.refuses = True
    assert (
        "the unit is broken"
        in run(cloudflare_allowlist, **given | {"networks": [*FOUR, *SIX], "as_of": "2026-03-01"})["msg"]
    )


@pytest.fixture
def site() -> Iterator[tuple[str, dict[str, str]]]:
    """A server of lists: its URL and its pages, which a test may change."""
    pages = {"/ips-v4": "".join(f"{each}\n" for each in FOUR), "/ips-v6": SIX[0]}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", pages
    server.shutdown()
    server.server_close()
    thread.join()


def test_lists_are_fetched_and_looked_at(
    run: Run, site: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    url, pages = site
    urls = [f"{url}/ips-v4", f"{url}/ips-v6"]
    result = run(cloudflare_networks_info, urls=urls)
    assert result["networks"] == check_networks([*FOUR, *SIX])
    assert (result["changed"], result["source"]) == (False, " ".join(urls))
    assert read_time(result["as_of"]).year >= 2026
    for page, words in (
        ("", "no IPv6 network"),
        ("<!doctype html><title>Sorry</title>", "not a network"),
        ("2001:db8::/32\n" * 6000, "larger than"),
        ("2001:db8::/32\n\u00e9", "ascii"),
    ):
        pages["/ips-v6"] = page
        assert words in run(cloudflare_networks_info, urls=urls)["msg"]
    assert "404" in run(cloudflare_networks_info, urls=[f"{url}/elsewhere"])["msg"]
    assert "refused" in run(cloudflare_networks_info, urls=["http://127.0.0.1:1/"], timeout=2)["msg"]
