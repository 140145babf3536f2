# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whose a run is, and whether its process is gone."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.linkrift.platform.plugins.filter.abandoned_leases import FilterModule as AbandonedLeases
from ansible_collections.linkrift.platform.plugins.filter.lease_owner import FilterModule as LeaseOwner
from ansible_collections.linkrift.platform.plugins.module_utils._lease import Control
from ansible_collections.linkrift.platform.plugins.plugin_utils import _control_process as control

lease_owner = LeaseOwner().filters()["lease_owner"]
abandoned_leases = AbandonedLeases().filters()["abandoned_leases"]


def lease_of(process: int, started: str = "") -> dict[str, Any]:
    """Return the lease of another process of this machine."""
    stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return {
        "id": "other",
        "control": {"host": control.control_host(), "process": process, "started": started or stat[19]},
    }


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits until it is killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def test_says_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUDO_USER", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOGNAME", "alice")
    monkeypatch.setattr("socket.gethostname", lambda: "control")
    owner = lease_owner("deploy")
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", owner["id"])
    assert owner["by"] == "alice@control"
    assert owner["signed"] == f"deploy {owner['id']} (alice@control)"
    assert owner["control"]["process"] == os.getpid()
    assert lease_owner("deploy")["id"] != owner["id"]
    with pytest.raises(AnsibleFilterError, match="empty"):
        lease_owner(" ")


@pytest.mark.parametrize(
    ("environment", "user", "expected"),
    [
        ({"SUDO_USER": "bob"}, "", "bob@control"),
        ({"SUDO_USER": "bob"}, "carol", "carol@control"),
        ({"JOB_ID": "42", "AWX_HOST": "https://awx.example.org:8443"}, "carol", "carol@awx.example.org, job 42"),
        ({"JOB_ID": "42", "AWX_HOST": "https://awx.example.org"}, "", "AWX@awx.example.org, job 42"),
        # Something else's, such as that of another kind of automation.
        ({"JOB_ID": "42", "SUDO_USER": "bob"}, "", "bob@control"),
    ],
)
def test_who_runs_it(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], user: str, expected: str) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "control")
    assert control.who_runs(environment, user) == expected


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError

    monkeypatch.setattr("getpass.getuser", unknown)
    assert control.who_runs({}).startswith(f"{os.getuid()}@")


def _tell(answers: multiprocessing.SimpleQueue[Control]) -> None:
    answers.put(control.this_control())


def test_a_worker_names_the_process_that_it_works_for() -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    worker = context.Process(target=_tell, args=(answers,))
    worker.start()
    told = answers.get()
    worker.join()
    assert worker.pid != os.getpid()
    assert told == control.this_control()
    assert told.process == os.getpid()


def test_a_process_that_runs_is_not_gone_and_one_that_was_killed_is(other: subprocess.Popen[bytes]) -> None:
    lease = lease_of(other.pid)
    assert abandoned_leases([lease, None, {"id": "me", "control": asdict(control.this_control())}]) == []
    other.kill()
    # Nobody has asked how it ended, so its number is still taken: by a zombie.
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{other.pid}/stat").exists()
    assert abandoned_leases([lease]) == ["other"]
    other.wait()
    assert abandoned_leases([lease, lease, None]) == ["other"]


def test_another_process_of_the_same_number_is_another_process(other: subprocess.Popen[bytes]) -> None:
    assert abandoned_leases([lease_of(other.pid, started="1")]) == ["other"]


@pytest.mark.parametrize(
    "unknown",
    [{"host": "elsewhere"}, {"host": ""}, {"process": 0}, {"process": -4194305}, {"process": 2**70}, {"started": ""}],
)
def test_what_cannot_be_told_is_not_gone(other: subprocess.Popen[bytes], unknown: dict[str, Any]) -> None:
    lease = lease_of(other.pid)
    other.kill()
    other.wait()
    assert abandoned_leases([lease]) == ["other"]
    lease["control"] |= unknown
    assert abandoned_leases([lease]) == []


def test_a_lease_without_a_process_is_nobodys_here() -> None:
    assert abandoned_leases([{"id": "x", "control": None}, {"id": "y"}]) == []
    for nonsense in (["x"], [{"id": "x", "control": {"process": "me"}}], 5):
        with pytest.raises(AnsibleFilterError, match="no lease"):
            abandoned_leases(nonsense)


# -- a control node of the tests' own --------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The root of a machine on which this process runs."""
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("4f5e\n")
    (tmp_path / f"proc/{os.getpid()}/ns").mkdir(parents=True)
    (tmp_path / f"proc/{os.getpid()}/ns/pid").symlink_to("pid:[4026531836]")
    (tmp_path / "proc/self").symlink_to(str(os.getpid()))
    (tmp_path / f"proc/{os.getpid()}/stat").write_text(f"{os.getpid()} (a (strange) name) S {'0 ' * 18}777 0\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("abc\n")
    return tmp_path


def test_numbers_mean_the_same_only_within_one_boot_of_one_container_of_one_machine(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = [control.control_host(node)]
    (node / "proc/sys/kernel/random/boot_id").write_text("4f5f\n")
    hosts.append(control.control_host(node))
    (node / f"proc/{os.getpid()}/ns/pid").unlink()
    (node / f"proc/{os.getpid()}/ns/pid").symlink_to("pid:[4026532201]")
    hosts.append(control.control_host(node))
    (node / "etc/machine-id").unlink()
    hosts.append(control.control_host(node))
    monkeypatch.setattr("socket.gethostname", lambda: "clone")
    hosts.append(control.control_host(node))
    assert len(set(hosts)) == 5
    assert all(re.fullmatch("[0-9a-f]{16}", host) for host in hosts)
    assert control.control_host(node) == hosts[-1]


def test_a_node_that_shows_other_processes_tells_nothing(node: Path) -> None:
    """The /proc of the machine, seen from within a container."""
    here = control.this_control(node)
    assert here == Control(control.control_host(node), os.getpid(), "777")
    assert not control.is_gone(here, node)
    assert control.is_gone(replace(here, started="778"), node)
    (node / "proc/self").unlink()
    (node / "proc/self").symlink_to("1")
    (node / "proc/1").symlink_to(str(os.getpid()))
    assert control.control_host(node) == ""
    assert not control.is_gone(replace(here, started="778"), node)


def test_a_process_that_is_hidden_is_not_gone(node: Path) -> None:
    """Others' processes, with /proc mounted hidepid=2."""
    here = control.this_control(node)
    (node / f"proc/{os.getpid()}/stat").unlink()
    assert not control.is_gone(replace(here, started="778"), node)
    (node / f"proc/{os.getpid()}/stat").write_text("torn")
    assert not control.is_gone(replace(here, started="778"), node)
    assert control.this_control(node).started == ""


def test_a_machine_without_proc_takes_leases_and_judges_none(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    here = control.this_control(tmp_path)
    assert here == Control("", os.getpid(), "")
    assert not control.is_gone(here, tmp_path)
    other.kill()
    other.wait()
    assert not control.is_gone(replace(here, process=other.pid, started="1"), tmp_path)
