# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The backends file: what is accepted as a description of services, and what of it is found again in the file."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import (
    STATES,
    Remembered,
    TopologyError,
    digest,
    digest_in,
    parse_changes,
    parse_file,
    parse_services,
    render,
    tls_in,
)


def host(name: str = "app1", address: str = "192.0.2.1", blue: Any = 8081, green: Any = 8181) -> dict[str, Any]:
    return {"host": name, "address": address, "ports": {"blue": blue, "green": green}}


def one(**settings: Any) -> dict[str, Any]:
    return {"redirect": {"servers": [host()], **settings}}


def test_file_is_what_haproxy_shall_load() -> None:
    backends = parse_services(
        {
            "redirect": {"servers": [host("app2", "2001:db8::2"), host()]},
            "api": {
                "servers": [host(blue="8080", green=8180)],
                "balance": "leastconn",
                "retries": 0,
                "check": {"path": "/up", "inter": "2s", "fastinter": "1s", "downinter": "3s", "fall": 3, "rise": 2},
                "timeouts": {"connect": "500ms", "server": "1m", "queue": "7s"},
            },
        }
    )
    text = render(backends, {("linkrift_redirect", "app1-blue"): "ready", ("linkrift_redirect", "app1-green"): "drain"})
    wanted = f"setenv LINKRIFT_ROTATION {digest(backends)}\n"
    assert text.partition("global\n")[2].partition("\n")[2].strip().splitlines()[0] == wanted.strip()
    assert text.partition("\n\n")[2] == (
        "defaults linkrift_backends\n"
        "    mode http\n"
        "    log global\n"
        "    option redispatch 1\n"
        "\n"
        "backend linkrift_api from linkrift_backends\n"
        "    balance leastconn\n"
        "    timeout connect 500ms\n"
        "    timeout server 1m\n"
        "    timeout queue 7s\n"
        "    timeout check 1s\n"
        "    retries 0\n"
        "    http-reuse safe\n"
        "    option httpchk\n"
        "    http-check send meth GET uri /up ver HTTP/1.1 hdr Host localhost hdr User-Agent haproxy-check\n"
        "    http-check expect status 200\n"
        "    http-check disable-on-404\n"
        "    default-server check inter 2s fastinter 1s downinter 3s fall 3 rise 2\n"
        "    server app1-blue 192.0.2.1:8080 weight 100 disabled\n"
        "    server app1-green 192.0.2.1:8180 weight 100 disabled\n"
        "\n"
        "backend linkrift_redirect from linkrift_backends\n"
        "    balance roundrobin\n"
        "    timeout connect 1s\n"
        "    timeout server 30s\n"
        "    timeout queue 5s\n"
        "    timeout check 1s\n"
        "    retries 3\n"
        "    http-reuse safe\n"
        "    option httpchk\n"
        "    http-check send meth GET uri /health ver HTTP/1.1 hdr Host localhost hdr User-Agent haproxy-check\n"
        "    http-check expect status 200\n"
        "    http-check disable-on-404\n"
        "    default-server check inter 250ms fastinter 250ms downinter 250ms fall 4 rise 1\n"
        "    server app1-blue 192.0.2.1:8081 weight 100\n"
        "    server app1-green 192.0.2.1:8181 weight 0\n"
        "    server app2-blue [2001:db8::2]:8081 weight 100 disabled\n"
        "    server app2-green [2001:db8::2]:8181 weight 100 disabled\n"
    )


TLS = {"ca_file": "/etc/linkrift/tls/ca.pem", "verify_host": "redirect.services.linkrift.internal"}


def test_servers_prove_who_they_are_where_tls_is_wanted() -> None:
    plain = "default-server check inter 250ms fastinter 250ms downinter 250ms fall 4 rise 1"
    ca, name = TLS["ca_file"], TLS["verify_host"]
    proof = f"verifyhost {name} sni str({name}) check-ssl check-sni {name}"
    text = render(parse_services({**one(tls=TLS), "api": {"servers": [host(blue=8080, green=8180)], "tls": {}}}), {})
    assert [line.strip() for line in text.splitlines() if "default-server" in line] == [
        plain,
        f"{plain} ssl ssl-min-ver TLSv1.2 verify required ca-file {ca} {proof}",
    ]
    assert tls_in(text) == {"linkrift_api": False, "linkrift_redirect": True}
    assert parse_file(text)["linkrift_redirect", "app1-blue"] == Remembered("maint", "192.0.2.1:8081")
    # Who does not want it sees no change: nothing to reload.
    assert render(parse_services(one(tls={})), {}) == render(parse_services(one()), {})


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)


@given(
    services=st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=4, unique=True), min_size=1, max_size=3),
    data=st.data(),
)
def test_states_and_addresses_are_found_again(services: dict[str, list[str]], data: st.DataObject) -> None:
    topology = {
        service: {"servers": [host(name, f"192.0.2.{number}") for number, name in enumerate(names, 1)]}
        for service, names in services.items()
    }
    backends = parse_services(topology)
    keys = [(backend.name, server.name) for backend in backends for server in backend.servers]
    addresses = {(backend.name, server.name): server.address for backend in backends for server in backend.servers}
    states = {key: data.draw(st.sampled_from(STATES)) for key in keys}
    text = render(backends, states)
    assert parse_file(text) == {key: Remembered(states[key], addresses[key]) for key in keys}
    assert digest_in(text) == digest(backends)
    # Nothing depends on the order in which an inventory lists hosts and services.
    turned = {
        service: {"servers": list(reversed(entry["servers"]))} for service, entry in reversed(list(topology.items()))
    }
    assert render(parse_services(turned), states) == text


