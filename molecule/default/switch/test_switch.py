"""The redirect service moved to its other slot while visitors came (side_effect.yml)."""

from __future__ import annotations

import json

import pytest

from tools.testing.lab_hosts import APP_HOSTS, get_host

BALANCER_COUNTERS = """
import socket, csv, json
with socket.socket(socket.AF_UNIX) as admin:
    admin.connect("/run/haproxy/admin.sock")
    admin.sendall(b"show stat\\n")
    text = b"".join(iter(lambda: admin.recv(65536), b"")).decode()
rows = csv.DictReader(text.lstrip("# ").splitlines())
names = ("wretr", "wredis", "econ", "eresp", "hrsp_5xx")
print(json.dumps([{name: int(row[name] or 0) for name in names} for row in rows
                  if row["pxname"] == "linkrift_redirect" and row["svname"] == "BACKEND"]))
"""


def test_no_visitor_noticed() -> None:
    report = json.loads(get_host("client1").file("/run/linkrift-load/report.json").content_string)
    assert (report["failed"], report["failures"]) == (0, {})
    assert report["requests"] > 500
    assert list(report["statuses"]) == ["302"]


def test_no_retry_hid_a_drop() -> None:
    counters = json.loads(get_host("lb1").check_output("python3 -c %s", BALANCER_COUNTERS))
    assert counters == [{"wretr": 0, "wredis": 0, "econ": 0, "eresp": 0, "hrsp_5xx": 0}]


@pytest.mark.parametrize("name", APP_HOSTS)
def test_the_other_slot_is_live(name: str) -> None:
    host = get_host(name)
    assert host.check_output("readlink /opt/linkrift/redirect/live") == "green"
    assert host.service("linkrift-redirect@green").is_enabled
    assert not host.service("linkrift-redirect@blue").is_running
    assert host.check_output("readlink /opt/linkrift/api/live") == "blue"
