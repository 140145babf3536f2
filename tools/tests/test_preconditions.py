"""What stands in the way is said in one line, before anything starts."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import preconditions

BOOTSTRAP = Path(__file__).resolve().parents[1] / "bootstrap.sh"
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
ROUTES = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"


@pytest.mark.parametrize(
    ("release", "version", "words"),
    [
        (DEBIAN, (3, 11), None),
        (DEBIAN.replace("12", "13"), (3, 13), None),
        ("ID=debian\nPRETTY_NAME=testing\n", (3, 13), None),
        ('ID=ubuntu\nVERSION_ID="24.04"\n', (3, 12), None),
        ('ID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04"\n', (3, 11), "Ubuntu 22.04"),
        (DEBIAN.replace("12", "11"), (3, 11), "Debian 12 or"),
        ('ID=fedora\nVERSION_ID=40\nPRETTY_NAME="Fedora 40"\n', (3, 12), "Fedora 40"),
        ("", (3, 11), "unknown system"),
        (DEBIAN, (3, 10), "3.10"),
    ],
)
def test_system_and_python(release: str, version: tuple[int, int], words: str | None) -> None:
    found = preconditions.system(release, version)
    assert found is None if words is None else found is not None and words in found


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * 1024**3))
    assert preconditions.disk(tmp_path / "not/there/yet", 3, "it") is None
    found = preconditions.disk(tmp_path, 3.5, "the lab")
    assert found is not None
    assert "3.0 GiB free, the lab needs 3.5 GiB" in found


def test_memory() -> None:
    assert preconditions.memory("MemAvailable:    4194304 kB\n", 4) is None
    assert "2.0 GiB available" in (preconditions.memory("MemAvailable:    2097152 kB\n", 4) or "")


@pytest.mark.parametrize(
    ("interface", "destination", "mask", "taken"),
    [
        ("eth0", "00000000", "00000000", False),
        ("eth0", "000200C0", "00FFFFFF", False),  # 192.0.2.0/24
        ("lr1", "000112C6", "00FFFFFF", False),  # 198.18.1.0/24 on the lab's own bridge
        ("tun0", "000112C6", "00FFFFFF", True),
        ("tun0", "000012C6", "0000FEFF", True),  # 198.18.0.0/15
        ("lr9", "000912C6", "00FFFFFF", False),  # 198.18.9.0/24
    ],
)
def test_subnet(interface: str, destination: str, mask: str, taken: bool) -> None:
    found = preconditions.subnet(f"{ROUTES}{interface} {destination} 0 0001 0 0 0 {mask} 0 0 0\n")
    assert (found is not None) is taken
    assert not taken or (found and interface in found)


def test_the_index_is_where_pip_looks(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = http://index.example:8080/simple\n")
    endpoint = preconditions.index_endpoint
    assert endpoint({}, []) == ("pypi.org", 443)
    assert endpoint({}, [tmp_path / "pip.conf"]) == ("index.example", 8080)
    assert endpoint({"PIP_INDEX_URL": "http://other.example/simple"}, [tmp_path / "pip.conf"]) == ("other.example", 80)
    assert endpoint({"https_proxy": "http://proxy.example:3128"}, []) == ("proxy.example", 3128)
    assert endpoint({"PIP_INDEX_URL": "file:///srv/simple"}, []) is None


def test_no_network(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{unused_tcp_port}/simple")
    assert f"127.0.0.1:{unused_tcp_port}" in (preconditions.index() or "")
    with socket.create_server(("127.0.0.1", unused_tcp_port)):
        assert preconditions.index() is None


def test_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "not root" in (preconditions.root() or "")
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    assert "not root" in (preconditions.root() or "")
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/true")
    assert preconditions.root() is None
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert preconditions.root() is None


def test_all_findings_are_told_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("system", "root", "index", "disk", "subnet", "kernel", "memory"):
        monkeypatch.setattr(preconditions, name, lambda *arguments, name=name: f"{name} is wrong")
    monkeypatch.setattr(preconditions, "BRIDGE", "lr-none")
    assert preconditions.main(["--lab", "--fetch", "--install"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8  # the disk is looked at for the tools and for the lab
    assert all(line.startswith("cannot start: ") for line in lines)


def test_what_is_not_going_to_happen_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "system", lambda *arguments: None)
    for name in ("root", "index", "disk", "subnet", "kernel", "memory"):
        monkeypatch.setattr(preconditions, name, lambda *arguments: "wrong")
    assert preconditions.findings(lab=False, fetch=False, install=False) == []


def test_bootstrap_without_a_python_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(BOOTSTRAP)], env={"PATH": "/usr/bin:/bin", "PYTHON": str(tmp_path / "no")}, capture_output=True
    )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("cannot start: ")
    assert len(done.stderr.decode().splitlines()) == 1


def test_bootstrap_tells_its_usage() -> None:
    done = subprocess.run(["bash", str(BOOTSTRAP), "--nonsense"], capture_output=True, text=True)
    assert done.returncode == 64
    assert "tools/bootstrap.sh --lab" in done.stderr
