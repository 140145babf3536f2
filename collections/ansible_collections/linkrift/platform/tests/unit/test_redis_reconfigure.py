"""Module redis_reconfigure, with a small server in Redis's place that speaks its protocol."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _redis
from ansible_collections.linkrift.platform.plugins.modules import redis_reconfigure
from tools.testing.certificates import write_server_certificate

Run = Callable[..., dict[str, Any]]


ROLE = Path(__file__).parents[2] / "roles/redis"
PORTS = ("port", "tls-port")


class FakeRedis(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Knows settings and users, and refuses in the words of 7.0.15.

    `fixed` are settings that cannot change while it runs, `refused` ones whose value it does not take.
    """

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.settings = {"maxmemory": "268435456", "save": "900 1", "unixsocket": "/run/redis/old.sock"}
        self.fixed = {"unixsocket"}
        self.refused: dict[str, str] = {}
        self.users = {"default": "off -@all", "linkrift_admin": "on #aa ~* -@all +@all"}
        self.calls: list[list[str]] = []
        self.rights_of_killed: list[str] = []

    def answer(self, words: list[str]) -> bytes:
        self.calls.append(words)
        if words[0] == "AUTH":
            return b"+OK\r\n" if words[2] == "good" else b"-WRONGPASS no\r\n"
        match words[:2]:
            case ["CONFIG", "GET"]:
                return bulk([words[2], self.settings[words[2]]] if words[2] in self.settings else [])
            case ["CONFIG", "SET"]:
                return self.set(words)
            case ["ACL", "LIST"]:
                return bulk([f"user {name} {rules}" for name, rules in self.users.items()])
            case ["ACL", "SETUSER"] if words[3:] == ["off"]:
                self.users[words[2]] = self.users[words[2]].replace("on ", "off ")
                return b"+OK\r\n"
            case ["ACL", "SETUSER"]:
                # As Redis does: the rights are the same, their order is its own, and a flag is on that a file lacks.
                self.users[words[2]] = " ".join(sorted(["sanitize-payload", *words[4:]], reverse=True))
                return b"+OK\r\n"
            case ["CLIENT", "KILL"]:
                self.rights_of_killed.append(self.users[words[3]])
                return b":1\r\n"
            case ["ACL", "DELUSER"]:
                del self.users[words[2]]
                return b":1\r\n"
        return b"-ERR unknown command\r\n"

    def set(self, words: list[str]) -> bytes:
        about = f"ERR CONFIG SET failed (possibly related to argument '{words[2]}') - "
        if words[2] not in self.settings:
            return b"-ERR Unknown option or number of arguments for CONFIG SET - '%b'\r\n" % words[2].encode()
        if words[2] in self.fixed:
            return f"-{about}can't set immutable config\r\n".encode()
        if words[2] in self.refused:
            return f"-{about}{self.refused[words[2]]}\r\n".encode()
        if words[2] == "tls-port" and words[3] != "0" and not self.settings["tls-cert-file"]:
            return f"-{about}Unable to update TLS configuration. Check server logs.\r\n".encode()
        if words[2] in PORTS and words[3] != "0" and words[3] in {self.settings[name] for name in PORTS}:
            return f"-{about}Unable to listen on this port. Check server logs.\r\n".encode()
        self.settings[words[2]] = words[3]
        return b"+OK\r\n"


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


@pytest.mark.parametrize("line", ["maxmemory-policy most-of-it", "maxmemory-polic volatile-lru"])
def test_what_redis_would_not_start_with_is_an_error_and_no_restart(
    server: FakeRedis, run: Run, tmp_path: Path, line: str
) -> None:
    server.settings["maxmemory-policy"] = "noeviction"
    server.refused["maxmemory-policy"] = "argument(s) must be one of the following: volatile-lru, noeviction"
    (tmp_path / "redis.conf").write_text(f"maxmemory 512mb\n{line}\n")
    answer = run()
    assert answer["failed"]
    assert line.split()[0] in answer["msg"]
    assert "restart" not in answer
    if line.startswith("maxmemory-policy "):
        assert "must be one of the following" in answer["msg"]
    else:
        assert run(check=True)["failed"], "a dry run sees it, too"
        assert changes(server) == [], "seen before anything is changed"


TLS = "port 0\ntls-port 6379\ntls-cert-file /x.pem\ntls-key-file /x.key\ntls-auth-clients no\n"
PLAIN = {"port": "6379", "tls-port": "0", "tls-cert-file": "", "tls-key-file": "", "tls-auth-clients": "yes"}


def test_tls_comes_after_what_it_needs_and_on_the_same_port(server: FakeRedis, run: Run, tmp_path: Path) -> None:
    server.settings |= PLAIN
    (tmp_path / "redis.conf").write_text(TLS)
    answer = run()
    assert [words[2] for words in changes(server)] == [
        *("tls-cert-file", "tls-key-file", "tls-auth-clients", "port", "tls-port")
    ]
    assert (answer["restart"], server.settings["port"], server.settings["tls-port"]) == ([], "0", "6379")
    (tmp_path / "redis.conf").write_text("tls-port 0\nport 6379\n")
    assert run()["restart"] == []
    assert (server.settings["port"], server.settings["tls-port"]) == ("6379", "0")


@pytest.mark.parametrize("broken", ["Unable to update TLS configuration.", "Unable to listen on this port."])
def test_a_port_that_does_not_open_leaves_the_other_one_open(
    server: FakeRedis, run: Run, tmp_path: Path, broken: str
) -> None:
    server.settings |= PLAIN
    server.refused["tls-port"] = broken
    (tmp_path / "redis.conf").write_text(TLS)
    answer = run()
    assert server.settings["port"] == "6379"
    if "TLS" in broken:
        assert answer["restart"] == ["port", "tls-port"]
        assert sorted(answer["settings"]) == ["tls-auth-clients", "tls-cert-file", "tls-key-file"]
    else:
        assert "tls-port" in answer["msg"]
        assert broken in answer["msg"]


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


def test_who_is_logged_in_as_a_user_that_ends_gets_none_of_its_new_rights(
    server: FakeRedis, run: Run, tmp_path: Path
) -> None:
    server.users["default"] = "on #old ~linkrift:* -@all +get"
    (tmp_path / "users.acl").write_text("user default off ~* &* +@all\nuser linkrift_admin on #aa ~* -@all +@all\n")
    assert run()["users"] == ["default"]
    assert server.rights_of_killed == ["off #old ~linkrift:* -@all +get"]
    assert "+@all" in server.users["default"]
    assert not run()["changed"]
    assert len(server.rights_of_killed) == 1


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


@pytest.mark.parametrize("missing", ["redis.conf", "users.acl"])
def test_a_dry_run_before_the_files_are_written_foresees_a_restart(
    server: FakeRedis, run: Run, tmp_path: Path, missing: str
) -> None:
    (tmp_path / missing).unlink()
    answer = run(check=True)
    assert missing in answer["restart"][0]
    assert changes(server) == []


def test_the_role_announces_a_restart_in_a_dry_run() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/configure.yml").read_text(encoding="utf-8"))
    by_name = {task["name"]: task for task in tasks}
    written = by_name["Write settings"].get("register")
    says = by_name["Say that a restart may come"]
    assert written
    assert says["when"] == f"ansible_check_mode and {written} is changed"
    assert says["changed_when"] is True


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
