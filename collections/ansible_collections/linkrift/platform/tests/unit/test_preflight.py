"""Module host_preflight: each check sees what is wrong, says what to do, and is silent when all is well."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _preflight as preflight
from ansible_collections.linkrift.platform.plugins.module_utils._listeners import listening_sockets
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed
from ansible_collections.linkrift.platform.plugins.modules import host_preflight

SUPPORTED = {"debian": ["12", "13"], "ubuntu": ["22.04"]}


def messages(findings: list[preflight.Finding]) -> str:
    return "\n".join(f"{each.check} {each.severity}: {each.message}" for each in findings)


@pytest.mark.parametrize(
    ("text", "machine", "expected"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "x86_64", ""),
        ('ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian 11"\n', "x86_64", "Debian 11 is not supported: use one of"),
        ("ID=fedora\n", "x86_64", "debian 12, debian 13, ubuntu 22.04"),
        ("ID=ubuntu\nVERSION_ID='22.04'\n", "riscv64", "riscv64 is not supported: use one of x86_64, aarch64"),
    ],
)
def test_system_and_architecture(text: str, machine: str, expected: str) -> None:
    found = preflight.check_system(
        preflight.os_release(text), machine, distributions=SUPPORTED, architectures=["x86_64", "aarch64"]
    )
    assert expected in messages(found)
    assert bool(found) is bool(expected)


def test_everything_that_is_wrong_is_found_at_once() -> None:
    found = preflight.check_system({}, "mips", distributions=SUPPORTED, architectures=["x86_64"])
    assert [each.check for each in found] == ["system", "architecture"]


def test_manager(tmp_path: Path) -> None:
    assert preflight.check_manager(0, tmp_path) == []
    found = preflight.check_manager(1000, tmp_path / "none")
    assert [each.check for each in found] == ["privileges", "systemd"]


def test_disk_of_a_path_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert preflight.check_disk(str(tmp_path / "a/b/c"), 1) == []
    [finding] = preflight.check_disk(str(tmp_path / "a/b/c"), 10**9)
    assert "and needs 1000000000: make room" in finding.message


def test_disk_without_inodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 10**9, 10**9, 10**9, 10**6, 5, 5, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    [finding] = preflight.check_disk(str(tmp_path), 1)
    assert "only 5 inodes left" in finding.message


def test_memory_is_compared_with_the_sum() -> None:
    sizes = preflight.memory_mb("MemTotal:        2048000 kB\nMemFree: 5 kB\nSwapTotal:       1024 kB\n")
    assert sizes == {"memory_mb": 2000, "swap_mb": 1}
    assert preflight.check_memory(2000, {"redirect": 1000, "system": 1000}) == []
    [finding] = preflight.check_memory(2000, {"redirect": 1001, "system": 1000})
    assert "2000 MiB of memory, but 2001 are needed (redirect 1001, system 1000)" in finding.message


@pytest.mark.parametrize(
    ("now", "reference", "synchronised", "expected"),
    [
        (1000.0, 995.0, True, ""),
        (1000.0, 0.0, None, ""),
        (1000.0, 900.0, True, "clock error: the clock is 100 s ahead of the control node's"),
        (1000.0, 1100.0, None, "100 s behind the control node's"),
        (1000.0, 1000.0, False, "clock warning: nothing keeps the clock right"),
    ],
)
def test_clock(now: float, reference: float, synchronised: bool | None, expected: str) -> None:
    found = preflight.check_clock(now, reference, 10, synchronised)
    assert expected in messages(found)
    assert bool(found) is bool(expected)


def test_names() -> None:
    def resolve(name: str) -> None:
        if name.startswith("bad"):
            raise socket.gaierror(-2, "Name or service not known")

    found = preflight.check_names(["bad1", "good", "bad2", "bad1"], resolve)
    assert [each.message.split()[0] for each in found] == ["bad1", "bad2"]
    assert "(Name or service not known)" in found[0].message
    assert preflight.check_names([], resolve) == []


def process(proc: Path, pid: int, name: str, inode: int, unit: str) -> None:
    directory = proc / str(pid)
    (directory / "fd").mkdir(parents=True)
    (directory / "fd/3").symlink_to(f"socket:[{inode}]")
    (directory / "comm").write_text(f"{name}\n")
    (directory / "cgroup").write_text(f"0::/system.slice/{unit}\n" if unit else "0::/\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Ports 80 (nginx) and 8081 (a slot) are listened on, and 443 by a process that cannot be seen."""
    row = "   0: 00000000:{port:04X} 00000000:0000 {state} 0:0 0:0 0 0 0 {inode} 1"
    (tmp_path / "net").mkdir()
    rows = [(80, "0A", 11), (8081, "0A", 12), (443, "0A", 13), (9000, "01", 14)]
    lines = ["head", *(row.format(port=port, state=state, inode=inode) for port, state, inode in rows)]
    (tmp_path / "net/tcp").write_text("\n".join(lines) + "\n")
    process(tmp_path, 100, "nginx", 11, "nginx.service")
    process(tmp_path, 200, "python", 12, "system-linkrift\\x2dredirect.slice/linkrift-redirect@blue.service")
    process(tmp_path, 300, "sleep", 99, "")
    return tmp_path


