# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The backends, read back from their file."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import (
    TopologyError,
    parse_services,
    render,
)
from ansible_collections.linkrift.platform.plugins.module_utils._rotation_read import read_backends

SERVERS: list[dict[str, Any]] = [
    {"host": "app1", "address": "192.0.2.1", "ports": {"blue": 8081, "green": 8181}},
    {"host": "app-2.example.org", "address": "2001:db8::2", "ports": {"blue": 8081, "green": 8181}},
]
SERVICES = {
    "plain": {"redirect": {"servers": SERVERS}},
    "two": {"redirect": {"servers": SERVERS}, "api": {"servers": SERVERS[:1]}},
    "all settings": {
        "api": {
            "servers": SERVERS,
            "balance": "leastconn",
            "retries": 0,
            "check": {
                "path": "/health?a=b",
                "inter": "3s",
                "fastinter": "700ms",
                "downinter": "1m",
                "timeout": "9s",
                "fall": 4,
                "rise": 5,
            },
            "timeouts": {"connect": "6s", "server": "7s", "queue": "8s"},
            "tls": {"ca_file": "/etc/ca.pem", "verify_host": "api.services.example"},
        }
    },
}


@pytest.mark.parametrize("name", SERVICES)
def test_what_was_written_is_read(name: str) -> None:
    backends = parse_services(SERVICES[name])
    states = {(backend.name, backend.servers[0].name): "ready" for backend in backends}
    states |= {(backend.name, backend.servers[1].name): "drain" for backend in backends}
    assert read_backends(render(backends, states)) == backends


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    retries 3", "    retries three"),
        ("    retries 3\n", ""),
        ("    retries 3\n", "    retries 3\n    option abortonclose\n"),
        ("    balance roundrobin", "    balance  roundrobin"),
        ("app1-blue", "app1-red"),
        ("fall 4 rise 1", "fall 4"),
        ("setenv LINKRIFT_ROTATION ", "setenv LINKRIFT_ROTATION 0"),
        ("http-check send meth GET", "http-check connect"),
    ],
)
def test_file_of_somebody_else_is_refused(old: str, new: str) -> None:
    text = render(parse_services(SERVICES["plain"]), {})
    assert old in text
    with pytest.raises(TopologyError, match="the backends file"):
        read_backends(text.replace(old, new))
    with pytest.raises(TopologyError, match="the backends file"):
        read_backends("")
