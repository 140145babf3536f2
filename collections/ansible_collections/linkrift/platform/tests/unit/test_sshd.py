"""Module sshd: the configuration that is written, whether it takes effect, and the guard that takes it back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _sshd, _sshd_guard
from ansible_collections.linkrift.platform.plugins.module_utils._connection import Connection
from ansible_collections.linkrift.platform.plugins.module_utils._sshd import Layout, Server, SshdError
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed

DEBIAN = "# A comment.\n\nInclude /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nUsePAM yes\n"


class Commands:
    """Runs nothing, notes what it is told, and answers as told by the first words."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.calls: list[list[str]] = []

    def __call__(self, command: Sequence[str], deadline: float) -> Completed:
        self.calls.append(list(command))
        answer = self.answers.get(Path(command[0]).name.replace("-", "_"), "")
        return Completed(1, "", answer.removeprefix("!")) if answer.startswith("!") else Completed(0, answer, "")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    made.drop_ins.mkdir(parents=True)
    made.main.write_text(DEBIAN)
    return made


# -- the text ----------------------------------------------------------------------------------------------------------


def test_the_options_as_text() -> None:
    text = _sshd.render(
        {
            "PermitRootLogin": "no",
            "X11Forwarding": False,
            "MaxAuthTries": 3,
            "AllowUsers": ["a", "b"],
            "AllowGroups": [],
        },
        2222,
    )
    assert text.splitlines()[1:] == [
        "Port 2222",
        "PermitRootLogin no",
        "X11Forwarding no",
        "MaxAuthTries 3",
        "AllowUsers a b",
    ]
    assert "Port" not in _sshd.render({}, None)


@pytest.mark.parametrize(
    "options", [{"Port": 22}, {"Match": "all"}, {"Banner": "x\nPermitRootLogin yes"}, {"a b": "c"}]
)
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(SshdError):
        _sshd.render(options, None)


def test_the_include_comes_first() -> None:
    assert _sshd.include_first(DEBIAN) == DEBIAN
    late = "PermitRootLogin yes\nInclude /etc/ssh/sshd_config.d/*.conf\n"
    assert _sshd.include_first(late) == f"Include /etc/ssh/sshd_config.d/*.conf\n{late}"


def test_ports_add_up_over_files(layout: Layout) -> None:
    assert "Port 22\n" in _sshd.wanted_texts(layout, {}, 22, by_socket=False)[layout.ours]
    (layout.drop_ins / "50-cloud-init.conf").write_text(
        "PasswordAuthentication yes\nport=2222\nMatch User x\n  Port 9\n"
    )
    # Said twice, the second would not be free.
    assert "Port" not in _sshd.wanted_texts(layout, {}, 2222, by_socket=False)[layout.ours]
    with pytest.raises(SshdError, match=r"50-cloud-init.conf:2 has sshd listen on port 2222, too"):
        _sshd.wanted_texts(layout, {}, 22, by_socket=False)


def test_a_socket_of_systemd_gets_the_port(layout: Layout) -> None:
    texts = _sshd.wanted_texts(layout, {}, 2222, by_socket=True)
    assert texts[layout.socket] == "[Socket]\nListenStream=\nListenStream=2222\nBindIPv6Only=both\n"
    assert layout.main not in texts
    layout.main.write_text("UsePAM yes\n")
    assert _sshd.wanted_texts(layout, {}, 22, by_socket=False)[layout.main].startswith("Include ")


# -- whether it takes effect -------------------------------------------------------------------------------------------


def test_an_option_that_another_file_overrides_is_found() -> None:
    alone = _sshd.parse_effective("permitrootlogin no\nmaxauthtries 3\nallowusers ops\n")
    together = _sshd.parse_effective("permitrootlogin yes\nmaxauthtries 3\nallowusers root\nallowusers ops\n")
    options = {"PermitRootLogin": "no", "MaxAuthTries": 3, "AllowUsers": ["ops"]}
    assert _sshd.ineffective(options, alone, together) == ["PermitRootLogin is yes instead of no"]
    assert _sshd.ineffective(options, alone, alone) == []


def test_an_option_that_the_operator_emptied_is_left_to_other_files() -> None:
    alone = _sshd.parse_effective("banner none\nmaxauthtries 6\n")
    together = _sshd.parse_effective("banner /etc/issue\nmaxauthtries 3\n")
    for emptied in ("", None, []):
        assert _sshd.render({"Banner": emptied}, None) == _sshd.HEADER
        assert _sshd.ineffective({"Banner": emptied}, alone, together) == []
    assert _sshd.ineffective({"MaxAuthTries": 6}, alone, together) == ["MaxAuthTries is 3 instead of 6"]