def test_ports_are_free_or_ours(proc: Path) -> None:
    assert listening_sockets(100, proc) == {"socket:[11]"}
    uses = [
        preflight.PortUse(80, "visitors", ("haproxy.service",)),
        preflight.PortUse(8081, "redirect", ("linkrift-redirect@*.service",)),
        preflight.PortUse(9000, "ClickHouse", ()),
    ]
    [finding] = preflight.check_ports(uses, proc)
    assert "port 80 is needed for visitors, but nginx (process 100) listens there" in finding.message


class Commands:
    """Answers commands by the beginning of their text."""

    def __init__(self, **answers: Completed) -> None:
        self.answers = answers

    def __call__(self, command: Sequence[str], deadline: float) -> Completed:
        if command[0] == "dpkg":
            return self.answers.get("dpkg", Completed(0, "", ""))
        if command[0] == "apt-get":
            uris = "'http://a.test/debian/dists/x/InRelease' x 0 \n'http://u:secret@b.test/dists/y/InRelease' y 0 \n"
            return self.answers.get("apt", Completed(0, uris, ""))
        if "download-file" in command:
            return self.answers.get("fetch", Completed(0, "", "")) if "b.test" in command[-2] else Completed(0, "", "")
        return self.answers[command[0].replace("-", "_")]


def test_packages() -> None:
    assert preflight.check_packages(Commands()) == []
    found = preflight.check_packages(Commands(dpkg=Completed(0, "Half:\n x", ""), fetch=Completed(100, "", "E: 503\n")))
    assert "run dpkg --configure -a" in found[0].message
    assert found[1].message == "http://b.test/dists/y/InRelease cannot be fetched: E: 503"
    [none] = preflight.check_packages(Commands(apt=Completed(0, "", "")))
    assert "no usable sources: there are none" in none.message


def test_a_source_that_takes_too_long_keeps_its_password() -> None:
    commands = Commands()

    def slow(command: Sequence[str], deadline: float) -> Completed:
        if "download-file" in command:
            raise TimeoutError(f"{' '.join(command)} took longer than 30 s")
        return commands(command, deadline)

    found = preflight.check_packages(slow)
    assert len(found) == 2
    assert "secret" not in messages(found)
    assert messages(found).count("took longer than 30 s") == 2


def test_a_program_that_is_missing_is_a_finding() -> None:
    def missing(command: Sequence[str], deadline: float) -> Completed:
        raise FileNotFoundError(2, "No such file", command[0])

    assert {each.check for each in preflight.check_packages(missing)} == {"packages"}


@pytest.mark.parametrize(
    ("container", "answer", "expected"), [(0, "no\n", None), (1, "no\n", False), (1, "yes\n", True), (1, "", None)]
)
def test_a_container_does_not_keep_the_clock(container: int, answer: str, expected: bool | None) -> None:
    commands = Commands(systemd_detect_virt=Completed(container, "", ""), timedatectl=Completed(0, answer, ""))
    assert preflight.clock_is_synchronised(commands) is expected


def test_the_module_returns_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: dict[str, Any] = {}

    class Module:
        def __init__(self, argument_spec: dict[str, Any], supports_check_mode: bool) -> None:
            assert supports_check_mode
            self.params = {name: option.get("default") for name, option in argument_spec.items()}
            self.params |= {"packages": False, "memory": {"system": "10000000"}, "names": ["localhost"]}
            self.params["ports"] = [{"port": 1, "purpose": "nothing", "units": []}]

        def exit_json(self, **result: Any) -> None:
            ended.update(result)

        def fail_json(self, msg: str) -> None:
            raise AssertionError(msg)

    monkeypatch.setattr(host_preflight, "AnsibleModule", Module)
    host_preflight.main()
    assert ended["changed"] is False
    assert ended["figures"]["needed_mb"] == 10000000
    assert {"memory"} <= {each["check"] for each in ended["findings"] if each["severity"] == "error"}


def test_a_backup_that_is_renamed_meanwhile_is_no_accident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("partial", "done"):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (1e6, 1e6))
    real = os.walk

    def walk(path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        for found in real(path):
            (tmp_path / "partial").unlink()
            yield found

    monkeypatch.setattr(os, "walk", walk)
    assert preflight.check_backups({str(tmp_path): 6}, 1e6) == []


def test_backups_are_young_enough(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "empty").mkdir()
    for name, age in (("old", 50), ("new", 5)):
        (tmp_path / "full" / name).write_text("x")
        os.utime(tmp_path / "full" / name, (1e6 - age * 3600, 1e6 - age * 3600))
    assert preflight.check_backups({str(tmp_path / "full"): 6}, 1e6) == []
    found = preflight.check_backups({str(tmp_path / "full"): 4, str(tmp_path / "empty"): 9, "/no/where": 9}, 1e6)
    assert [finding.message.split(": ")[0] for finding in found] == [
        f"the newest backup in {tmp_path}/full is 5 hours old, not 4 at most",
        f"{tmp_path}/empty has no backup",
        "/no/where has no backup",
    ]
