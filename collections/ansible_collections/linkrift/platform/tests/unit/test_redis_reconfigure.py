"""Module redis_reconfigure, with a small server in Redis's place that speaks its protocol."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _redis
from ansible_collections.linkrift.platform.plugins.modules import redis_reconfigure
from tools.testing.certificates import write_server_certificate

Run = Callable[..., dict[str, Any]]


class FakeRedis(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Knows settings and users; `fixed` are settings that cannot change while it runs."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.settings = {"maxmemory": "268435456", "save": "900 1", "unixsocket": "/run/redis/old.sock"}
        self.fixed = {"unixsocket"}
        self.users = {"default": "off -@all", "linkrift_admin": "on #aa ~* -@all +@all"}
        self.calls: list[list[str]] = []

    def answer(self, words: list[str]) -> bytes:
        self.calls.append(words)
        if words[0] == "AUTH":
            return b"+OK\r\n" if words[2] == "good" else b"-WRONGPASS no\r\n"
        match words[:2]:
            case ["CONFIG", "GET"]:
                return bulk([words[2], self.settings[words[2]]] if words[2] in self.settings else [])
            case ["CONFIG", "SET"]:
                if words[2] in self.fixed:
                    return b"-ERR can't set immutable config\r\n"
                self.settings[words[2]] = words[3]
                return b"+OK\r\n"
            case ["ACL", "LIST"]:
                return bulk([f"user {name} {rules}" for name, rules in self.users.items()])
            case ["ACL", "SETUSER"]:
                # As Redis does: the rights are the same, their order is its own, and a flag is on that a file lacks.
                self.users[words[2]] = " ".join(sorted(["sanitize-payload", *words[4:]], reverse=True))
                return b"+OK\r\n"
            case ["ACL", "DELUSER"]:
                del self.users[words[2]]
                return b":1\r\n"
        return b"-ERR unknown command\r\n"


def bulk(values: list[str]) -> bytes:
    encoded = [value.encode() for value in values]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(value), value) for value in encoded)


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, FakeRedis)
        while line := self.rfile.readline():
            words = []
            for _dummy in range(int(line[1:])):
                length = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(length + 2)[:-2].decode())
            self.wfile.write(server.answer(words))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeRedis]:
    with FakeRedis(tmp_path / "redis.sock") as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        (tmp_path / "redis.conf").write_text("# ours\nmaxmemory 256mb\nsave 900 1\n")
        (tmp_path / "users.acl").write_text("user default off -@all\nuser linkrift_admin on #aa ~* -@all +@all\n")
        yield made
        made.shutdown()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def _run(*, check: bool = False, **params: Any) -> dict[str, Any]:
        capsys.readouterr()
        paths = {"config": "redis.conf", "users": "users.acl", "socket": "redis.sock"}
        args = {
            **{name: str(tmp_path / file) for name, file in paths.items()},
            "user": "linkrift_admin",
            "passwords": ["good"],
            "_ansible_check_mode": check,
            **params,
        }
        with patch_module_args(args), pytest.raises(SystemExit):
            redis_reconfigure.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return _run


def changes(server: FakeRedis) -> list[list[str]]:
    return [words for words in server.calls if words[1] in {"SET", "DELUSER"}]


def test_nothing_to_do(server: FakeRedis, run: Run) -> None:
    answer = run()
    assert (answer["changed"], answer["settings"], answer["users"], answer["restart"]) == (False, {}, [], [])
    assert changes(server) == []


def test_settings_change_while_it_runs_and_others_wait(server: FakeRedis, run: Run, tmp_path: Path) -> None:
    (tmp_path / "redis.conf").write_text("maxmemory 512mb\nsave 900 1\nsave 60 100\nunixsocket /run/redis/new.sock\n")
    answer = run()
    assert answer["changed"]
    assert server.settings["maxmemory"] == "512mb"
    assert answer["settings"]["save"] == ["900 1", "900 1 60 100"]
    assert answer["restart"] == ["unixsocket"]
    assert not run()["changed"], "what waits for a restart is no change"


def test_users_change_and_go(server: FakeRedis, run: Run, tmp_path: Path) -> None:
    server.users["gone"] = "on nopass"
    wished = "user linkrift_api on #bb #cc ~linkrift:link:* -@all +get (%W~linkrift:clicks -@all +xadd)\n"
    (tmp_path / "users.acl").write_text("user default off -@all\nuser linkrift_admin on #aa ~* -@all +@all\n" + wished)
    assert run()["users"] == ["linkrift_api", "gone"]
    assert next(words for words in server.calls if words[2:3] == ["linkrift_api"])[:6] == [
        "ACL",
        "SETUSER",
        "linkrift_api",
        "reset",
        "on",
        "#bb",
    ]
    assert "(%W~linkrift:clicks -@all +xadd)" in server.users["linkrift_api"]
    assert sorted(server.users) == ["default", "linkrift_admin", "linkrift_api"]
    assert not run()["changed"]


def test_a_dry_run_says_what_it_would_do_and_does_nothing(server: FakeRedis, run: Run, tmp_path: Path) -> None:
    server.users["gone"] = "on nopass"
    (tmp_path / "redis.conf").write_text("maxmemory 512mb\n")
    (tmp_path / "users.acl").write_text("user default off -@all\nuser linkrift_admin on #dd ~* -@all +@all\n")
    answer = run(check=True)
    assert answer["changed"]
    assert answer["diff"] == {"before": "maxmemory 268435456\n", "after": "maxmemory 512mb\n"}
    assert answer["users"] == ["linkrift_admin", "gone"]
    assert changes(server) == []


def test_the_password_of_before(server: FakeRedis, run: Run, tmp_path: Path) -> None:
    (tmp_path / "before").write_text("good\n")
    assert run(passwords=["new"], password_file=str(tmp_path / "before"))["restart"] == []


@pytest.mark.usefixtures("server")
def test_a_server_that_cannot_be_asked_waits_for_a_restart(run: Run) -> None:
    assert "cannot log in" in run(passwords=["new"], password_file="/nowhere")["restart"][0]
    assert "nobody answers" in run(socket="/nowhere")["restart"][0]


@pytest.mark.usefixtures("server")
def test_files_that_are_missing_are_an_error(run: Run) -> None:
    assert "could not be brought" in run(config="/nowhere")["msg"]


def test_a_certificate_that_is_not_the_one_it_shows_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_server_certificate(tmp_path, "redis")
    path = tmp_path / "redis.pem"
    said: list[tuple[str, ...]] = []
    wished = {"tls-cert-file": str(path), "tls-port": "6379", "bind": "::1 127.0.0.1"}

    def compare(shown: bytes | None, *, dry: bool = False) -> bool:
        monkeypatch.setattr(_redis, "served_certificate", lambda host, port: shown)
        outcome = _redis.Outcome()
        _redis.apply_certificate(lambda *words: said.append(words), wished, outcome, dry=dry)
        return outcome.certificate

    assert not compare(_redis.leaf(path.read_text()))
    assert not compare(None), "a server that does not answer reads it when it starts"
    assert compare(b"another", dry=True)
    assert said == []
    assert compare(b"another")
    assert said == [("CONFIG", "SET", "tls-cert-file", str(path))]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [("1gb", "1073741824", True), ("1g", "1000000000", True), ("YES", "yes", True), ("900 1", "900 10", False)],
)
def test_values_in_several_ways(one: str, other: str, equal: bool) -> None:
    assert _redis.same(one, other) is equal


def test_settings_of_a_file() -> None:
    text = 'include x\n# no\nbind 127.0.0.1 ::1\nsave 900 1\nsave 60 10\ntls-protocols "TLSv1.2 TLSv1.3"\n'
    assert _redis.parse_settings(text) == {
        "bind": "127.0.0.1 ::1",
        "save": "900 1 60 10",
        "tls-protocols": "TLSv1.2 TLSv1.3",
    }