def test_sshd_checks_all_files_together(layout: Layout) -> None:
    (layout.drop_ins / "50-other.conf").write_text("X11Forwarding yes\n")
    (layout.drop_ins / "00-linkrift.conf").write_text("an earlier one\n")
    seen: dict[str, str] = {}

    def run(command: Sequence[str], deadline: float) -> Completed:
        file = Path(command[-1])
        seen[f"{command[1]} {file.name}"] = file.read_text()
        for included in (file.parent / "all").iterdir():
            seen[included.name] = included.read_text()
        return Completed(0, "permitrootlogin no\n", "")

    texts = {layout.ours: "PermitRootLogin no\n"}
    assert _sshd.check(layout, texts, {"PermitRootLogin": "no"}, run) == {"permitrootlogin": ["no"]}
    assert seen["50-other.conf"] == "X11Forwarding yes\n"
    assert seen["00-linkrift.conf"] == "PermitRootLogin no\n"
    assert "/etc/ssh" not in seen["-t main"]
    assert seen["-T ours"] == "PermitRootLogin no\n"
    assert layout.ours.read_text() == "an earlier one\n"


def test_ports_are_what_sshd_says() -> None:
    both = ["listenaddress [::]:2222", "listenaddress 0.0.0.0:2222"]
    _sshd.refuse_other_ports(_sshd.parse_effective("\n".join(both)), 2222)
    # Such as one in a file that another one includes, which we do not read.
    for other in ("192.0.2.1:22", "[2001:db8::2222]:22"):
        with pytest.raises(SshdError, match=r"would listen on .*:22 instead of port 2222 only"):
            _sshd.refuse_other_ports(_sshd.parse_effective("\n".join([*both, f"listenaddress {other}"])), 2222)


def test_what_sshd_refuses_is_said_with_its_own_words(layout: Layout) -> None:
    with pytest.raises(SshdError, match="sshd refuses the configuration: Bad option"):
        _sshd.check(layout, {layout.ours: "x\n"}, {}, Commands(sshd="!Bad option"))


# -- the server --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "server"),
    [
        ("Accept=no\nActiveState=inactive\n", Server(by_socket=False)),
        ("Accept=no\nActiveState=active\n", Server(by_socket=True)),
        ("Accept=yes\nActiveState=active\n", Server(by_socket=True, per_connection=True)),
    ],
)
def test_how_the_server_runs(answer: str, server: Server) -> None:
    assert _sshd.find_server(Commands(systemctl=answer)) == server


def test_how_it_reads_its_configuration() -> None:
    assert Server(by_socket=False).commands(back=False) == [["systemctl", "reload", "ssh.service"]]
    assert Server(by_socket=False).commands(back=True) == [["systemctl", "reload-or-restart", "ssh.service"]]
    assert [words[1:] for words in Server(by_socket=True).commands(back=True)] == [
        ["daemon-reload"],
        ["stop", "ssh.service"],
        ["restart", "ssh.socket"],
    ]
    assert ["systemctl", "stop", "ssh.service"] not in Server(by_socket=True, per_connection=True).commands(back=False)


def test_a_reload_makes_new_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "7/fd").mkdir(parents=True)
    rows = "0: 0 0 0A 0 0 0 0 0 111 1\n1: 0 0 01 0 0 0 0 0 222 1\n".replace("0 0 0A", "a b 0A").replace(
        "0 0 01", "a b 01"
    )
    (tmp_path / "net/tcp").write_text(f"header\n{rows}")
    (tmp_path / "7/fd/3").symlink_to("socket:[111]")
    (tmp_path / "7/fd/4").symlink_to("socket:[222]")
    assert _sshd.listening_sockets(7, tmp_path) == {"socket:[111]"}
    assert _sshd.listening_sockets(8, tmp_path) == frozenset()
    monkeypatch.setattr(_sshd, "listening_sockets", lambda pid: frozenset({str(pid)}))
    assert not _sshd.has_new_sockets(frozenset({"7"}), Commands(systemctl="7\n"))
    assert _sshd.has_new_sockets(frozenset({"6"}), Commands(systemctl="7\n"))
    assert not _sshd.has_new_sockets(frozenset({"6"}), Commands(systemctl="0\n"))


def test_no_server_no_greeting(unused_tcp_port: int) -> None:
    assert not _sshd.greets({"listenaddress": [f"0.0.0.0:{unused_tcp_port}"]}, unused_tcp_port)
    assert not _sshd.greets({"listenaddress": [f"[::]:{unused_tcp_port}"]}, unused_tcp_port)


# -- the guard ---------------------------------------------------------------------------------------------------------


def change(layout: Layout, run: Callable[..., Completed], commands: Sequence[Sequence[str]] = ()) -> None:
    """Change both files under guard: one that is there, one that is not."""
    layout.main.chmod(0o640)
    facts = {"connection": {"client": "192.0.2.9", "client_port": 50000, "port": 22}, "port": 2222}
    _sshd.arm(layout, [layout.main, layout.ours], commands, 30, facts, run)
    _sshd.write_texts(layout, {layout.main: "new\n", layout.ours: "new\n"})