def test_digest_tells_settings_apart_but_not_states() -> None:
    backends = parse_services(one())
    assert digest_in(render(backends, {})) == digest_in(render(backends, {("linkrift_redirect", "app1-blue"): "ready"}))
    others = [
        one(retries=1),
        one(check={"fall": 5}),
        one(timeouts={"server": "9s"}),
        one(balance="random"),
        one(tls=TLS),
        one(tls={**TLS, "verify_host": "other.internal"}),
        {"redirect": {"servers": [host(blue=8082)]}},
        {"api": {"servers": [host()]}},
    ]
    assert len({digest(parse_services(other)) for other in [one(), *others]}) == len(others) + 1


def test_numbers_may_come_as_text_from_templates() -> None:
    given_text = {"redirect": {"servers": [host(blue="8081", green="8181")], "retries": "3", "check": {"rise": "1"}}}
    assert parse_services(given_text) == parse_services(one())


@pytest.mark.parametrize(
    ("services", "words"),
    [
        ({}, "at least one service"),
        ({"Redirect": {"servers": [host()]}}, r"services\.Redirect: a service's name"),
        ({"redirect": []}, r"services\.redirect: a mapping is needed"),
        ({"redirect": {}}, r"services\.redirect\.servers: a list of at least one host"),
        (one(colour="red"), r"services\.redirect: unknown key colour; known are servers, balance"),
        (one(balance="source"), "'source' is not one of roundrobin"),
        (one(retries=-1), r"retries: -1 is not a whole number from 0 to 1000"),
        (one(retries=True), "True is not a whole number"),
        (one(check={"path": "health"}), r"check\.path: 'health' is not a path"),
        (one(check={"path": "/a b"}), r"check\.path"),
        (one(check={"path": "/a\nserver x 192.0.2.66:80"}), r"check\.path"),
        (one(check={"inter": 2}), r"check\.inter: 2 is not a time such as 250ms"),
        (one(check={"inter": "0s"}), r"check\.inter"),
        (one(check={"inter": "1s\n"}), r"check\.inter"),
        (one(timeouts={"tunnel": "1s"}), "unknown key tunnel"),
        (one(tls=True), r"tls: a mapping is needed"),
        (one(tls={**TLS, "verify": "none"}), r"tls: unknown key verify; known are ca_file, verify_host"),
        (one(tls={"verify_host": "a.internal"}), r"tls\.ca_file: '' is not the path of a file"),
        (one(tls={**TLS, "ca_file": "ca.pem"}), r"tls\.ca_file"),
        (one(tls={**TLS, "ca_file": "/ca.pem verify none"}), r"tls\.ca_file"),
        (one(tls={"ca_file": "/ca.pem"}), r"tls\.verify_host: '' is not a name in lower case"),
        (one(tls={**TLS, "verify_host": "a b"}), r"tls\.verify_host"),
        (one(tls={**TLS, "verify_host": "a)"}), r"tls\.verify_host"),
        ({"redirect": {"servers": [host("App1")]}}, r"servers\[0\]\.host: 'App1' is not a host name in lower case"),
        ({"redirect": {"servers": [host("a b")]}}, r"servers\[0\]\.host"),
        ({"redirect": {"servers": [host(address="app1.example.com")]}}, "is not an IPv4 or IPv6 address"),
        ({"redirect": {"servers": [host(blue=0)]}}, r"ports\.blue: 0 is not a whole number from 1 to 65535"),
        ({"redirect": {"servers": [{**host(), "ports": {"blue": 1}}]}}, "a port is needed for each of blue, green"),
        ({"redirect": {"servers": [{**host(), "ports": {"blue": 1, "green": 2, "red": 3}}]}}, "unknown key red"),
        ({"redirect": {"servers": [host(), host(address="192.0.2.2")]}}, "the same host is given twice: app1-blue"),
        ({"redirect": {"servers": [host(), host("app2")]}}, "the same address and port is given twice: 192.0.2.1:8081"),
        ({"redirect": {"servers": [host(blue=8081, green=8081)]}}, "the same address and port is given twice"),
    ],
)
def test_wrong_description_is_refused_with_the_place(services: dict[str, Any], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        parse_services(services)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            [{"service": "redirect", "host": "app9", "slot": "blue", "state": "ready"}],
            "no slot blue on host app9; known",
        ),
        ([{"service": "api", "host": "app1", "slot": "blue", "state": "ready"}], r"known are redirect/app1-blue"),
        ([{"service": "redirect", "host": "app1", "slot": "blue", "state": "on"}], "'on' is not one of ready"),
        ([{"service": "redirect", "host": "app1", "slot": "blue", "state": "ready"}] * 2, "app1-blue is named twice"),
    ],
)
def test_wrong_change_is_refused(changes: list[dict[str, str]], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        parse_changes(changes, parse_services(one()))


def test_text_that_is_no_backends_file_says_nothing() -> None:
    assert parse_file("") == {}
    assert parse_file("backend x\n    server a 1.2.3.4:5 check\nfrontend y\n    server b 1.2.3.4:5 weight 100\n") == {}
    assert digest_in("backend x\n") is None
