"""The address that the balancers share: one of them has it, and nobody else has a say."""

from __future__ import annotations

import re

import pytest

from tools.testing.lab_hosts import BALANCERS, Lab, get_host, variables

# Sends one VRRP advertisement (RFC 5798, of the highest priority) from a host to a balancer's own address.
ADVERTISE = """
import socket, struct, sys
own, target, shared = sys.argv[1:]
body = struct.pack("!BBBBHH4s", 0x31, 71, 254, 1, 30, 0, socket.inet_aton(shared))
pseudo = socket.inet_aton(own) + socket.inet_aton(target) + struct.pack("!BBH", 0, 112, len(body))
total = sum(struct.unpack(f"!{len(pseudo + body) // 2}H", pseudo + body))
total = (total >> 16) + (total & 0xFFFF)
total += total >> 16
body = body[:6] + struct.pack("!H", ~total & 0xFFFF) + body[8:]
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
for _ in range(5):
    raw.sendto(body, (target, 0))
"""


def holders(address: str) -> list[str]:
    """The balancers that have an address."""
    return [name for name in BALANCERS if get_host(name).check_output("ip -oneline address show to %s", address)]


@pytest.fixture(scope="module")
def holder(lab: Lab) -> str:
    (name,) = holders(lab.visitors[0])
    return name


def test_one_balancer_has_the_addresses_of_both_families(lab: Lab, holder: str) -> None:
    assert len(lab.visitors) == 2
    assert holders(lab.visitors[1]) == [holder]


def test_neighbours_reach_it_there(lab: Lab, holder: str) -> None:
    client = get_host("client1")
    for address in lab.visitors:
        url = f"https://go.{lab.domain}/ping"
        resolve = f"go.{lab.domain}:443:{address}"
        words = "curl -sSk -o /dev/null -w %%{http_code} --resolve %s %s"
        assert client.check_output(words, resolve, url) == "302"
        interface = get_host(holder).check_output("ip -oneline link show up | grep -v LOOPBACK")
        mac = re.search(r"link/ether (\S+)", interface)
        assert mac
        assert mac[1] in client.check_output("ip neighbour show to %s", address)


@pytest.mark.parametrize("name", BALANCERS)
def test_a_balancer_says_that_it_serves(name: str) -> None:
    for question in ("alive", "serves"):
        assert get_host(name).run("sudo -u keepalived_script /etc/keepalived/linkrift-check %s 8406", question).rc == 0
    assert get_host(name).service("keepalived").is_running
    assert get_host(name).service("keepalived").is_enabled


def dropped(name: str) -> int:
    """Packets that the firewall of a balancer has dropped, since no rule lets them in."""
    found = re.search(r"policy DROP (\d+) packets", get_host(name).check_output("iptables -nvxL INPUT"))
    assert found
    return int(found[1])


def test_nobody_else_has_a_say(lab: Lab, holder: str) -> None:
    stranger = variables("app1")["linkrift_address"]
    for name in BALANCERS:
        before = dropped(name)
        target = variables(name)["linkrift_address"]
        get_host("app1").check_output("python3 -c %s %s %s %s", ADVERTISE, stranger, target, lab.visitors[0])
        assert dropped(name) >= before + 5
        # It would complain of what reached it.
        assert stranger not in get_host(name).check_output("journalctl --unit=keepalived --output=cat --no-pager")
    assert holders(lab.visitors[0]) == [holder]
