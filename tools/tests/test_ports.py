"""Ports for servers of tests: each has its own, however many tests look for one at a time."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tools.testing import process
from tools.testing.process import free_port

# Tells its ports, and keeps them until it is told to end.
OTHER = """
from tools.testing import process
process._PORTS, process._BLOCK = range(20_000, 20_020), 5
print(*(process.free_port() for _ in range(5)), flush=True)
input()
"""


def test_each_gets_another_one() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == len(ports)
    assert set(ports) <= set(process._PORTS)


def test_a_long_test_run_keeps_few_files_open_for_them() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(200):
        free_port()
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 4


def test_nobody_who_connects_gets_one() -> None:
    lowest, _highest = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    assert max(process._PORTS) < int(lowest)


def test_what_another_test_has_not_bound_yet_is_its_own() -> None:
    pipe = subprocess.PIPE
    both = [subprocess.Popen([sys.executable, "-c", OTHER], stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    ports = [port for other in both if other.stdout for port in other.stdout.readline().split()]
    for other in both:
        other.communicate("\n")
        assert other.returncode == 0
    assert len(set(ports)) == 10


def test_one_that_somebody_listens_on_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(process, "_PORTS", range(port, port + 1))
        monkeypatch.setattr(process, "_ours", [])
        with pytest.raises(process.ServerError, match="no port"):
            free_port()