def test_the_timer_restores_what_was(layout: Layout) -> None:
    run = Commands()
    change(layout, run, [["touch", str(layout.root / "reloaded")], ["false"]])
    assert layout.ours.stat().st_mode & 0o777 == 0o600
    timer = run.calls[0]
    assert timer[:4] == ["systemd-run", "--unit=linkrift-sshd-guard", "--collect", "--on-active=30s"]
    # What the timer starts, as it starts it: without Ansible.
    subprocess.run(timer[timer.index("--") + 1 :], check=True, cwd="/", env={}, stdout=subprocess.DEVNULL)
    assert layout.main.read_text() == DEBIAN
    assert layout.main.stat().st_mode & 0o777 == 0o640
    assert not layout.ours.exists()
    assert (layout.root / "reloaded").exists()
    record = json.loads((layout.guard / "reverted.json").read_text())
    assert record["why"] == "nobody confirmed it in time"
    assert record["reverted"][-1] == "false: exit status 1"
    assert not (layout.guard / "change.json").exists()


def test_what_was_is_restored_byte_by_byte(layout: Layout) -> None:
    former = b"# Umgebung f\xfcr alle\r\nUsePAM yes\r\n\x0c# no line end"
    layout.main.write_bytes(former)
    change(layout, Commands())
    assert (layout.guard / "former-0").stat().st_mode & 0o777 == 0o600
    assert layout.main.read_bytes() != former
    assert _sshd_guard.revert(layout.guard, "test") is not None
    assert layout.main.read_bytes() == former


def test_other_line_ends_are_a_difference(layout: Layout) -> None:
    layout.ours.write_bytes(b"UsePAM yes\r\n")
    assert list(_sshd.different_files({layout.ours: "UsePAM yes\n"})) == [layout.ours]


def test_a_confirmed_change_stays(layout: Layout) -> None:
    run = Commands()
    change(layout, run)
    assert _sshd_guard.claim(layout.guard, "confirmed.json") is not None
    timer = run.calls[0]
    done = subprocess.run(timer[timer.index("--") + 1 :], check=True, cwd="/", env={}, stdout=subprocess.PIPE)
    assert done.stdout == b"nothing to revert\n"
    assert layout.main.read_text() == "new\n"
    assert _sshd_guard.claim(layout.guard, "confirmed.json") is None


def test_a_restoration_that_was_cut_off_is_done_again(layout: Layout) -> None:
    change(layout, Commands())
    _sshd_guard.claim(layout.guard, _sshd_guard.CLAIMED)
    assert _sshd_guard.revert(layout.guard, "again") is not None
    assert layout.main.read_text() == DEBIAN
    assert _sshd_guard.revert(layout.guard, "again") is None


def test_without_a_timer_nothing_changes(layout: Layout) -> None:
    with pytest.raises(SshdError, match="nothing was changed: no bus"):
        change(layout, Commands(systemd_run="!no bus"))
    assert layout.main.read_text() == DEBIAN
    assert not (layout.guard / "change.json").exists()


def test_a_program_that_is_missing_does_not_stop_the_guard(layout: Layout) -> None:
    change(layout, Commands(), [["no-such-program"], ["true"]])
    record = _sshd_guard.revert(layout.guard, "test")
    assert record is not None
    assert "No such file" in record["reverted"][-2]
    assert record["reverted"][-1] == "true"


def test_an_earlier_change_is_settled_first(layout: Layout) -> None:
    assert not _sshd.settle(layout, Commands(), 1)
    change(layout, Commands())
    # Its timer was lost with a reboot.
    assert _sshd.settle(layout, Commands(systemctl="inactive\ninactive\n"), 1)
    assert layout.main.read_text() == DEBIAN


def test_an_earlier_change_is_left_the_time_it_has(layout: Layout) -> None:
    change(layout, Commands())
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            _sshd_guard.revert(layout.guard, "its timer")

    answers = iter(["active\ninactive\n", "inactive\nactivating\n", "inactive\ndeactivating\n", "inactive\ninactive\n"])
    assert _sshd.settle(layout, lambda *_: Completed(0, next(answers), ""), 60, pause=pause)
    assert len(waits) == 3
    change(layout, Commands())
    with pytest.raises(SshdError, match="longer than 0 s"):
        _sshd.settle(layout, Commands(systemctl="active\ninactive\n"), 0, pause=waits.append)


def test_only_a_fresh_connection_to_the_port_proves_anything() -> None:
    record = {"connection": {"client": "192.0.2.9", "client_port": 50000, "port": 22}, "port": 2222}
    assert _sshd.refuse_confirmation(record, Connection("192.0.2.9", 50001, 2222)) is None
    assert "not a fresh one" in str(_sshd.refuse_confirmation(record, Connection("192.0.2.9", 50000, 22)))
    assert "to port 22, not to 2222" in str(_sshd.refuse_confirmation(record, Connection("192.0.2.9", 50001, 22)))
    assert "no SSH connection" in str(_sshd.refuse_confirmation(record, None))


def test_the_guard_needs_nothing_but_python(tmp_path: Path) -> None:
    source = Path(_sshd_guard.__file__).read_text()
    isolated = [sys.executable, "-I", "-S", "-c", source, str(tmp_path)]
    assert subprocess.run(isolated, check=True, stdout=subprocess.PIPE).stdout == b"nothing to revert\n"


def test_waiting_ends() -> None:
    pauses: list[float] = []
    assert not _sshd.wait_for(lambda: False, 0, pauses.append)
    assert _sshd.wait_for(lambda: len(pauses) > 2, 60, pauses.append)
